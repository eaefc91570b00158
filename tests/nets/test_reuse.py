"""A head for other classes in place, timm's name for the features, and the input of other libraries by a switch."""

import copy

import jaxtyping
import pytest
import torch

from small_nets import make_net, photos
from verydeep.errors import UsageError, UserError
from verydeep.nets import checks
from verydeep.nets.model_file import load_file, save
from verydeep.nets.net import VeryDeep
from verydeep.nets.reuse import TORCHVISION_MEAN, TORCHVISION_STD
from verydeep.speed.accelerate import accelerate


def weights(net, *, but=()):
    return {name: tensor.clone() for name, tensor in net.state_dict().items() if name.partition(".")[0] not in but}


def test_the_last_layer_is_new_and_all_others_are_kept():
    net = make_net(batch_norm=True)
    net.classes, net.mirror = tuple("abcdefg"), False
    net.set_input((1, 2, 3), (4, 5, 6))
    before, old = weights(net, but=["fc8"]), net.fc8.weight
    net.reset_classifier(3, generator=torch.Generator().manual_seed(5))
    assert all(torch.equal(tensor, before[name]) for name, tensor in weights(net, but=["fc8"]).items())
    assert (net.geometry.num_classes, net.classes, net.mirror, net.training) == (3, None, False, False)
    assert net.fc8.weight is not old
    assert net(photos(64, 64)).shape == (2, 3)
    assert not net.fc8.bias.any()
    assert float(net.fc8.weight.detach().std()) == pytest.approx(0.01, rel=0.1)
    again = make_net(batch_norm=True)
    again.reset_classifier(3, generator=torch.Generator().manual_seed(5))
    assert torch.equal(again.fc8.weight, net.fc8.weight)


@pytest.mark.parametrize(("head", "names"), [("linear", ["fc8"]), ("paper", ["fc6", "fc7", "fc8"])])
@pytest.mark.parametrize("kind", [{}, {"head": "linear"}, {"features_only": True}])
def test_another_head(head, names, kind, tmp_path):
    net = make_net(**kind).train()
    features = weights(net, but=["fc6", "fc7", "fc8"])
    net.reset_classifier(4, head)
    own = list(net._modules)
    assert [name for name in own[own.index("pool5") + 1 :] if name.startswith("fc")] == names
    assert (net.geometry.head, net.features_only) == (head, False)
    assert all(module.training for module in net.modules())
    assert all(torch.equal(tensor, weights(net)[name]) for name, tensor in features.items())
    assert [(name, tensor.shape) for name, tensor in net.state_dict().items()] == [
        (name, tensor.shape) for name, tensor in make_net(num_classes=4, head=head).state_dict().items()
    ]
    save(net, tmp_path / "net.safetensors")
    saved = load_file(tmp_path / "net.safetensors")
    assert torch.equal(saved(photos(64, 64)), net.eval()(photos(64, 64)))


def test_convolutions_alone_get_a_linear_head_and_its_precision():
    net = make_net(features_only=True).bfloat16()
    net.reset_classifier(2)
    assert (net.geometry.head, net.fc8.weight.dtype) == ("linear", torch.bfloat16)
    with pytest.raises(UsageError, match="0 classes: give at least one"):
        net.reset_classifier(0)
    with pytest.raises(UsageError, match="unknown head 'deep'"):
        net.reset_classifier(2, "deep")


def test_features_by_the_name_of_timm():
    net, images = make_net(), photos(64, 96)
    assert torch.equal(net.forward_features(images), net.features(images))


def normalised(images):
    mean, deviation = (torch.tensor(numbers)[:, None, None] for numbers in (TORCHVISION_MEAN, TORCHVISION_STD))
    return (images / 255 - mean) / deviation


@pytest.mark.parametrize(("name", "prepare"), [("unit", lambda images: images / 255), ("torchvision", normalised)])
def test_the_input_of_other_libraries_gives_the_scores_of_pixels(name, prepare, monkeypatch):
    net, images = make_net(), photos(64, 96)
    net.set_input((120, 110, 100), (2, 3, 4))
    expected, map_ = net(images), net.activations(images, ["relu3_2"])["relu3_2"]
    given = prepare(images)
    monkeypatch.setattr(checks, "_warned", set())
    with pytest.warns(UserWarning, match="set_input_range"):
        net(given)
    net.set_input_range(name)
    assert torch.allclose(net(given), expected, rtol=1e-4, atol=1e-5)
    assert torch.allclose(net.activations(given, ["relu3_2"])["relu3_2"], map_, rtol=1e-3, atol=1e-3)
    assert torch.equal(net(images), expected)  # uint8 is RGB in 0..255 whatever floats are
    assert torch.allclose(copy.deepcopy(net)(given), expected, rtol=1e-4, atol=1e-5)
    with pytest.raises(UserError, match=r"look like RGB in 0\.\.255.*say net\.set_input_range"):
        net(images.float())
    with pytest.raises(UsageError, match=f"input range is {name}"):
        accelerate(net)
    net.set_input_range("pixels")
    assert torch.equal(net(images.float()), expected)


def test_the_input_range_is_not_saved(tmp_path):
    net = make_net()
    net.set_input_range("unit")
    save(net, tmp_path / "net.safetensors")
    assert load_file(tmp_path / "net.safetensors").input_range == "pixels"
    with pytest.raises(UsageError, match="'bgr': choose one of pixels, unit, torchvision"):
        net.set_input_range("bgr")


@pytest.fixture
def shapes_unchecked():
    """What checks the shapes in the tests reads sizes too."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


@pytest.mark.usefixtures("shapes_unchecked")
@pytest.mark.filterwarnings("ignore:.*torch.jit.trace:FutureWarning")  # torch's own advice
@pytest.mark.parametrize("head", ["paper", "linear"])
@pytest.mark.parametrize("input_range", ["pixels", "torchvision"])
def test_a_trace_warns_of_nothing_and_takes_other_sizes(head, input_range):
    net, images = make_net(head=head, crop=64), photos(64, 96).float()
    net.set_input_range(input_range)
    given = images if input_range == "pixels" else normalised(images)
    larger = photos(96, 128, 3).float() if input_range == "pixels" else normalised(photos(96, 128, 3))
    with torch.no_grad():
        traced = torch.jit.trace(net, given)
        for each in (given, larger):
            assert torch.allclose(traced(each), net(each), rtol=1e-4, atol=1e-5)
        exported = torch.export.export(net, (given,)).module()
        assert torch.allclose(exported(given), net(given), rtol=1e-4, atol=1e-5)


def test_the_checks_are_there_outside_of_a_trace():
    with pytest.raises(UserError, match="too small"):
        VeryDeep("A", num_classes=2, crop=64, width=0.125)(torch.zeros(1, 3, 32, 64))
