"""fc6 without the pooling before it: the same sums as with it."""

import pytest
import torch
import torch.nn.functional as F

from verydeep.weights.imported import fold_adaptive_pool, pooling_matrix


def test_one_place_is_repeated_49_times_so_its_weight_is_their_sum():
    weight = torch.randn(5, 3, 7, 7)
    expected = weight.double().sum((2, 3), keepdim=True).float()
    assert torch.allclose(fold_adaptive_pool(weight, 1), expected, rtol=1e-6, atol=0)


@pytest.mark.parametrize("side", [1, 2, 3, 5, 6, 7, 8, 14])
def test_the_sums_are_those_after_pooling(side):
    weight, map_ = torch.randn(130, 3, 7, 7), torch.randn(2, 3, side, side)
    with_pooling = F.conv2d(F.adaptive_avg_pool2d(map_.double(), 7), weight.double())
    without = F.conv2d(map_.double(), fold_adaptive_pool(weight, side).double())
    assert torch.allclose(with_pooling, without, atol=1e-5)


def test_at_its_own_side_nothing_changes():
    weight = torch.randn(4, 3, 7, 7)
    assert torch.equal(fold_adaptive_pool(weight, 7), weight)


def test_each_pooled_place_is_a_mean():
    assert torch.allclose(pooling_matrix(3, 7).sum(1), torch.ones(7, dtype=torch.float64))
