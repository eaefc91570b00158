"""Model files read through on request."""

import hashlib

import pytest
import torch

from verydeep.errors import UserError
from verydeep.nets.model_file import save
from verydeep.nets.net import VeryDeep
from verydeep.nets.stored_net import check_model
from verydeep.weights.resolve import load


def test_a_sound_file(tmp_path):
    file = tmp_path / "net.safetensors"
    save(VeryDeep("A", num_classes=3, crop=32, width=0.125), file, precision="fp16")
    told = []
    checked = check_model(file, lambda *state: told.append(state))
    assert checked.sha256 == hashlib.sha256(file.read_bytes()).hexdigest()
    assert (checked.num_bytes, checked.not_finite) == (file.stat().st_size, {})
    assert checked.num_tensors == 2 * 11 + 2
    checked.refuse_not_finite()
    assert told


@pytest.mark.parametrize("number", [float("nan"), float("inf")])
def test_numbers_that_are_none_are_named(number, tmp_path):
    file = tmp_path / "net.safetensors"
    net = VeryDeep("A", num_classes=3, crop=32, width=0.125)
    with torch.no_grad():
        net.fc7.weight[0, :2] = number
        net.fc8.bias[0] = number
    save(net, file, precision="fp16")
    assert load(file).geometry.num_classes == 3  # no scan at each load
    checked = check_model(file)
    assert checked.not_finite == {"fc7.weight": 2, "fc8.bias": 1}
    with pytest.raises(UserError, match=r"fc7\.weight has NaN or infinity in 2 of its numbers and 1 more tensors"):
        checked.refuse_not_finite()
