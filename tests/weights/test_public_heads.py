"""Heads of public VGGs for small images and of courses: scores where our nets have them, else the convolutions."""

import itertools
from collections import OrderedDict

import pytest
import torch
from safetensors.torch import save_file
from torch import nn
from torchvision.models.vgg import make_layers

from conftest import scene
from peer_nets import CHANNELS, HIDDEN, as_pixels, configuration, export_onnx, randomise, torchvision_net
from verydeep.errors import UserError
from verydeep.nets.reuse import TORCHVISION_MEAN, TORCHVISION_STD
from verydeep.weights.imported import assemble
from verydeep.weights.readers import read_weights
from verydeep.weights.readers.torch import from_state_dict
from verydeep.weights.verify import largest_difference

LAST, CLASSES = CHANNELS[-1], 4
PICTURES = as_pixels([scene(0, 32, 32)])


class Public(nn.Module):
    """Convolutions under parts of other names, in the order in which they are given."""

    def __init__(self, features="features", **parts) -> None:
        super().__init__()
        self.first = features
        setattr(self, features, make_layers(configuration("D"), True))
        for name, part in parts.items():
            setattr(self, name, part)
        self.parts = tuple(parts)
        randomise(self)

    def forward(self, x):
        x = getattr(self, self.first)(x).flatten(1)
        for name in self.parts:
            x = getattr(self, name)(x)
        return x


def layers(*widths):
    return [nn.Linear(inputs, outputs) for inputs, outputs in itertools.pairwise(widths)]


def sequence(*widths):
    parts = [part for layer in layers(*widths) for part in (layer, nn.ReLU(), nn.Dropout())]
    return nn.Sequential(*parts[:-2])


def course():
    first, second = layers(LAST, 50, CLASSES)
    named = [("fc1", first), ("relu", nn.ReLU()), ("fc2", second), ("output", nn.LogSoftmax(1))]
    return Public(classifier=nn.Sequential(OrderedDict(named)))


def cadene():
    first, second, third = layers(LAST, HIDDEN, HIDDEN, CLASSES)
    return Public("_features", linear0=first, relu0=nn.ReLU(), linear1=second, relu1=nn.ReLU(), last_linear=third)


SCORES = {
    "kuangliu": (lambda: Public(classifier=nn.Linear(LAST, CLASSES)), "linear"),
    "fc": (lambda: Public(fc=nn.Linear(LAST, CLASSES)), "linear"),
    "hidden layers of our width": (lambda: Public(classifier=sequence(LAST, HIDDEN, HIDDEN, CLASSES)), "paper"),
    "512-512-K": (lambda: Public(classifier=sequence(LAST, LAST, LAST, CLASSES)), "paper"),
    "Cadene": (cadene, "paper"),
}
CONVOLUTIONS = {
    "two widths": (
        lambda: Public(classifier=sequence(LAST, LAST, 20, CLASSES)),
        {"classifier.0", "classifier.3", "classifier.6"},
    ),
    "a course": (course, {"classifier.fc1", "classifier.fc2"}),
    "two layers": (lambda: Public(classifier=sequence(LAST, 20, CLASSES)), {"classifier.0", "classifier.3"}),
    "Identity": (lambda: Public(classifier=nn.Identity()), set()),
}


def theirs_of(net, pixels, part=None):
    mean, std = (torch.tensor(numbers)[:, None, None] for numbers in (TORCHVISION_MEAN, TORCHVISION_STD))
    with torch.inference_mode():
        return (part or net)((pixels / 255 - mean) / std)


@pytest.mark.parametrize("ending", [".pth", ".safetensors"])
@pytest.mark.parametrize("kind", SCORES)
def test_a_head_of_ours_keeps_its_scores(kind, ending, tmp_path):
    make, head = SCORES[kind]
    theirs, file = make(), tmp_path / f"a{ending}"
    (save_file if ending == ".safetensors" else torch.save)(theirs.state_dict(), file)
    net = assemble(read_weights(file), crop=32)
    assert net.geometry.head == head
    with torch.inference_mode():
        assert largest_difference(net(PICTURES), theirs_of(theirs, PICTURES)) < 1e-5


@pytest.mark.parametrize("kind", CONVOLUTIONS)
def test_another_head_is_left_out_in_its_own_names(kind):
    make, names = CONVOLUTIONS[kind]
    theirs = make()
    found = from_state_dict(theirs.state_dict())
    assert (found.features_only, set(found.left_out)) == (True, names)
    with torch.inference_mode():
        expected = theirs_of(theirs, PICTURES, theirs.features)
        assert largest_difference(assemble(found).features(PICTURES), expected) < 1e-5


@pytest.mark.parametrize(("end", "last"), [(31, "4_3"), (21, "3_3"), (37, "5_1")])
def test_a_net_that_is_cut_says_where_and_what_to_take(end, last):
    state = {
        f"features.{name}": part for name, part in make_layers(configuration("D"), True)[:end].state_dict().items()
    }
    with pytest.raises(UserError, match=rf"its convolutions end with conv{last}, .*\['relu{last}'\]"):
        assemble(from_state_dict(state))


@pytest.mark.parametrize("side", [192, 448])
def test_a_graph_exported_at_another_size_says_which_keeps_its_scores(side, tmp_path):
    export_onnx(torchvision_net("A"), tmp_path / "a.onnx", side, dynamo=True)
    found = read_weights(tmp_path / "a.onnx")
    assert found.features_only
    assert f"exported at {side}, a VGG of torchvision pools its last map first: export it at 224" in found.reason
