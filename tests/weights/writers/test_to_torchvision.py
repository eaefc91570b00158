"""torchvision's twin: its class, its names, its input, our scores, at the borders too."""

import pytest
import torch
from torch import nn
from torchvision.models import VGG

import verydeep
from conftest import scene
from peer_nets import CHANNELS, HIDDEN, as_pixels, randomise
from verydeep.errors import UsageError, UserError
from verydeep.nets.net import VeryDeep
from verydeep.nets.reuse import TORCHVISION_MEAN, TORCHVISION_STD
from verydeep.weights.readers.torch import pixels
from verydeep.weights.verify import largest_difference
from verydeep.weights.writers import TARGETS
from verydeep.weights.writers.torch import AdaptedConvolution


def normalised(images):
    """What torchvision's transforms make of pixels."""
    from torchvision.transforms import v2

    steps = [v2.ToDtype(torch.float32, scale=True), v2.Normalize(TORCHVISION_MEAN, TORCHVISION_STD)]
    return v2.Compose(steps)(images)


@pytest.fixture
def images():
    return as_pixels([scene(seed, 224, 224) for seed in range(2)])


def narrow_twin(net, monkeypatch):
    """A twin of a narrow net; torchvision's class is made narrow as its numbers allow."""
    from torchvision.models import vgg

    monkeypatch.setattr(type(TARGETS["torchvision"]), "check", lambda *_: None)
    narrow = {key: [part if part == "M" else part // 8 for part in row] for key, row in vgg.cfgs.items()}
    monkeypatch.setattr(vgg, "cfgs", narrow)
    whole = VGG.__init__

    def make(self, features, num_classes, init_weights) -> None:
        whole(self, features, num_classes, init_weights)
        self.classifier[0], self.classifier[3] = nn.Linear(49 * CHANNELS[-1], HIDDEN), nn.Linear(HIDDEN, HIDDEN)
        self.classifier[6] = nn.Linear(HIDDEN, num_classes)

    monkeypatch.setattr(VGG, "__init__", make)
    return net.as_torchvision()


@pytest.fixture
def net():
    return randomise(VeryDeep("B", num_classes=5, batch_norm=True, width=0.125))


def test_where_the_input_is_torchvision_s_the_twin_is_its_class_alone(net, images, monkeypatch):
    net.set_input(pixels(TORCHVISION_MEAN), pixels(TORCHVISION_STD))
    twin = narrow_twin(net, monkeypatch)
    assert type(twin) is VGG
    assert type(twin.features[0]) is nn.Conv2d
    assert not twin.training
    with torch.inference_mode():
        assert largest_difference(twin(normalised(images)), net(images)) < 1e-5


@pytest.mark.parametrize(
    "convention", [((123.68, 116.779, 103.939), (1, 1, 1)), ((10, 200, 90), (30, 2, 70))], ids=["Caffe", "its own"]
)
def test_another_input_is_turned_into_the_net_s_before_the_padding(net, images, convention, monkeypatch):
    net.set_input(*convention)
    twin = narrow_twin(net, monkeypatch)
    assert isinstance(twin.features[0], AdaptedConvolution)
    with torch.inference_mode():
        assert largest_difference(twin(normalised(images)), net(images)) < 1e-5
        # the map of the first layers, where a folded mean would show along the borders
        ours = net.activations(images, ["conv1_2"])["conv1_2"]
        theirs = twin.features[:4](normalised(images))
    assert torch.allclose(ours, theirs, rtol=1e-4, atol=1e-3)


def test_folding_the_mean_into_the_weights_would_be_wrong_at_the_borders(net, images):
    """Why the twin has a first layer of its own."""
    net.set_input((123.68, 116.779, 103.939))
    first = net.get_submodule("conv1_1")
    scale = 255 * torch.tensor(TORCHVISION_STD)
    shift = 255 * torch.tensor(TORCHVISION_MEAN) - net.mean
    with torch.inference_mode():
        folded = nn.functional.conv2d(
            normalised(images),
            first.weight * scale[:, None, None],
            first.bias + (first.weight.sum((2, 3)) * shift).sum(1),
            padding=1,
        )
        difference = (folded - net.activations(images, ["conv1_1"])["conv1_1"]).abs()
    assert difference[..., 1:-1, 1:-1].max() < 1e-2
    assert difference[..., 0, :].max() > 0.05


def test_names_and_tensors_are_torchvision_s_but_for_the_input_and_shared(net, monkeypatch):
    net.set_input((1, 2, 3))
    twin = narrow_twin(net, monkeypatch)
    assert "features.0.weight" in twin.state_dict()
    added = [name for name in twin.state_dict() if "scale" in name or "shift" in name]
    assert added == ["features.0.torchvision_scale", "features.0.torchvision_shift"]
    assert twin.features[0].weight.data_ptr() == net.get_parameter("conv1_1.weight").data_ptr()
    assert twin.classifier[0].weight.data_ptr() == net.get_parameter("fc6.weight").data_ptr()


def test_the_twin_can_be_trained_and_moved(net, images, monkeypatch):
    net.set_input((1, 2, 3))
    twin = narrow_twin(net.train(), monkeypatch)
    assert twin.training
    twin.double()(normalised(images).double()).sum().backward()
    assert twin.features[0].weight.grad.abs().sum() > 0


@pytest.mark.parametrize("options", [{"architecture": "C"}, {"architecture": "A-LRN"}, {"crop": 32}, {"width": 0.5}])
def test_what_torchvision_has_not_is_refused(options):
    with torch.device("meta"):
        net = VeryDeep(**{"architecture": "A"} | options, initialisation=None)
    with pytest.raises(UsageError, match="torchvision cannot hold this net"):
        net.as_torchvision()


def test_without_torchvision_one_line_says_what_to_install(net, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "torchvision.models.vgg", None)
    for convert in (verydeep.to_torchvision, VeryDeep.as_torchvision):
        with pytest.raises(UserError, match=r"not installed: pip install 'verydeep\[torchvision\]'"):
            convert(net)
