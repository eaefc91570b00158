"""Names of convolutions as programs and people write them: all give the net that torchvision's names give."""

import re

import pytest
import torch
from safetensors.torch import save_file
from torch import nn
from torchvision.models.vgg import make_layers

from conftest import scene
from peer_nets import as_pixels, configuration, randomise, torchvision_net
from verydeep.errors import UserError
from verydeep.nets.architecture import ARCHITECTURES, Geometry, layers
from verydeep.nets.net import IMAGENET_MEAN, VeryDeep
from verydeep.weights.imported import assemble
from verydeep.weights.readers import read_weights
from verydeep.weights.readers.torch import from_state_dict
from verydeep.weights.verify import largest_difference

PICTURES = as_pixels([scene(0, 64, 64)])


def features(batch_norm):
    return randomise(nn.Sequential(make_layers(configuration("D"), batch_norm)))[0].state_dict()


def numbers_to_labels(state, batch_norm):
    """Our names of features.N."""
    geometry = Geometry(architecture=ARCHITECTURES["D"], batch_norm=batch_norm)
    names = [layer.name for layer in layers(geometry)]
    return {f"{names[int(name.split('.')[0])]}.{name.split('.')[1]}": part for name, part in state.items()}


def renamed(rule):
    return lambda state, batch_norm: {rule(name): part for name, part in numbers_to_labels(state, batch_norm).items()}


def blocks(conv, norm, between="."):
    """A block of one number with a convolution and its batch norm, and a number for each pooling."""

    def rename(state, batch_norm):
        found, number, before = {}, -1, 0
        for place in sorted({int(name.split(".")[0]) for name in state}):
            if state[f"{place}.weight"].ndim == 4:
                gap = 3 if batch_norm else 2
                number += 1 if number < 0 or place - before == gap else 2
                before, inner = place, conv
            else:
                inner = norm
            for part in ("weight", "bias", "running_mean", "running_var"):
                if f"{place}.{part}" in state:
                    found[f"features{between}{number}.{inner}.{part}"] = state[f"{place}.{part}"]
        return found

    return rename


NUMBERED = {
    "bare numbers": lambda state, _: state,
    "features_0": lambda state, _: {f"features_{name}": part for name, part in state.items()},
    "body of fastai": lambda state, _: {f"0.0.{name}": part for name, part in state.items()},
    "_features": lambda state, _: {f"_features.{name}": part for name, part in state.items()},
    "features.0.conv": blocks("conv", "bn"),
    "features.0.0": blocks("0", "1"),
    "encoder.features.0": lambda state, _: {f"encoder.features.{name}": part for name, part in state.items()},
}
LABELLED = {
    "conv1_1": renamed(str),
    "conv_1_1": renamed(lambda name: re.sub(r"^(conv|bn)", r"\1_", name)),
    "block1_conv1": renamed(lambda name: re.sub(r"^(conv|bn)(\d)_(\d)", r"block\2_\1\3", name)),
    "block1.conv1": renamed(lambda name: re.sub(r"^(conv|bn)(\d)_(\d)", r"block\2.\1\3", name)),
    "conv1_1.conv": renamed(lambda name: re.sub(r"^(conv|bn)(\d_\d)", r"features.conv\2.\1", name)),
    "conv1_1_bn": renamed(lambda name: re.sub(r"^bn(\d_\d)", r"conv\1_bn", name)),
}


@pytest.mark.parametrize("batch_norm", [False, True])
@pytest.mark.parametrize("kind", NUMBERED | LABELLED)
def test_every_name_gives_the_same_net(kind, batch_norm):
    state = features(batch_norm)
    expected = from_state_dict({f"features.{name}": part for name, part in state.items()})
    found = from_state_dict((NUMBERED | LABELLED)[kind](state, batch_norm))
    assert found.features_only
    assert found.tensors.keys() >= {name for name in expected.tensors if "num_batches" not in name}
    turned = kind in LABELLED  # Caffe's, over blue, green, red
    assert torch.equal(
        found.tensors["conv1_1.weight"],
        expected.tensors["conv1_1.weight"].flip(1) if turned else expected.tensors["conv1_1.weight"],
    )
    assert torch.equal(found.tensors["conv5_3.weight"], expected.tensors["conv5_3.weight"])
    assert (found.mean == IMAGENET_MEAN, found.is_guessed) == (turned, True)
    assert not batch_norm or torch.equal(found.tensors["bn4_2.running_var"], expected.tensors["bn4_2.running_var"])


def test_a_state_dict_of_our_own_is_read_with_its_input(tmp_path):
    net = randomise(VeryDeep("C", num_classes=4, crop=64, width=0.125, batch_norm=True))
    net.set_input((1, 2, 3), (4, 5, 6))
    torch.save(net.state_dict(), tmp_path / "a.pth")
    save_file(net.state_dict(), tmp_path / "a.safetensors")
    for file in tmp_path.iterdir():
        found = read_weights(file)
        assert "as mean and divisor in the file say" in found.convention
        again = assemble(found)
        assert again.geometry == net.geometry
        assert all(torch.equal(part, net.state_dict()[name]) for name, part in again.state_dict().items())


def test_caffes_names_with_its_fully_connected_layers_give_scores():
    """As converters from Caffe write them."""
    net = randomise(VeryDeep("D", num_classes=4, crop=64, width=0.125))
    state = {name: part for name, part in net.state_dict().items() if name not in ("mean", "divisor")}
    state |= {f"{name}.weight": state[f"{name}.weight"].flatten(1) for name in ("fc6", "fc7", "fc8")}
    state["conv1_1.weight"] = state["conv1_1.weight"].flip(1)
    found = from_state_dict(state)
    assert "as Caffe has it, whose names these are: a guess" in found.convention
    with torch.inference_mode():
        assert largest_difference(assemble(found)(PICTURES), net(PICTURES)) < 1e-5


def test_convolutions_without_biases_get_zeros():
    state = torchvision_net("A", batch_norm=True).state_dict()
    plain = {
        name: part
        for name, part in state.items()
        if not (name.endswith("bias") and state[name[:-4] + "weight"].ndim == 4)
    }
    assert len(plain) == len(state) - 8
    found = from_state_dict(plain)
    zeros = {name: torch.zeros_like(part) if name not in plain else part for name, part in state.items()}
    with torch.inference_mode():
        expected = assemble(from_state_dict(zeros), crop=32)(PICTURES)
        assert torch.equal(assemble(found, crop=32)(PICTURES), expected)


def test_a_batch_norm_after_the_relu_is_no_vgg():
    """It takes the same numbers, and gives other scores."""
    state = torchvision_net("A", batch_norm=True).state_dict()
    moved = {}
    for name, part in state.items():
        number = name.split(".")[1]
        is_norm = f"features.{number}.running_mean" in state
        moved[name.replace(f".{number}.", f".{int(number) + 1}.") if is_norm else name] = part
    with pytest.raises(UserError, match=r"features\.2 is not where a VGG has a batch norm: right after"):
        from_state_dict(moved)
