"""On a GPU everything gives what it gives on the processor. `benchmarks/gpu.sh tests` runs these.

Without a GPU they are skipped; VERYDEEP_GPU_TESTS_ON=cpu runs them on the processor, to see that they run at all.
"""

import json
import os
import subprocess
import sys

import jaxtyping
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file

import verydeep
from conftest import StopAfter, gpu_device, picture
from verydeep import VeryDeep
from verydeep.data.open import open_data
from verydeep.device import Compute
from verydeep.speed.train_net import choose_training
from verydeep.training.loop import make_optimiser
from verydeep.training.recipe import find_recipe
from verydeep.training.update import update

# warnings of CUDA's compilers about this or that GPU are no faults of ours
pytestmark = [pytest.mark.gpu, pytest.mark.filterwarnings("default")]

GPU = gpu_device()
LAYOUTS = pytest.mark.parametrize("channels_last", [True, False], ids=["channels_last", "channels_first"])
RECIPE = find_recipe("quick", epochs=3, batch_size=16, learning_rate=0.02)


@pytest.fixture(autouse=True)
def exact():
    """Float32 products are float32 and not TF32, and cuDNN takes no algorithm that adds in a changing order."""
    wanted = (
        (torch.backends.cuda.matmul, "allow_tf32", False),
        (torch.backends.cudnn, "allow_tf32", False),
        (torch.backends.cudnn, "deterministic", True),
        (torch.backends.cudnn, "benchmark", False),
    )
    before = [getattr(backend, name) for backend, name, _ in wanted]
    for backend, name, value in wanted:
        setattr(backend, name, value)
    yield
    for (backend, name, _), value in zip(wanted, before, strict=True):
        setattr(backend, name, value)


def choice(device=GPU, precision="fp32", channels_last=True):
    return Compute(device=device, precision=precision, channels_last=channels_last, threads=torch.get_num_threads())


def make_net(name="A", *, seed=0, crop=32, classes=3, width=0.25, **options):
    generator = torch.Generator().manual_seed(seed)
    return VeryDeep(name, num_classes=classes, crop=crop, width=width, generator=generator, **options).eval()


def make_images(count, height, width, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (count, height, width, 3), dtype=torch.uint8, generator=generator).permute(0, 3, 1, 2)


def error(found, reference):
    """Of the whole tensor: ||found - reference|| / ||reference||."""
    reference = reference.double()
    return ((found.detach().cpu().double() - reference).norm() / reference.norm()).item()


@LAYOUTS
@pytest.mark.parametrize("name", ["A", "A-LRN", "C", "D-bn", "B-5x5"])
def test_scores_are_those_of_the_processor(name, channels_last):
    net = make_net(name, crop=64)
    crops, whole = make_images(5, 64, 64), make_images(2, 96, 160)
    with torch.inference_mode():
        expected = net.double()(crops.double()), net.score_map(whole.double())
        net.float().place(choice(channels_last=channels_last))
        assert next(net.parameters()).device.type == GPU
        assert error(net(crops.to(GPU)), expected[0]) < 1e-4
        assert error(net.score_map(whole.to(GPU)), expected[1]) < 1e-4
        assert error(net(crops.float().to(GPU)), expected[0]) < 1e-4


@LAYOUTS
def test_gradients_are_those_of_the_processor(channels_last):
    net = make_net("A-bn", dropout=0).train()
    images, labels = make_images(12, 32, 32), torch.arange(12) % 3
    double = make_net("A-bn", dropout=0).double().train()
    F.cross_entropy(double(images), labels).backward()
    net.place(choice(channels_last=channels_last))
    F.cross_entropy(net(images.to(GPU)), labels.to(GPU)).backward()
    for (name, ours), (_, theirs) in zip(net.named_parameters(), double.named_parameters(), strict=True):
        if name.startswith("conv") and name.endswith("bias"):
            continue  # zero before a batch norm, but for rounding
        assert error(ours.grad, theirs.grad) < 1e-3, name


@LAYOUTS
@pytest.mark.parametrize("name", ["A", "D-bn"])
def test_bf16_is_close(name, channels_last):
    net, images = make_net(name, crop=64), make_images(4, 64, 64)
    how = choice(precision="bf16", channels_last=channels_last)
    with torch.inference_mode():
        expected = net.double()(images.double())
        net.float().place(how)
        with how.autocast():
            scores = net(images.to(GPU))
        assert scores.dtype == torch.bfloat16
        assert error(scores, expected) < 0.03
        assert error(net.bfloat16()(images.to(GPU)), expected) < 0.03
        assert net.mean.dtype == torch.float32


