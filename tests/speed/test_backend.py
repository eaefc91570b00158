"""What computes a net is a rule over machine and net: for each kind of processor, with and without each library."""

import copy
import warnings
from types import ModuleType

import numpy as np
import pytest
import torch

from small_nets import difference, make_net, photos
from verydeep import accelerate
from verydeep.device import fp32_choice
from verydeep.errors import UsageError, UserError
from verydeep.nets.architecture import Geometry, find_architecture
from verydeep.speed import backend, torch_backend, train_net
from verydeep.speed.backend import BackendKind, choose_backend, fastest_precision
from verydeep.speed.kernel_backend import KernelBackend
from verydeep.speed.library import Kernel, NoKernelError, has_kernel
from verydeep.speed.torch_backend import TorchBackend
from verydeep.speed.train_net import choose_training

AMX = {"amx_bf16", "amx_int8", "avx512_bf16", "avx512_vnni"}
AVX512 = {"avx512_bf16", "avx512_vnni"}
OLD: set[str] = set()


@pytest.fixture
def machine(monkeypatch):
    """Makes a machine of a kind: what its processor has, and what is built and installed."""

    def make(capabilities: set[str], *, kernel: bool = True, libraries: bool = True) -> None:
        def find_kernel() -> None:
            raise NoKernelError("it was not built")

        own = BackendKind("verydeep's kernel", lambda net: None)
        monkeypatch.setattr("verydeep.device.cpu_features", lambda: frozenset(capabilities))
        for module in (backend, train_net):
            monkeypatch.setattr(module, "has_kernel", lambda: kernel)
        monkeypatch.setattr(backend, "fp32_kind", lambda: own) if kernel else None
        monkeypatch.setattr(backend, "find_kernel", find_kernel)
        monkeypatch.setenv("VERYDEEP_KERNEL", "none")
        for name in ("openvino_version", "nncf_version"):
            monkeypatch.setattr(backend, name, lambda: "1.0" if libraries else None)

    return make


@pytest.mark.parametrize(
    ("capabilities", "kernel", "libraries", "precision", "start"),
    [
        (AMX, True, True, "fp32", "verydeep's kernel"),
        (AMX, False, True, "fp32", "torch, channels last, fp32"),
        (AMX, True, True, "bf16", "OpenVINO 1.0 bf16"),
        (AMX, True, False, "bf16", "PyTorch "),
        (AVX512, True, True, "bf16", "OpenVINO 1.0 bf16"),
        (AMX, True, True, "auto", "OpenVINO 1.0 bf16"),
        (AMX, True, False, "auto", "PyTorch "),
        (AVX512, True, True, "auto", "verydeep's kernel"),
        (AVX512, False, True, "auto", "OpenVINO 1.0 bf16"),
        (OLD, True, True, "auto", "verydeep's kernel"),
        (OLD, False, True, "auto", "torch, channels last, fp32"),
    ],
)
def test_what_computes_scores(machine, capabilities, kernel, libraries, precision, start):
    machine(capabilities, kernel=kernel, libraries=libraries)
    assert choose_backend(precision).name.startswith(start)


def test_bf16_that_is_not_fast_here_says_so_and_is_bf16_all_the_same(machine):
    machine(OLD)
    with pytest.warns(UserWarning, match="this processor has no bf16 products: fp32 is faster"):
        assert choose_backend("bf16").name.startswith("PyTorch ")


@pytest.mark.parametrize(
    ("capabilities", "libraries", "precision"),
    [(AMX, True, "int8"), (AVX512, True, "int8"), (OLD, True, "fp32"), (AMX, False, "bf16"), (AVX512, False, "fp32")],
)
def test_images_to_calibrate_on_let_auto_be_int8_where_that_is_fast(machine, capabilities, libraries, precision):
    machine(capabilities, libraries=libraries)
    assert fastest_precision(can_calibrate=True) == precision
    chosen = choose_backend("auto", [np.zeros((1, 32, 32, 3), np.float32)])
    assert chosen.precision == precision


def geometry(crop: int) -> Geometry:
    return Geometry(architecture=find_architecture("A")[0], batch_norm=False, num_classes=10, crop=crop)


@pytest.mark.parametrize(
    ("capabilities", "kernel", "crop", "asked", "precision", "by_kernel"),
    [
        (AMX, True, 224, None, "bf16", False),
        (AMX, True, 224, "fp32", "fp32", True),
        (AMX, False, 224, "fp32", "fp32", False),
        (AVX512, True, 224, None, "fp32", True),
        (AVX512, True, 64, None, "bf16", False),
        (AVX512, False, 224, None, "bf16", False),
        (OLD, True, 32, None, "fp32", True),
        (OLD, False, 32, None, "fp32", False),
        (OLD, True, 32, "bf16", "bf16", False),
    ],
)
def test_how_a_net_is_trained(machine, capabilities, kernel, crop, asked, precision, by_kernel):
    machine(capabilities, kernel=kernel)
    choice = choose_training(geometry(crop), device="cpu", precision=asked, threads=3, micro_batch=5)
    assert (choice.precision, choice.kernel) == (precision, by_kernel)
    assert (choice.channels_last, choice.threads, choice.micro_batch) == (True, 3, 5)


def test_a_precision_or_a_device_that_is_not():
    with pytest.raises(UsageError, match="fp32, bf16"):
        choose_training(geometry(32), device="cpu", precision="fp16")
    with pytest.raises(UsageError, match="cpu, cuda, mps"):
        choose_training(geometry(32), device="tpu")


