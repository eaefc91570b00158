"""Nets trained with the kernel and without: the same losses; what is recorded; what it leaves alone."""

import copy
import json

import pytest
import torch

from verydeep.device import Compute
from verydeep.nets.layers import Convolution
from verydeep.nets.net import VeryDeep
from verydeep.runs.fit import train
from verydeep.runs.options import ComputeOptions
from verydeep.runs.resume import resume
from verydeep.speed import autograd
from verydeep.speed.library import NoKernelError, find_kernel
from verydeep.speed.small_maps import convolve_small
from verydeep.speed.train_net import Stage, group_layers, place, release
from verydeep.training.loop import make_optimiser
from verydeep.training.recipe import find_recipe
from verydeep.training.state import Callback
from verydeep.training.update import update

LABELS = torch.arange(6) % 3


@pytest.fixture(autouse=True)
def _with_a_kernel() -> None:
    try:
        find_kernel()
    except NoKernelError as error:
        pytest.skip(str(error))


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[tuple[bool, bool]]:
    """What was asked of the kernel: with ReLU, with pooling."""
    seen: list[tuple[bool, bool]] = []

    def convolve(map_, weight, bias, *, rectify=False, pool=False):
        seen.append((rectify, pool))
        return autograd.convolve_fast(map_, weight, bias, rectify=rectify, pool=pool)

    monkeypatch.setattr("verydeep.speed.train_net.convolve_fast", convolve)
    return seen


def make_net(architecture: str = "A", crop: int = 32, **options) -> VeryDeep:
    generator = torch.Generator().manual_seed(0)
    return VeryDeep(architecture, num_classes=3, crop=crop, width=0.125, generator=generator, **options).train()


def images(crop: int = 32) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (6, 3, crop, crop), dtype=torch.uint8, generator=generator)


def choice(kernel: bool, **options) -> Compute:
    return Compute(device="cpu", precision="fp32", channels_last=True, threads=1, kernel=kernel, **options)


def losses(net: VeryDeep, how: Compute, updates: int = 20, rate: float = 0.005) -> list[float]:
    net = copy.deepcopy(net)
    net.set_dropout(0.0)
    place(net, how)
    optimiser = make_optimiser(net, find_recipe("small-images", learning_rate=rate))
    crop = net.geometry.crop
    return [update(net, optimiser, images(crop), LABELS, how)[0].item() for _ in range(updates)]


@pytest.mark.parametrize(
    ("options", "rate"), [({}, 0.02), ({"batch_norm": True}, 0.05), ({"crop": 64}, 0.001)], ids=["plain", "bn", "64"]
)
def test_a_net_learns_the_same_with_the_kernel_and_without(calls, options, rate):
    net = make_net(**options)
    alone, with_kernel = (losses(net, choice(kernel), rate=rate) for kernel in (False, True))
    assert len(calls) >= 20 * 5
    assert with_kernel[0] == pytest.approx(alone[0], rel=1e-5)
    assert with_kernel == pytest.approx(alone, rel=1e-3)
    assert with_kernel[-1] < 0.97 * with_kernel[0]


@pytest.mark.parametrize("architecture", ["A-LRN", "B-5x5", "C", "E"])
@pytest.mark.parametrize("features_only", [False, True])
def test_every_architecture_gives_the_same_maps(calls, architecture, features_only):
    net = make_net(architecture, features_only=features_only)
    with torch.no_grad():
        expected = net.features(images())
        place(net, choice(True))
        result = net.features(images())
    assert (result - expected).norm() <= 1e-5 * expected.norm()
    assert bool(calls) == (architecture != "B-5x5")
    release(net)
    assert type(net) is VeryDeep


def test_what_follows_a_convolution_is_computed_with_it():
    plain, normed, first = (
        group_layers([*net.blocks()[0]], kernel=True)
        for net in (make_net("D"), make_net("D", batch_norm=True), make_net("A-LRN"))
    )

    def kinds(stage):
        return [type(layer).__name__ for layer in stage] if isinstance(stage, Stage) else type(stage).__name__

    assert [kinds(stage) for stage in plain] == [["Convolution", "ReLU"], ["Convolution", "ReLU", "MaxPool2d"]]
    assert [kinds(stage) for stage in normed][:3] == [["Convolution"], "BatchNorm2d", "ReLU"]
    assert [kinds(stage) for stage in first] == [["Convolution", "ReLU"], "LocalResponseNorm", "MaxPool2d"]