@pytest.fixture
def shapes_unchecked():
    """What checks the shapes in the tests cannot be compiled."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


@pytest.mark.parametrize("training", [False, True], ids=["inference", "training"])
def test_compiled_whole_it_gives_the_same(training, shapes_unchecked):
    net = make_net("A-bn", dropout=0, width=0.125)
    net.place(choice())
    net.train(training)
    images, labels = make_images(6, 32, 32).to(GPU), (torch.arange(6) % 3).to(GPU)
    scores = net(images)
    F.cross_entropy(scores, labels).backward()
    gradient = net.get_submodule("conv3_1").weight.grad.clone()
    net.zero_grad()
    compiled = torch.compile(net, fullgraph=True)(images)
    F.cross_entropy(compiled, labels).backward()
    assert error(compiled, scores.detach().cpu()) < 1e-4
    assert error(net.get_submodule("conv3_1").weight.grad, gradient.cpu()) < 1e-3


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_updates_fit_a_batch(precision):
    net = make_net("D-bn", classes=10).train()
    step = make_step(net, choice(precision=precision))
    losses = [step()[0].item() for _ in range(40)]
    assert np.mean(losses[-5:]) < 0.7 * losses[0]


def make_step(net, how):
    """An update as the training makes it."""
    net.place(how)
    optimiser = make_optimiser(net, find_recipe("small-images", learning_rate=0.02))
    images, labels = make_images(20, 32, 32), torch.arange(20) % net.geometry.num_classes
    return lambda: update(net, optimiser, images, labels, how)


@pytest.fixture
def photos(make_folder):
    return make_folder("photos", {"dark": 24, "grey": 24, "bright": 24})


def test_resuming_is_as_if_nothing_had_happened(photos, tmp_path, monkeypatch):
    monkeypatch.setattr("verydeep.runs.compute.choose_training", lambda *_, **asked: choice())
    monkeypatch.setattr(os, "cpu_count", lambda: 1)  # one process that makes crops
    clock = iter(range(10**9))
    monkeypatch.setattr("verydeep.training.loop.time.perf_counter", lambda: float(next(clock)))
    trained = verydeep.fit(make_net("A-bn"), photos, recipe=RECIPE, out=tmp_path / "whole")
    assert trained.finished
    assert next(trained.net.parameters()).device.type == GPU
    cut = verydeep.fit(make_net("A-bn"), photos, recipe=RECIPE, out=tmp_path / "cut", reporter=StopAfter(5))
    assert not cut.finished
    assert verydeep.resume(tmp_path / "cut").finished
    whole, resumed = (load_file(tmp_path / run / "model.safetensors") for run in ("whole", "cut"))
    for name, tensor in whole.items():
        # a momentum, a dropout or a crop of another update would show in the second digit
        torch.testing.assert_close(resumed[name], tensor, rtol=1e-4, atol=1e-6, msg=name)


def test_the_command_trains_there_and_its_model_works_without_it(photos, tmp_path):
    command = ["verydeep", "train", str(photos), "--out", str(tmp_path / "run"), "--batch-norm", "--crop", "32"]
    command += ["--width", "0.25", "--recipe", "quick", "--epochs", "8", "--batch-size", "8"]
    command += ["--device", GPU, "--workers", "2", "--json"]
    done = subprocess.run([sys.executable, "-m", *command], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["top1_error"] < 0.34
    assert json.loads((tmp_path / "run/run.json").read_text())["choice"]["device"] == GPU
    net, images = verydeep.load(tmp_path / "run"), make_images(4, 32, 32)
    with torch.inference_mode():
        here = net(images)
        net.place(choice())
        assert error(net(images.to(GPU)), here) < 1e-4


def test_the_choice():
    found = choose_training(make_net("A-bn").geometry, device=GPU)
    assert (found.device, found.kernel) == (GPU, GPU == "cpu" and found.precision == "fp32")
    if GPU == "cuda":
        assert found.precision == ("bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp32")


@pytest.mark.parametrize("protocol", verydeep.PROTOCOLS)
def test_evaluation_gives_the_same_posteriors(protocol, photos):
    net, train = make_net("A-bn"), open_data(photos).train
    here = verydeep.evaluate(net, train, protocol=protocol, test_scales=[40], device="cpu")
    there = verydeep.evaluate(net, train, protocol=protocol, test_scales=[40], device=GPU)
    assert np.abs(here.posteriors - there.posteriors).max() < 1e-4
    assert here.top1_error == there.top1_error


def test_one_image_and_its_activations():
    net, image = make_net("A", crop=64), picture(0, 100, 80)
    here = verydeep.posterior(net, image)
    inner = net.activations(make_images(1, 64, 64), ["relu3_2", "fc7"])
    net.place(choice())
    assert np.abs(verydeep.posterior(net, image) - here).max() < 1e-4
    for name, activation in net.activations(make_images(1, 64, 64).to(GPU), ["relu3_2", "fc7"]).items():
        assert error(activation, inner[name].detach()) < 1e-4


def test_a_model_file_written_from_the_device_opens_on_the_processor(tmp_path):
    net = make_net("D-bn")
    before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    net.place(choice())
    verydeep.save(net, tmp_path / "d.safetensors")
    for name, tensor in verydeep.load(tmp_path / "d.safetensors").state_dict().items():
        assert torch.equal(tensor, before[name]), name
