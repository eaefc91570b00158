"""The kernels against float64, one layer at a time. benchmarks/kernel_sanitised.sh runs this file under sanitizers."""

import os
import shlex
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from numpy import ndarray
from torch import Tensor

from verydeep.errors import UsageError
from verydeep.machine import cpu_features
from verydeep.nets.architecture import BLOCK_CHANNELS, scaled_channels
from verydeep.paper import constants
from verydeep.speed import library
from verydeep.speed.library import KERNELS, Kernel, NoKernelError, Packed, find_kernel
from verydeep.speed.memory import Buffer

RUNNABLE = [name for name, needs in KERNELS.items() if cpu_features().issuperset(needs)]
WIDTHS = (0.125, 0.25, 0.3, 0.5, 1)
CHANNELS = sorted({scaled_channels(c, width, 8) for c in BLOCK_CHANNELS for width in WIDTHS} | {5, 33})


def compiles(tmp_path) -> bool:
    (tmp_path / "empty.cpp").write_text("int main() { return 0; }\n")
    command = [
        *shlex.split(os.environ.get("CXX", "c++")),
        "-fopenmp",
        str(tmp_path / "empty.cpp"),
        "-o",
        str(tmp_path / "empty"),
    ]
    try:
        return subprocess.run(command, capture_output=True).returncode == 0
    except OSError:
        return False


def is_built(name: str) -> bool:
    try:
        Kernel(name)
    except NoKernelError:
        return False
    return True


class OnTensors:
    """A kernel that takes and gives tensors where it has arrays: the references are PyTorch's."""

    def __init__(self, kernel: Kernel) -> None:
        self.kernel = kernel

    def __getattr__(self, name):
        found = getattr(self.kernel, name)

        def call(*given, **options):
            result = found(*(each.numpy() if isinstance(each, Tensor) else each for each in given), **options)
            return torch.from_numpy(result) if isinstance(result, ndarray) else result

        return call if callable(found) else found


@pytest.fixture(params=RUNNABLE)
def kernel(request: pytest.FixtureRequest) -> OnTensors:
    try:
        return OnTensors(Kernel(request.param))
    except NoKernelError as error:
        pytest.skip(str(error))


