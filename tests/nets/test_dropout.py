"""Dropout: half the units, doubled; the same for an image whatever batch it is in."""

import pytest
import torch

from verydeep.nets.dropout import Dropout, image_keys, kept_units
from verydeep.nets.net import VeryDeep


def make_dropout(p=0.5, keys=None, layer=6):
    dropout = Dropout(p, layer)
    dropout.keys = keys
    return dropout


@pytest.mark.parametrize("p", [0.1, 0.5, 0.9])
def test_the_share_of_dropped_units(p):
    kept = kept_units(image_keys(0, 0, range(64)), 6, 4096, p).float()
    assert kept.mean() == pytest.approx(1 - p, abs=4 * (p * (1 - p) / kept.numel()) ** 0.5)
    per_image = kept.mean(1)
    assert per_image.std() == pytest.approx((p * (1 - p) / 4096) ** 0.5, rel=0.3)
    per_unit = kept.mean(0)
    assert per_unit.std() == pytest.approx((p * (1 - p) / 64) ** 0.5, rel=0.1)


def test_masks_of_images_epochs_seeds_and_layers_are_unrelated():
    masks = [
        kept_units(image_keys(seed, epoch, [image]), layer, 4096, 0.5)[0]
        for seed, epoch, image, layer in [(0, 0, 0, 6), (1, 0, 0, 6), (0, 1, 0, 6), (0, 0, 1, 6), (0, 0, 0, 7)]
    ]
    for one in range(len(masks)):
        for other in range(one):
            agreement = (masks[one] == masks[other]).float().mean()
            assert agreement == pytest.approx(0.5, abs=0.04), (one, other)
    shifted = (masks[0][1:] == masks[3][:-1]).float().mean()
    assert shifted == pytest.approx(0.5, abs=0.04)


def test_a_mask_belongs_to_its_image():
    keys = image_keys(3, 2, [5, 9, 1])
    x = torch.randn(3, 64, 1, 1)
    together = make_dropout(keys=keys)(x)
    alone = torch.cat([make_dropout(keys=keys[i : i + 1])(x[i : i + 1]) for i in range(3)])
    assert torch.equal(together, alone)
    assert set((together / x).unique().round(decimals=4).tolist()) == {0, 2}
    assert not torch.equal(together, make_dropout(keys=keys, layer=7)(x))


def test_without_keys_it_is_torchs_own_and_in_evaluation_it_does_nothing():
    x = torch.ones(8, 64, 1, 1)
    torch.manual_seed(0)
    expected = torch.nn.functional.dropout(x, 0.5)
    torch.manual_seed(0)
    assert torch.equal(make_dropout()(x), expected)
    assert make_dropout().eval()(x) is x
    assert make_dropout(p=0)(x) is x


def test_a_net_passes_its_keys_to_both_layers():
    net = VeryDeep("A", num_classes=3, crop=32, width=0.125).train()
    images = torch.randint(0, 256, (4, 3, 32, 32), dtype=torch.uint8)
    net.tie_dropout(image_keys(0, 0, range(4)))
    first = net(images)
    assert torch.equal(first, net(images))
    net.tie_dropout(image_keys(0, 1, range(4)))
    assert not torch.equal(first, net(images))
    net.set_dropout(0.0)
    assert torch.equal(net(images), net.eval()(images))
