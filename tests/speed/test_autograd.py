"""The operator of training against float64 autograd. benchmarks/kernel_sanitised.sh runs this file under sanitizers."""

from collections.abc import Iterator

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from verydeep.errors import UsageError
from verydeep.speed.autograd import _backward, _convolve, convolve_fast, convolve_frozen
from verydeep.speed.library import KERNELS, Kernel, NoKernelError

RUNNABLE = [name for name, needs in KERNELS.items() if all(map(torch.cpu.get_capabilities().get, needs))]
CHANNELS = (5, 8, 16, 24, 33, 40, 64, 80, 128, 160, 256)
AFTER = ((False, False), (True, False), (True, True))
TOLERANCE = 6e-6
"""Of the norm of a difference, as a share of the norm: the sums of 36 products of a tile lose a few of 24 bits."""


@pytest.fixture(params=RUNNABLE)
def kernel(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Each kernel in turn, as the environment names it."""
    try:
        Kernel(request.param)
    except NoKernelError as error:
        pytest.skip(str(error))
    monkeypatch.setenv("VERYDEEP_KERNEL", request.param)
    return str(request.param)


@pytest.fixture
def threads() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def random_case(seed: int, most: float = 1e7) -> tuple[Tensor, Tensor, Tensor]:
    """A map n,c,y,x, weights and biases of random shapes."""
    generator = np.random.default_rng(seed)
    n, (y, x) = int(generator.integers(1, 10)), (int(side) for side in generator.integers(1, 71, 2))
    c, k = (int(count) for count in generator.choice(CHANNELS, 2))
    while n * y * x * c * k > most:
        n, c, k = max(1, n // 2), max(5, c // 2), max(5, k // 2)
    return case(seed, n, c, k, y, x)


def case(seed: int, n: int, c: int, k: int, y: int, x: int) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    weight = torch.randn(k, c, 3, 3, generator=generator) / (3 * c**0.5)
    return torch.randn(n, c, y, x, generator=generator), weight, torch.randn(k, generator=generator)


def plainly(map_: Tensor, weight: Tensor, bias: Tensor, *, rectify: bool, pool: bool) -> Tensor:
    result = F.conv2d(map_, weight, bias, padding=1)
    result = result.relu() if rectify else result
    return F.max_pool2d(result, 2) if pool else result


def result_and_gradients(convolve, tensors, gradient, **after) -> list[Tensor]:
    leaves = [tensor.detach().clone(memory_format=torch.preserve_format).requires_grad_() for tensor in tensors]
    result = convolve(*leaves, **after)
    result.backward(gradient.to(result.dtype))
    return [result.detach(), *(leaf.grad for leaf in leaves)]


def gradient_for(tensors: tuple[Tensor, ...], pool: bool) -> Tensor:
    (n, _, y, x), k = tensors[0].shape, len(tensors[1])
    step = 2 if pool else 1
    return torch.randn(n, k, y // step, x // step, generator=torch.Generator().manual_seed(1))


def assert_like_float64(tensors: tuple[Tensor, Tensor, Tensor], rectify: bool, pool: bool) -> None:
    gradient = gradient_for(tensors, pool)
    ours = result_and_gradients(convolve_fast, tensors, gradient, rectify=rectify, pool=pool)
    reference = result_and_gradients(
        plainly, [tensor.double() for tensor in tensors], gradient, rectify=rectify, pool=pool
    )
    # where rounding decides on which side of a ReLU a sum lies, or which of four is the largest, one gradient goes
    # another way: as far as one place of all goes, which is the most that the tolerance leaves room for
    for what, value, exact in zip(("result", "map", "weight", "bias"), ours, reference, strict=True):
        assert value.shape == exact.shape
        assert (value - exact).norm() <= TOLERANCE * exact.norm(), what


@pytest.mark.parametrize("seed", range(10))
@pytest.mark.parametrize(("rectify", "pool"), AFTER)
def test_gradients_are_those_of_float64_whatever_the_shape(kernel, seed, rectify, pool):
    tensors = random_case(seed)
    if pool and min(tensors[0].shape[2:]) < 2:
        tensors = case(seed, 2, 16, 24, 2, 3)
    assert_like_float64(tensors, rectify, pool)


@pytest.mark.parametrize(
    "sizes", [(1, 512, 512, 7, 7), (2, 64, 64, 1, 1), (1, 16, 16, 70, 2), (9, 256, 512, 4, 4), (1, 64, 128, 45, 46)]
)
def test_many_channels_and_narrow_maps(kernel, sizes):
    for rectify, pool in AFTER[:2] if min(sizes[3:]) < 2 else AFTER:
        assert_like_float64(case(0, *sizes), rectify, pool)


def test_more_tiles_than_are_transformed_at_once(kernel):
    assert_like_float64(case(0, 9, 64, 64, 65, 70), True, False)


@pytest.mark.parametrize(("rectify", "pool"), AFTER)
def test_any_number_of_threads_gives_the_same_bits(kernel, threads, rectify, pool):
    for tensors in (case(0, 3, 64, 48, 45, 38), case(1, 2, 256, 40, 9, 9)):
        gradient = gradient_for(tensors, pool)
        torch.set_num_threads(1)
        alone = result_and_gradients(convolve_fast, tensors, gradient, rectify=rectify, pool=pool)
        for count in (2, 3):
            torch.set_num_threads(count)
            again = result_and_gradients(convolve_fast, tensors, gradient, rectify=rectify, pool=pool)
            assert all(map(torch.equal, alone, again))


def test_the_layout_of_what_comes_changes_no_bit(kernel):
    tensors = case(0, 2, 24, 16, 11, 10)
    gradient = gradient_for(tensors, False)
    first = result_and_gradients(convolve_fast, tensors, gradient)
    last = result_and_gradients(
        convolve_fast,
        [*(tensor.to(memory_format=torch.channels_last) for tensor in tensors[:2]), tensors[2]],
        gradient.to(memory_format=torch.channels_last),
    )
    sliced = result_and_gradients(convolve_fast, tensors, torch.cat([gradient, gradient], 1)[:, :16])
    for values in zip(first, last, sliced, strict=True):
        assert torch.equal(values[0], values[1])
        assert torch.equal(values[0], values[2])
    assert last[0].is_contiguous(memory_format=torch.channels_last)
    assert last[2].is_contiguous(memory_format=torch.channels_last)


def test_only_the_gradients_asked_for(kernel):
    map_, weight, bias = case(0, 1, 16, 16, 8, 8)
    for wanted in ((True, False, False), (False, True, True), (False, False, True)):
        leaves = [
            tensor.clone().requires_grad_(want) for tensor, want in zip((map_, weight, bias), wanted, strict=True)
        ]
        convolve_fast(*leaves, rectify=True, pool=True).sum().backward()
        assert [leaf.grad is not None for leaf in leaves] == list(wanted)


def test_no_images(kernel):
    map_, weight, bias = (tensor.requires_grad_() for tensor in case(0, 0, 16, 24, 8, 8))
    result = convolve_fast(map_, weight, bias, rectify=True, pool=True)
    assert result.shape == (0, 24, 4, 4)
    result.sum().backward()
    assert weight.grad.count_nonzero() == bias.grad.count_nonzero() == 0


def test_a_tie_goes_to_the_first_and_zero_to_nobody(kernel):
    map_, weight = torch.zeros(1, 16, 5, 4), torch.zeros(16, 16, 3, 3)
    result, where = _convolve(map_, weight, torch.tensor([2.0, 0.0, -1.0, 1.0] * 4), True, True)
    assert result.amax((0, 2, 3)).tolist() == [2, 0, 0, 1] * 4
    assert where.amin((0, 2, 3)).tolist() == where.amax((0, 2, 3)).tolist() == [0, 4, 4, 0] * 4


def test_nan_is_not_rectified_away(kernel):
    result = convolve_fast(torch.full((1, 16, 4, 4), float("nan")), *case(0, 1, 16, 16, 4, 4)[1:], rectify=True)
    assert result.isnan().all()


@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")  # opcheck's own
def test_pytorch_finds_nothing_wrong_with_the_operators(kernel):
    tensors = case(0, 2, 16, 24, 6, 7)
    for rectify, pool in AFTER:
        arguments = [tensor.clone().requires_grad_() for tensor in tensors]
        torch.library.opcheck(_convolve, (*arguments, rectify, pool), atol=1e-5, rtol=1e-4)
    map_, weight, _ = tensors
    for wanted in ((True, True), (True, False), (False, True)):
        torch.library.opcheck(_backward, (gradient_for(tensors, False), map_, weight, None, None, *wanted))


def of_zeros(*shape: int, **kinds) -> Tensor:
    return torch.zeros(shape, **kinds)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"map_": of_zeros(1, 16, 8, 8, dtype=torch.float64)},
            "map in float64 on cpu: the kernel takes float32 on cpu",
        ),
        ({"map_": of_zeros(1, 16, 8, 8, dtype=torch.bfloat16)}, "map in bfloat16 on cpu: the kernel takes float32"),
        ({"map_": of_zeros(16, 8, 8)}, r"a map of shape \(16, 8, 8\): give n,c,y,x"),
        ({"weight": of_zeros(16, 16, 3, 3, dtype=torch.float64)}, "weight in float64 on cpu"),
        (
            {"weight": of_zeros(16, 16, 5, 5)},
            r"weight of shape \(16, 16, 5, 5\) for a map of 16 channels: give k,16,3,3",
        ),
        ({"weight": of_zeros(16, 64, 3, 3)}, r"weight of shape \(16, 64, 3, 3\) for a map of 16 channels"),
        ({"weight": of_zeros(0, 16, 3, 3), "bias": of_zeros(0)}, "0 channels: the kernel takes 1 to 8,192"),
        ({"weight": of_zeros(8200, 16, 3, 3), "bias": of_zeros(8200)}, "8200 channels: the kernel takes 1 to 8,192"),
        ({"map_": of_zeros(1, 9000, 1, 1), "weight": of_zeros(16, 9000, 3, 3)}, "9000 channels: the kernel takes"),
        ({"bias": of_zeros(3)}, r"bias of shape \(3,\): give 16"),
        ({"bias": of_zeros(16, dtype=torch.float64)}, "bias in float64 on cpu"),
        ({"pool": True}, "pool=True: .* give rectify=True too"),
    ],
)
def test_what_the_kernel_cannot_take_is_refused(kernel, change, message):
    map_, weight, bias = case(0, 1, 16, 16, 8, 8)
    given = {"map_": map_, "weight": weight, "bias": bias, "rectify": False, "pool": False} | change
    with pytest.raises(UsageError, match=message):
        torch.ops.verydeep.convolve(*given.values())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"gradient": of_zeros(1, 16, 8, 8)}, r"gradient of shape \(1, 16, 8, 8\): give 1,24,8,8"),
        ({"gradient": of_zeros(1, 24, 8, 8, dtype=torch.float64)}, "gradient in float64 on cpu"),
        ({"map_": of_zeros(1, 32, 8, 8)}, "weight of shape .* for a map of 32 channels"),
        ({"output": of_zeros(1, 24, 8, 7)}, r"output of shape \(1, 24, 8, 7\): give 1,24,8,8"),
        ({"where": of_zeros(1, 24, 4, 4)}, r"gradient of shape \(1, 24, 8, 8\): give 1,24,4,4"),
        ({"where": of_zeros(1, 24, 4, 4), "gradient": of_zeros(1, 24, 4, 4)}, "where in float32 .* takes uint8"),
    ],
)
def test_gradients_that_do_not_fit_are_refused(kernel, change, message):
    map_, weight, _ = case(0, 1, 16, 24, 8, 8)
    given = {"gradient": of_zeros(1, 24, 8, 8), "map_": map_, "weight": weight, "output": None, "where": None}
    with pytest.raises(UsageError, match=message):
        torch.ops.verydeep.convolve_backward(*(given | change).values(), True, True)


def test_as_many_channels_as_the_widest_net_has(kernel):
    assert_like_float64(case(0, 1, 8192, 16, 3, 2), True, True)
    assert_like_float64(case(0, 1, 16, 8192, 3, 2), True, True)


def test_there_is_no_second_derivative(kernel):
    map_, weight, bias = (tensor.requires_grad_() for tensor in case(0, 1, 16, 16, 4, 4))
    (gradient,) = torch.autograd.grad(convolve_fast(map_, weight, bias).square().sum(), weight, create_graph=True)
    with pytest.raises(RuntimeError, match="autograd"):
        gradient.sum().backward()


def test_without_a_kernel_it_says_so(monkeypatch):
    monkeypatch.setenv("VERYDEEP_KERNEL", "none")
    with pytest.raises(NoKernelError):
        convolve_fast(*case(0, 1, 16, 16, 4, 4))


@pytest.mark.parametrize("rectify", [False, True])
def test_frozen_convolutions_give_the_map_its_gradient_and_the_weights_none(kernel, rectify):
    for seed in range(3):
        map_, weight, bias = random_case(seed)
        result = convolve_frozen(map_.requires_grad_(), weight.requires_grad_(), bias, rectify=rectify)
        assert torch.equal(result, plainly(map_, weight, bias, rectify=rectify, pool=False))  # as PyTorch has it
        gradient = torch.randn(result.shape, generator=torch.Generator().manual_seed(seed))
        result.backward(gradient)
        exact = map_.detach().double().requires_grad_()
        expected = F.conv2d(exact, weight.detach().double(), bias.double(), padding=1)
        (expected * ((result > 0) if rectify else 1)).backward(gradient.double())
        assert weight.grad is None
        assert (map_.grad - exact.grad).norm() <= TOLERANCE * exact.grad.norm()
