"""Weights taken over from another net."""

import pytest
import torch

from verydeep.errors import UserError
from verydeep.nets.grow import GROWN_LAYERS, grow
from verydeep.nets.net import VeryDeep


def make(name, classes=("a", "b"), **kwargs):
    net = VeryDeep(name, num_classes=len(classes), width=0.125, **{"crop": 32, **kwargs})
    net.classes = classes
    return net


def layers_of(names):
    return {name.partition(".")[0] for name in names}


@pytest.mark.parametrize("name", ["B", "C", "D", "E", "A-LRN"])
def test_deeper_nets_take_four_convolutions_and_the_last_three_layers(name):
    source, net = make("A"), make(name)
    source.set_input((1, 2, 3))
    before = {key: tensor.clone() for key, tensor in net.state_dict().items()}
    grown = grow(net, source)
    assert layers_of(grown.copied) == set(GROWN_LAYERS)
    for key, tensor in net.state_dict().items():
        if key in grown.copied:
            assert torch.equal(tensor, source.state_dict()[key])
        elif key not in ("mean", "divisor"):
            assert torch.equal(tensor, before[key])
    assert net.mean.tolist() == [1, 2, 3]
    assert all(parameter.requires_grad for parameter in net.parameters())


def test_one_architecture_takes_everything():
    grown = grow(make("D", batch_norm=True), make("D", batch_norm=True))
    assert not grown.new
    assert {"bn5_3", "conv5_3", "fc8"} <= layers_of(grown.copied)


def test_other_classes_leave_fc8_new_even_when_they_are_as_many():
    assert layers_of(grow(make("D", ("a", "c")), make("D")).new) == {"fc8"}
    assert layers_of(grow(make("D", ("a", "b", "c")), make("D")).new) == {"fc8"}


def test_another_crop_leaves_fc6_new():
    grown = grow(make("D", crop=64), make("D"))
    assert grown.new == ("fc6.weight", "fc6.bias")
    assert "fc6" in str(grown)
    assert "copied" in str(grown)


def test_batch_norm_goes_with_its_convolution():
    grown = grow(make("B", batch_norm=True), make("A", batch_norm=True))
    assert {"bn1_1", "bn3_2"} <= layers_of(grown.copied)
    assert {"bn1_2", "bn4_1"} <= layers_of(grown.new)


def test_nothing_in_common():
    net = VeryDeep("D", num_classes=2, width=0.25, crop=32)
    with pytest.raises(UserError, match="same width"):
        grow(net, make("A"))