@contextmanager
def threads(count: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def pack(kernel: OnTensors, weight: Tensor, bias: Tensor, *, padded: bool = True) -> Packed:
    return kernel.pack(weight, bias.double(), torch.ones(len(bias), dtype=torch.float64), padded=padded)


def laid_out(kernel: OnTensors, map_: Tensor) -> Tensor:
    """The map n,c,y,x as the kernels have it: n,y,x,c, padded with zeros."""
    extra = kernel.channels(map_.shape[1]) - map_.shape[1]
    return F.pad(map_, (0, 0, 0, 0, 0, extra)).permute(0, 2, 3, 1).contiguous()


def expected(map_: Tensor, weight: Tensor, bias: Tensor, pool: bool) -> Tensor:
    result = F.conv2d(map_.double(), weight.double(), bias.double(), padding=weight.shape[2] // 2).relu()
    return F.max_pool2d(result, 2) if pool else result


def assert_close(result: Tensor, reference: Tensor, tolerance: float = 4e-6) -> None:
    """The kernel's n,y,x,c against n,c,y,x; what pads the channels is zero."""
    channels = reference.shape[1]
    assert result[..., channels:].count_nonzero() == 0
    difference = result[..., :channels].permute(0, 3, 1, 2).double() - reference
    assert difference.norm() <= tolerance * reference.norm()
    assert difference.abs().max() <= 20 * tolerance * reference.abs().max()


def random_case(seed: int, most_side: int) -> tuple[Tensor, int, bool]:
    """A map of a random shape, a number of output channels, and whether to pool."""
    generator = np.random.default_rng(seed)
    pool = bool(generator.random() < 0.5)
    n = c = k = y = x = 10**3
    while n * y * x * c * k > 4e7:  # a second for float64
        n = int(generator.integers(1, 10))
        y, x = (max(1 + pool, int((most_side + 1) ** share)) for share in generator.random(2))  # as many small as large
        c, k = (int(count) for count in generator.choice(CHANNELS, 2))
    return torch.from_numpy(generator.standard_normal((n, c, y, x), dtype=np.float32)), k, pool


def weights_for(channels: int, k: int, side: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(channels * 1000 + k)
    weight = torch.randn(k, channels, side, side, generator=generator) / (side * channels**0.5)
    return weight, torch.randn(k, generator=generator)


def test_kernels_were_built_where_a_compiler_is(tmp_path):
    if not compiles(tmp_path):
        pytest.skip("no C++ compiler")
    for name in RUNNABLE:
        Kernel(name)


@pytest.mark.parametrize("side", [3, 1, 5])
@pytest.mark.parametrize("seed", range(24))
def test_convolutions_are_those_of_float64_whatever_the_shape(kernel, seed, side):
    map_, k, pool = random_case(seed, 70 if side == 3 else 24)
    weight, bias = weights_for(map_.shape[1], k, side)
    result = kernel.convolve(
        laid_out(kernel, map_), pack(kernel, weight, bias), pool=pool, result=Buffer(), work=Buffer()
    )
    assert_close(result, expected(map_, weight, bias, pool))


@pytest.mark.parametrize("shape", [(1, 512, 7, 7), (2, 256, 30, 29), (1, 512, 14, 15)])
def test_many_channels(kernel, shape):
    map_ = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    weight, bias = weights_for(shape[1], 512, 3)
    result = kernel.convolve(
        laid_out(kernel, map_), pack(kernel, weight, bias), pool=True, result=Buffer(), work=Buffer()
    )
    assert_close(result, expected(map_, weight, bias, True))


@pytest.mark.parametrize("sizes", [(1, 1), (1, 70), (3, 2), (33, 47)])
@pytest.mark.parametrize("side", [3, 5])
@pytest.mark.parametrize("k", [8, 64])
def test_first_layer_takes_images_of_every_layout_and_pads_after_the_mean(kernel, sizes, side, k):
    generator = torch.Generator().manual_seed(side)
    images = torch.randint(0, 256, (2, 3, *sizes), dtype=torch.uint8, generator=generator)
    weight, bias = weights_for(3, k, side)
    mean, divisor = torch.tensor([120.0, 110.0, 100.0]), torch.tensor([60.0, 61.0, 62.0])
    reference = expected((images - mean[:, None, None]) / divisor[:, None, None], weight, bias, False)
    packed = pack(kernel, weight, bias, padded=False)
    wide = torch.zeros(2, 5, sizes[0], sizes[1] + 2, dtype=torch.uint8)
    wide[:, 1:4, :, 1:-1] = images
    for given in (images, images.float(), images.to(memory_format=torch.channels_last), wide[:, 1:4, :, 1:-1]):
        result = kernel.first(given, mean, divisor, packed, pool=False, result=Buffer(), work=Buffer())
        assert_close(result, reference)
    if min(sizes) > 1:
        result = kernel.first(images, mean, divisor, packed, pool=True, result=Buffer(), work=Buffer())
        assert_close(result, F.max_pool2d(reference, 2))


def test_factors_multiply_the_weights_of_an_output_channel(kernel):
    map_ = torch.randn(1, 16, 9, 9, generator=torch.Generator().manual_seed(0))
    factor = torch.linspace(-2, 2, 24, dtype=torch.float64)
    for side in (1, 3):
        weight, bias = weights_for(16, 24, side)
        packed = kernel.pack(weight, bias.double(), factor)
        result = kernel.convolve(laid_out(kernel, map_), packed, pool=False, result=Buffer(), work=Buffer())
        assert_close(result, expected(map_, weight.double() * factor[:, None, None, None], bias, False))


@pytest.mark.parametrize("shape", [(1, 8, 2, 2), (3, 64, 9, 12), (2, 24, 33, 5)])
def test_local_response_normalisation_is_torch_s(kernel, shape):
    map_ = 30 * torch.randn(shape, generator=torch.Generator().manual_seed(0))
    alpha, k = constants.LRN_ALPHA, constants.LRN_K
    result = kernel.normalise_and_pool(laid_out(kernel, map_), alpha, k, Buffer())
    reference = F.local_response_norm(map_.double(), 5, alpha=5 * alpha, beta=constants.LRN_BETA, k=k)
    assert_close(result, F.max_pool2d(reference, 2), 1e-6)


@pytest.mark.parametrize("rows", [1, 2, 5, 6, 7, 13, 60, 128, 129, 300])
@pytest.mark.parametrize(("length", "k"), [(25, 1), (72, 7), (2500, 19), (5000, 64)])
def test_fully_connected_layers(kernel, rows, length, k):
    generator = torch.Generator().manual_seed(rows)
    left, weight = torch.randn(rows, length, generator=generator), torch.randn(k, length, generator=generator)
    bias = torch.randn(k, generator=generator)
    reference = left.double() @ weight.double().T + bias
    tolerance = 2e-7 * (left.abs() @ weight.abs().T)
    result = kernel.fully_connected(left, weight, bias, rectify=False, result=Buffer(), work=Buffer())
    assert ((result - reference).abs() <= tolerance).all()
    result = kernel.fully_connected(left, weight, bias, rectify=True, result=Buffer(), work=Buffer())
    assert ((result - reference.relu()).abs() <= tolerance).all()


def results_of_all_layers(kernel: OnTensors) -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    map_ = torch.randn(3, 64, 45, 38, generator=generator)
    small = torch.randn(1, 256, 9, 9, generator=generator)
    calls: list[Callable[[], Tensor]] = []
    for given, side in ((map_, 3), (map_, 1), (map_, 5), (small, 3)):
        packed = pack(kernel, *weights_for(given.shape[1], 72, side))
        calls.append(
            lambda given=given, packed=packed: kernel.convolve(
                laid_out(kernel, given), packed, pool=True, result=Buffer(), work=Buffer()
            )
        )
    calls.append(lambda: kernel.normalise_and_pool(laid_out(kernel, map_), 1e-4, 2, Buffer()))
    weight = torch.randn(100, 5000, generator=generator)
    rows = torch.randn(9, 5000, generator=generator)
    calls.append(
        lambda: kernel.fully_connected(rows, weight, torch.zeros(100), rectify=False, result=Buffer(), work=Buffer())
    )
    return [call() for call in calls]


def test_any_number_of_threads_gives_the_same_bits(kernel):
    with threads(1):
        alone = results_of_all_layers(kernel)
    for count in (2, 3):
        with threads(count):
            for result, reference in zip(results_of_all_layers(kernel), alone, strict=True):
                assert torch.equal(result, reference)


def test_no_images_give_no_maps(kernel):
    weight, bias = weights_for(16, 16, 3)
    result = kernel.convolve(
        torch.zeros(0, 9, 9, 16), pack(kernel, weight, bias), pool=True, result=Buffer(), work=Buffer()
    )
    assert result.shape == (0, 4, 4, 16)


def test_nan_is_not_rectified_away(kernel):
    map_ = torch.full((1, 16, 4, 4), float("nan"))
    for side in (1, 3):
        packed = pack(kernel, *weights_for(16, 16, side))
        result = kernel.convolve(laid_out(kernel, map_), packed, pool=False, result=Buffer(), work=Buffer())
        assert result.isnan().all()


def test_the_environment_names_a_kernel(monkeypatch, kernel):
    monkeypatch.setenv("VERYDEEP_KERNEL", kernel.name)
    assert find_kernel().name == kernel.name


def test_the_fastest_kernel_is_found(monkeypatch, kernel):
    monkeypatch.delenv("VERYDEEP_KERNEL", raising=False)
    assert find_kernel().name == RUNNABLE[0]


def test_a_kernel_that_cannot_be_is_a_mistake(monkeypatch):
    monkeypatch.setenv("VERYDEEP_KERNEL", "fast")
    with pytest.raises(UsageError, match="choose one of avx512, avx2, plain or none"):
        find_kernel()
    monkeypatch.setenv("VERYDEEP_KERNEL", "avx512")
    monkeypatch.setattr(library, "cpu_features", lambda: frozenset({"avx2", "fma"}))
    with pytest.raises(UsageError, match="this processor can run avx2, plain"):
        find_kernel()


def test_a_kernel_that_is_asked_for_and_was_not_built_is_a_mistake(monkeypatch, tmp_path):
    monkeypatch.setattr(library, "_HERE", tmp_path)
    library._loaded.cache_clear()
    monkeypatch.setenv("VERYDEEP_KERNEL", "plain")
    with pytest.raises(UsageError, match=r"VERYDEEP_KERNEL=plain: the kernel plain was not built: install a C\+\+"):
        find_kernel()
    monkeypatch.delenv("VERYDEEP_KERNEL")
    with pytest.raises(NoKernelError, match="was not built"):
        find_kernel()


def test_a_kernel_of_another_source_is_not_used(monkeypatch, kernel):
    monkeypatch.setattr(library, "_fingerprint", lambda: "another")
    with pytest.raises(NoKernelError, match="built from another source: install verydeep again"):
        Kernel(kernel.name)


def test_an_older_kernel_without_some_functions_is_of_another_source(monkeypatch, kernel):
    class Source:
        restype = None

        def __call__(self):
            return b"older"

    class Older:
        def __init__(self, file):
            self.verydeep_source = Source()

    monkeypatch.setattr(library.ctypes, "CDLL", Older)
    with pytest.raises(NoKernelError, match="built from another source"):
        Kernel(kernel.name)


def test_a_file_that_is_no_library_is_not_used(monkeypatch, tmp_path):
    monkeypatch.setattr(library, "_HERE", tmp_path)
    with pytest.raises(NoKernelError, match="plain was not built: install a C"):
        Kernel("plain")
    (tmp_path / "_kernel_plain.so").write_text("no library")
    with pytest.raises(NoKernelError, match="plain cannot be loaded"):
        Kernel("plain")


@pytest.mark.parametrize("with_torch", [True, False])
def test_a_system_without_libgomp_takes_torch_s_or_says_what_to_install(monkeypatch, kernel, with_torch):
    load, asked = library.ctypes.CDLL, []

    def on_a_slim_system(file):
        asked.append(file)
        if len(asked) == 1:
            raise OSError("libgomp.so.1: cannot open shared object file: No such file or directory")
        return load(file)

    monkeypatch.setattr(library.ctypes, "CDLL", on_a_slim_system)
    if not with_torch:
        monkeypatch.setattr(library, "find_spec", lambda _: None)
        with pytest.raises(NoKernelError, match=r"install libgomp \(apt install libgomp1\)"):
            Kernel(kernel.name)
    elif (Path(torch.__file__).parent / "lib/libgomp.so.1").exists():
        Kernel(kernel.name)
        assert [Path(file).name for file in asked] == [
            f"_kernel_{kernel.name}.so",
            "libgomp.so.1",
            f"_kernel_{kernel.name}.so",
        ]


GUARDED = r"""
import os
import sys

import numpy as np
import torch
from torch import nn
from verydeep import VeryDeep, accelerate
from verydeep.speed.library import find_kernel
from verydeep.speed.memory import Buffer

kernel = None
def zeros(*shape, dtype=np.float32):
    return np.zeros(shape, dtype)
def pack(k, c, side=3, padded=True):
    return kernel.pack(zeros(k, c, side, side), zeros(k, dtype=np.float64), np.ones(k), padded=padded)
def convolve(map_, packed):
    return kernel.convolve(map_, packed, pool=False, result=Buffer(), work=Buffer())
def first(images, mean, packed):
    return kernel.first(images, mean, np.ones(3, np.float32), packed, pool=False, result=Buffer(), work=Buffer())
def fully_connected(rows, weight, bias):
    return kernel.fully_connected(rows, weight, bias, rectify=False, result=Buffer(), work=Buffer())
def replaced(name, channels):
    net = VeryDeep("A", num_classes=7, crop=32, width=0.125).eval()
    layer = net.get_submodule(name)
    smaller = nn.Conv2d(layer.in_channels - channels, layer.out_channels, layer.kernel_size, padding=layer.padding)
    setattr(net, name, smaller)
    return accelerate(net)(torch.zeros(1, 3, 32, 32, dtype=torch.uint8))
wrong = [
    lambda: kernel.pack(zeros(4, 4, 3, 3, dtype=np.float64), zeros(4, dtype=np.float64), np.ones(4)),
    lambda: kernel.pack(zeros(4, 4, 3, 3), zeros(4, dtype=np.float64), np.ones(2)),
    lambda: kernel.pack(zeros(4, 4, 3, 3), zeros(4, dtype=np.float64), np.ones(4, np.float32)),
    lambda: pack(4, 4, side=2),
    lambda: pack(8193, 1),
    lambda: convolve(zeros(1, 9, 9, 32), pack(16, 16)),
    lambda: convolve(zeros(1, 9, 9, 32), pack(16, 16, side=1)),
    lambda: convolve(zeros(1, 9, 9, 16, dtype=np.float64), pack(16, 16)),
    lambda: convolve(zeros(1, 16, 9, 9).transpose(0, 2, 3, 1), pack(16, 16)),
    lambda: first(zeros(1, 4, 9, 9), zeros(3), pack(16, 3, padded=False)),
    lambda: first(zeros(1, 3, 9, 9, dtype=np.float16), zeros(3), pack(16, 3, padded=False)),
    lambda: first(zeros(1, 3, 9, 9), zeros(2), pack(16, 3, padded=False)),
    lambda: first(zeros(1, 3, 9, 9), zeros(3), pack(16, 16)),
    lambda: kernel.normalise_and_pool(zeros(1, 4, 4, 16, dtype=np.float64), 1.0, 1.0, Buffer()),
    lambda: fully_connected(zeros(2, 64), zeros(10, 63), zeros(10)),
    lambda: fully_connected(zeros(2, 64), zeros(10, 64), zeros(9)),
    lambda: fully_connected(zeros(64, 2).T, zeros(10, 64), zeros(10)),
    *[lambda name=name: replaced(name, 16) for name in ("conv4_1", "fc6", "fc7", "fc8")],
    lambda: first(np.broadcast_to(zeros(1, 3, 9, 1), (1, 3, 9, 2**32 + 9)), zeros(3), pack(16, 3, padded=False)),
    lambda: convolve(np.broadcast_to(zeros(1, 9, 9, 16), (2**32 + 1, 9, 9, 16)), pack(16, 16)),
]
for name in sys.argv[1:]:
    os.environ["VERYDEEP_KERNEL"] = name
    kernel = find_kernel()
    print(kernel.name)
    for number, call in enumerate(wrong):
        try:
            call()
        except ValueError as error:
            print(error)
        else:
            raise SystemExit(f"number {number} was computed by {name}")
    print(convolve(zeros(1, 9, 9, 16), pack(16, 16)).shape, len(wrong), end="\f")
"""


def test_what_would_be_read_past_its_end_is_refused_without_asserts_too():
    """In a process of its own: ``-O`` leaves every assert out, and the tests' own checks of types are not there."""
    built = [name for name in RUNNABLE if is_built(name)]
    if not built:
        pytest.skip("no kernel was built")
    ran = subprocess.run([sys.executable, "-O", "-c", GUARDED, *built], capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
    answers = ran.stdout.split("\f")[:-1]
    assert [answer.partition("\n")[0] for answer in answers] == built
    for answer in answers:
        assert answer.count("the kernel takes") >= 12
        assert answer.count("the kernel takes sides below 2,147,483,648") == 2
        assert answer.endswith("(1, 9, 9, 16) 23")
