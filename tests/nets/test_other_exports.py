"""What torch's older ways out of Python make of a net: the legacy ONNX exporter, and TorchScript."""

import warnings

import jaxtyping
import pytest
import torch

from small_nets import make_net, photos
from verydeep.errors import UserError


@pytest.fixture(autouse=True)
def shapes_unchecked():
    """What checks the shapes in the tests reads sizes too."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


@pytest.mark.parametrize("crop", [32, 64])
def test_the_legacy_exporter_of_onnx_keeps_a_batch_of_any_size(crop, tmp_path):
    runtime = pytest.importorskip("onnxruntime", reason="onnxruntime is an extra of the tests")
    net, images = make_net(crop=crop), photos(crop, crop, 3).float()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch's own advice
        options = {"dynamo": False, "input_names": ["x"], "dynamic_axes": {"x": {0: "n"}}, "verbose": False}
        torch.onnx.export(net, (images[:2],), str(tmp_path / "a.onnx"), **options)
    session = runtime.InferenceSession(str(tmp_path / "a.onnx"), providers=["CPUExecutionProvider"])
    with torch.no_grad():
        for count in (1, 2, 3):
            found = torch.from_numpy(session.run(None, {"x": images[:count].numpy()})[0])
            assert torch.allclose(found, net(images[:count]), rtol=1e-3, atol=1e-4)


@pytest.mark.filterwarnings("ignore:.*torch.jit.script:FutureWarning", "ignore:.*torch.jit.script:DeprecationWarning")
def test_torchscript_is_refused_in_one_line():
    with pytest.raises(UserError, match=r"TorchScript.*torch\.export\.export\(net, \(images,\)\)") as told:
        torch.jit.script(make_net())
    assert "\n" not in str(told.value)
