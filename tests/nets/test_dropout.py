"""Dropout: half the units, doubled; the same for an image however its batch is divided."""

import pytest
import torch

from verydeep.nets.layers import BatchRows, Dropout, kept_units
from verydeep.nets.net import VeryDeep


def make_dropout(p=0.5, batch=None, layer=6):
    dropout = Dropout(p, layer)
    dropout.batch = batch
    return dropout


@pytest.mark.parametrize("p", [0.1, 0.5, 0.9])
def test_the_share_of_dropped_units(p):
    kept = kept_units((0, 0, 0), 6, 64, 4096, p).float()
    assert kept.mean() == pytest.approx(1 - p, abs=4 * (p * (1 - p) / kept.numel()) ** 0.5)
    per_image = kept.mean(1)
    assert per_image.std() == pytest.approx((p * (1 - p) / 4096) ** 0.5, rel=0.3)
    per_unit = kept.mean(0)
    assert per_unit.std() == pytest.approx((p * (1 - p) / 64) ** 0.5, rel=0.1)


def test_masks_of_images_iterations_epochs_seeds_and_layers_are_unrelated():
    masks = [
        kept_units(seed, layer, 2, 4096, 0.5)[image]
        for seed, image, layer in [
            ((0, 0, 0), 0, 6), ((1, 0, 0), 0, 6), ((0, 1, 0), 0, 6), ((0, 0, 1), 0, 6), ((0, 0, 0), 1, 6),
            ((0, 0, 0), 0, 7),
        ]
    ]  # fmt: skip
    for one in range(len(masks)):
        for other in range(one):
            agreement = (masks[one] == masks[other]).float().mean()
            assert agreement == pytest.approx(0.5, abs=0.04), (one, other)
    shifted = (masks[0][1:] == masks[4][:-1]).float().mean()
    assert shifted == pytest.approx(0.5, abs=0.04)


@pytest.mark.parametrize("units", [64, 63, 2])
def test_a_mask_belongs_to_its_image_however_the_batch_is_divided(units):
    seed, total = (3, 2, 11), 7
    x = torch.randn(total, units, 1, 1)
    together = make_dropout(batch=BatchRows(seed, total, range(total)))(x)
    assert set((together / x).unique().round(decimals=4).tolist()) == {0, 2}
    for size in (1, 2, 3):  # processes
        for part in (1, 2, 7):  # images of a micro-batch
            found = torch.empty_like(x)
            for rank in range(size):
                dropout, share = make_dropout(), range(rank, total, size)
                for start in range(0, len(share), part):
                    rows = share[start : start + part]
                    dropout.batch = BatchRows(seed, total, rows)
                    found[list(rows)] = dropout(x[list(rows)])
            assert torch.equal(found, together)
    assert not torch.equal(together, make_dropout(batch=BatchRows(seed, total, range(total)), layer=7)(x))


def test_without_a_batch_it_is_torchs_own_and_in_evaluation_it_does_nothing():
    x = torch.ones(8, 64, 1, 1)
    torch.manual_seed(0)
    expected = torch.nn.functional.dropout(x, 0.5)
    torch.manual_seed(0)
    assert torch.equal(make_dropout()(x), expected)
    assert make_dropout().eval()(x) is x
    assert make_dropout(p=0)(x) is x


def test_a_net_ties_both_layers_to_a_batch():
    net = VeryDeep("A", num_classes=3, crop=32, width=0.125).train()
    images = torch.randint(0, 256, (4, 3, 32, 32), dtype=torch.uint8)
    net.tie_dropout(BatchRows((0, 0, 0), 4, range(4)))
    first = net(images)
    assert torch.equal(first, net(images))
    net.tie_dropout(BatchRows((0, 0, 1), 4, range(4)))
    assert not torch.equal(first, net(images))
    net.set_dropout(0.0)
    assert torch.equal(net(images), net.eval()(images))
