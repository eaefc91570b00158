"""The memory of a training, and what is done where there is less."""

import dataclasses

import pytest
import torch

from verydeep.device import Compute
from verydeep.errors import UserError
from verydeep.nets.net import VeryDeep
from verydeep.runs.compute import fit_into_memory, fitting_micro_batch, fixed_bytes, saved_bytes
from verydeep.training.recipe import find_recipe

CHOICE = Compute(device="cpu", precision="fp32", channels_last=False, threads=1)
RECIPE = find_recipe("paper", batch_size=100)


def test_what_is_saved_is_what_autograd_keeps():
    net = VeryDeep("A", num_classes=3, crop=32, width=0.125).train()
    own = {parameter.data_ptr() for parameter in net.parameters()}
    kept = {}

    def keep(tensor):
        if tensor.untyped_storage().data_ptr() not in own and tensor.shape[:1] == (7,):
            kept[tensor.untyped_storage().data_ptr()] = tensor
        return tensor

    net.set_dropout(0)
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        net(torch.zeros(7, 3, 32, 32, dtype=torch.uint8))
    seen = sum(tensor.untyped_storage().nbytes() for tensor in kept.values()) / 7
    largest = 4 * 8 * 32 * 32
    assert seen < saved_bytes(net, CHOICE) < 2 * seen + 5 * largest
    assert fixed_bytes(net, CHOICE) == 12 * sum(parameter.numel() for parameter in net.parameters())


@pytest.mark.parametrize(("free", "images"), [(100, 0), (149, 0), (150, 1), (299, 2), (300, 4), (10_000, 128)])
def test_the_largest_power_of_two_that_fits(free, images):
    assert fitting_micro_batch(100, 50, free) == images


def test_a_batch_that_does_not_fit_is_computed_in_parts(monkeypatch):
    net = VeryDeep("A", num_classes=3, crop=32, width=0.125, batch_norm=True)
    said = []
    assert fit_into_memory(net, RECIPE, CHOICE, said.append) == CHOICE
    assert not said
    free = fixed_bytes(net, CHOICE) + 20 * saved_bytes(net, CHOICE)
    monkeypatch.setattr("verydeep.runs.compute.free_bytes", lambda device: free)
    assert fit_into_memory(net, RECIPE, CHOICE, said.append) == dataclasses.replace(CHOICE, micro_batch=16)
    assert "16 at a time" in said[0]
    assert "batch norm takes its statistics over these" in said[0]
    asked = dataclasses.replace(CHOICE, micro_batch=64)
    assert fit_into_memory(net, RECIPE, asked, said.append) == asked
    monkeypatch.setattr("verydeep.runs.compute.free_bytes", lambda device: 1000)
    with pytest.raises(UserError, match="do not do for one image"):
        fit_into_memory(net, RECIPE, CHOICE, said.append)
