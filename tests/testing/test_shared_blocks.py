"""Tests of nets that share their lower blocks: what evaluate gives, with the shared blocks computed once."""

import copy

import numpy as np
import pytest
import torch

from verydeep.data.open import open_data
from verydeep.nets.net import VeryDeep
from verydeep.testing.evaluate import evaluate
from verydeep.testing.shared_blocks import LowerBlocks


@pytest.fixture
def images(make_folder):
    return open_data(make_folder("photos", {"dark": 9, "bright": 9}, side=80)).train


@pytest.fixture
def nets():
    """A net, and one that differs above pool4."""
    generator = torch.Generator().manual_seed(0)
    net = VeryDeep("A", num_classes=2, width=0.25, crop=64, head="linear", generator=generator)
    net.train_scale = (64, 64)
    other = copy.deepcopy(net)
    with torch.no_grad():
        for name, parameter in other.named_parameters():
            if name.startswith(("conv5", "fc8")):
                parameter.mul_(1.5)
    return net, other


@pytest.mark.parametrize("most_bytes", [0, 20_000, 10**9])
@pytest.mark.parametrize("mirror", [True, False])
def test_the_results_are_those_of_evaluate_and_shared_blocks_are_computed_once(
    nets, images, mirror, most_bytes, monkeypatch
):
    lower, computed = LowerBlocks(nets[0], 5, "cpu", most_bytes=most_bytes), []
    backend = lower._backend

    class Counted:
        def maps(self, given, layer):
            computed.append(len(given))
            return backend.maps(given, layer)

    monkeypatch.setattr(lower, "_backend", Counted())
    views = len(images) * (1 + mirror)
    for number, net in enumerate(nets):
        net.mirror = mirror
        net.train()
        found, expected = lower.evaluate(net, images, mirror=mirror), evaluate(net, images)
        np.testing.assert_allclose(found.posteriors, expected.posteriors, rtol=1e-4, atol=1e-6)
        assert (found.labels == expected.labels).all()
        assert found.members == expected.members
        assert net.training
        assert type(net) is VeryDeep
        if most_bytes == 10**9:
            assert sum(computed) == views
        elif most_bytes == 0:
            assert sum(computed) == (number + 1) * views
    if most_bytes == 20_000:
        assert views < sum(computed) < 2 * views