def test_images_small_maps_bf16_and_other_kernels_are_pytorch_s(calls):
    net = make_net()
    place(net, choice(True))
    net.score_map(images()).sum().backward()
    sides = [module for module in net.children() if isinstance(module, Convolution)]
    assert len(calls) == len(sides) - 3  # the first, and the two on maps of 2x2
    calls.clear()
    with torch.autocast("cpu", torch.bfloat16):
        net.score_map(images())
    assert calls == []


@pytest.mark.parametrize("name", ["conv2_1", "relu2_1", "pool2"])
@pytest.mark.parametrize("kind", ["forward_hook", "forward_pre_hook", "full_backward_hook", "full_backward_pre_hook"])
def test_hooks_are_called(calls, name, kind):
    net, seen = make_net(), []
    place(net, choice(True))
    net.score_map(images()).sum().backward()
    unhooked = len(calls)
    handle = getattr(net.get_submodule(name), f"register_{kind}")(lambda *_: seen.append(name))
    calls.clear()
    net.score_map(images()).sum().backward()
    assert seen == [name]
    assert len(calls) == unhooked - 1
    handle.remove()
    calls.clear()
    net.score_map(images()).sum().backward()
    assert len(calls) == unhooked


@pytest.mark.parametrize("options", [{"gradient_checkpointing": True}, {"micro_batch": 4}])
def test_checkpointing_and_parts_change_nothing(options):
    net = make_net()
    assert losses(net, choice(True, **options), 3) == pytest.approx(losses(net, choice(True), 3), rel=1e-5)


def test_two_trainings_give_the_same_bits():
    net = make_net(batch_norm=True)
    assert losses(net, choice(True), 5) == losses(net, choice(True), 5)


def test_a_run_says_records_and_goes_on_with_its_choice(monkeypatch, tmp_path, calls):
    class Notes(Callback):
        def __init__(self) -> None:
            self.said: list[str] = []

        def note(self, text: str) -> None:
            self.said.append(text)

    notes = Notes()
    options = {"width": 0.125, "seed": 0, "execution": ComputeOptions(device="cpu", precision="fp32")}
    trained = train(
        "digits", out=tmp_path / "run", recipe="small-images", changes={"epochs": 1}, reporter=notes, **options
    )
    assert any(text.endswith("on cpu, fp32, channels last, verydeep's kernel, 1 thread") for text in notes.said)
    assert calls
    settings = json.loads((tmp_path / "run" / "run.json").read_text())
    assert settings["choice"]["kernel"] is True
    assert type(trained.net) is VeryDeep
    resume(tmp_path / "run")
    monkeypatch.setenv("VERYDEEP_KERNEL", "none")
    resume(tmp_path / "run", reporter=notes)
    assert "this run began with verydeep's kernel, which is not there" in notes.said[-1] + notes.said[-2]


def test_without_a_kernel_pytorch_trains(monkeypatch, calls):
    monkeypatch.setenv("VERYDEEP_KERNEL", "none")
    net = make_net()
    place(net, choice(True))
    net.score_map(images()).sum().backward()
    assert calls == []


@pytest.mark.parametrize("kernel", [True, False])
def test_a_class_of_somebody_s_own_comes_back_and_a_copy_has_layers_of_its_own(kernel):
    class Mine(VeryDeep):
        pass

    net = Mine("A", num_classes=3, crop=32, width=0.125)
    place(net, choice(kernel))
    assert isinstance(net, Mine)
    twin = copy.deepcopy(net)
    with torch.no_grad():
        before = net.features(images())
        for parameter in twin.parameters():
            parameter.zero_()
        assert torch.equal(net.features(images()), before)
        assert not twin.features(images()).any()
    place(net, choice(not kernel))
    release(net)
    assert type(net) is Mine


def test_small_maps_are_products_in_training_alone(monkeypatch):
    sides = []

    def convolve(map_, *others):
        sides.append(tuple(map_.shape[2:]))
        return convolve_small(map_, *others)

    monkeypatch.setattr("verydeep.speed.train_net.convolve_small", convolve)
    net = make_net()
    expected = net.features(images())
    assert sides == []
    place(net, choice(False))
    result = net.features(images())
    assert sides == [(2, 2)] * 2
    assert (result - expected).norm() <= 1e-5 * expected.norm()
    place(net, Compute(device="cpu", precision="fp32", channels_last=True, threads=1, gradient_checkpointing=True))
    net.features(images()).sum().backward()
    assert len(sides) == 6
    net.get_submodule("conv5_1").register_forward_hook(lambda *_: sides.append("hooked"))
    net.features(images())
    assert sides[6:] == ["hooked", (2, 2)]