def test_only_what_was_chosen_is_made(machine, monkeypatch):
    made = []

    def counted(module: ModuleType, name: str) -> None:
        kind = getattr(module, name)
        monkeypatch.setattr(module, name, lambda *how: made.append(name) or kind(*how))

    counted(backend, "KernelBackend")
    counted(backend, "OpenVinoBackend")
    counted(torch_backend, "TorchBf16Backend")
    machine(AMX, libraries=False)
    accelerate(make_net(), precision="auto")
    assert made == ["TorchBf16Backend"]


def kinds() -> list[BackendKind]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # no compiler
        return backend.every_kind()


@pytest.mark.parametrize("kind", kinds(), ids=lambda kind: kind.name)
def test_every_backend_takes_arrays_of_any_strides_and_leaves_the_net_as_it_is(kind):
    net, images = make_net("D", batch_norm=True, crop=64).train(), photos(70, 100).permute(0, 2, 3, 1).numpy()
    made = kind.make(net)
    assert isinstance(made, backend.Backend)
    assert (made.crop, made.num_classes) == (64, 7)
    assert {"pool5", "fc8"} <= set(made.layers)
    assert net.training
    with torch.inference_mode():
        expected = copy.deepcopy(net).eval().score_map(torch.from_numpy(images).permute(0, 3, 1, 2))
    maps = made.maps(images)
    assert difference(torch.from_numpy(maps), expected) < (1e-5 if kind.precision == "fp32" else 2e-2)
    np.testing.assert_allclose(
        made.head(made.maps(images, "pool5")), maps, atol=1e-5 if kind.precision == "fp32" else 1e-2
    )
    locked = images.copy()
    locked.flags.writeable = False
    for same in (images.astype(np.float32), images.copy(), images[:, :, ::-1].copy()[:, :, ::-1], locked):
        np.testing.assert_array_equal(made.maps(same), maps)
    net.load_state_dict(make_net("D", batch_norm=True, crop=64, seed=1).state_dict())
    with pytest.raises(UserError, match="accelerate it again"):
        made.maps(images)


@pytest.mark.parametrize("kind", kinds(), ids=lambda kind: kind.name)
def test_convolutions_alone_have_one_layer(kind):
    net, images = make_net(features_only=True), photos(64, 40).permute(0, 2, 3, 1).numpy()
    made = kind.make(net)
    assert made.layers[-1] == "pool5"
    assert made.maps(images, "pool5").shape == (2, 64, 2, 1)


@pytest.mark.parametrize("kind", kinds(), ids=lambda kind: kind.name)
@pytest.mark.parametrize("name", ["A-LRN", "C", "D", "B-5x5", "vgg16_bn"])
def test_every_layer_that_a_backend_has_is_the_nets_own(kind, name):
    net, images = make_net(name), photos(41, 50)
    made = kind.make(net)
    arrays = images.permute(0, 2, 3, 1).numpy()
    with torch.inference_mode():
        expected = net.activations(images, made.layers)
    for layer in made.layers:
        bound = 1e-5 if kind.precision == "fp32" else 3e-2
        assert difference(torch.from_numpy(made.maps(arrays, layer)), expected[layer]) < bound, layer


needs_kernel = pytest.mark.skipif(not has_kernel(), reason="no kernel was built")
CPU = fp32_choice("cpu")


@needs_kernel
def test_the_rule_by_the_layer():
    net = make_net("vgg16_bn")
    for layer in ("relu1_1", "pool4", "relu6", "fc7", "fc8", None):
        assert isinstance(backend.make_backend(net, CPU, layer=layer), KernelBackend)
    for layer in ("conv3_1", "bn1_1", "drop6"):
        made = backend.make_backend(net, CPU, layer=layer)
        assert isinstance(made, TorchBackend)
        assert made.maps(np.zeros((1, 32, 32, 3), np.uint8), layer).shape[1] > 0
    with pytest.raises(UsageError, match=r"no layer 'relu3-3' in D .* did you mean relu3_3"):
        backend.make_backend(net, CPU, layer="relu3-3")


@needs_kernel
def test_nothing_is_laid_out_or_computed_after_the_layer(monkeypatch):
    net, packed = make_net("D"), []
    pack = Kernel.pack
    monkeypatch.setattr(Kernel, "pack", lambda *given, **how: packed.append(1) or pack(*given, **how))
    made = backend.make_backend(net, CPU, layer="relu2_2")
    assert len(packed) == 4
    assert made.layers == ("relu1_1", "relu1_2", "pool1", "relu2_1", "relu2_2")
    assert made.maps(np.zeros((1, 2, 2, 3), np.uint8), "relu2_2").shape == (1, 16, 1, 1)
    with pytest.raises(UserError, match=r"1x2 pixels: nothing is left of them at relu2_2, .* at least 2"):
        made.maps(np.zeros((1, 1, 2, 3), np.uint8), "relu2_2")


@needs_kernel
def test_several_layers_in_one_pass(monkeypatch):
    net, images = make_net("D"), photos(37, 33)
    made, names = accelerate(net), ["pool5", "relu1_2", "relu6", "pool1", "fc7"]
    with torch.inference_mode():
        expected = net.activations(images, [*names, "conv2_1"])
    given = made.activations(images, names)
    assert list(given) == names
    for name in names:
        assert difference(given[name], expected[name]) < 1e-5
    before = made.activations(images, ["conv2_1"])["conv2_1"]
    assert torch.equal(before, expected["conv2_1"])
    with pytest.raises(UsageError, match="did you mean relu1_2"):
        made.activations(images, ["features.3"])
