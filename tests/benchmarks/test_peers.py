"""Every peer computes the net that ours computes."""

import copy

import pytest
import torch

from benchmarks.compare.contender import LeftOutError, Options
from benchmarks.compare.nets import as_torchvision_builds_it, make_net, normalised, random_images
from benchmarks.compare.peer_ncnn import ncnn_net
from benchmarks.compare.peer_onnxruntime import onnx_runtime
from benchmarks.compare.peer_openvino import openvino_net
from benchmarks.compare.peer_torch import compiled, eager, timm_net
from verydeep.errors import UsageError


def net_of(**kinds):
    options = Options(**{"what": "inference", "architecture": "A", "crop": 32, "width": 0.125, **kinds})
    return make_net(options, num_classes=7)


@pytest.fixture(scope="module")
def net():
    return net_of()


@pytest.fixture(scope="module")
def twin(net):
    return as_torchvision_builds_it(net)


@pytest.fixture(scope="module")
def images():
    return random_images(2, 32)


def check(net, bind, images, most=1e-5):
    exact = copy.deepcopy(net).double()(images)
    x = normalised(net, images)
    call = bind(x)
    del x  # a library may read where it lay
    torch.randn(100, 3, 32, 32)
    difference = (call().double().reshape(exact.shape) - exact).norm() / exact.norm()
    assert difference < most


@torch.no_grad()
@pytest.mark.parametrize("batch_norm", [False, True])
@pytest.mark.parametrize("last", [False, True])
def test_torchvision(images, batch_norm, last):
    net = net_of(batch_norm=batch_norm)
    check(net, eager(as_torchvision_builds_it(net), channels_last=last, precision="fp32"), images)


@torch.no_grad()
def test_torchvision_in_bf16(net, twin, images):
    check(net, eager(twin, channels_last=True, precision="bf16"), images, most=5e-2)
    assert next(twin.parameters()).dtype == torch.float32


@torch.no_grad()
def test_onnx_runtime(net, twin, images):
    pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    check(net, onnx_runtime(twin, normalised(net, images), 1), images)


@torch.no_grad()
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("precision", "most"), [("fp32", 1e-5), ("bf16", 5e-2)])
def test_openvino(net, twin, images, precision, most):
    pytest.importorskip("openvino")
    example = normalised(net, images)
    check(net, openvino_net(twin, example, 1, precision=precision, calibrate=None), images, most)


@torch.no_grad()
def test_ncnn(net, twin, images):
    pytest.importorskip("ncnn")
    check(net, ncnn_net(twin, 1), images)


def test_ncnn_leaves_batch_norm_out():
    pytest.importorskip("ncnn")
    with pytest.raises(LeftOutError, match="without batch norm"):
        ncnn_net(as_torchvision_builds_it(net_of(batch_norm=True)), 1)


def test_timm_has_the_papers_sizes_only(net):
    pytest.importorskip("timm")
    with pytest.raises(LeftOutError, match="the paper's width"):
        timm_net(net, channels_last=True, precision="fp32")


def test_torch_compile_needs_a_compiler(twin, monkeypatch):
    from torch._inductor import cpp_builder

    def missing():
        raise RuntimeError("no compiler")

    monkeypatch.setattr(cpp_builder, "get_cpp_compiler", missing)
    with pytest.raises(LeftOutError, match=r"install g\+\+"):
        compiled(twin, precision="fp32", tune=False)


@pytest.mark.parametrize("architecture", ["C", "A-LRN", "B-5x5"])
def test_nets_that_torchvision_has_not(architecture):
    with pytest.raises(UsageError, match="torchvision has A, B, D and E only"):
        net_of(architecture=architecture)
