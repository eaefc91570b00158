"""fc6 begins as linear functions of each position of the map, fitted by least squares."""

import numpy as np
import pytest
import torch

from boxed_sets import boxed_images
from small_nets import make_net
from verydeep.device import fp32_choice
from verydeep.images.augment import CropPlace
from verydeep.localisation.cells import begin_from_cells, covered, distances, fit_cells, num_functions
from verydeep.localisation.maps import store_views
from verydeep.localisation.targets import covered_shares
from verydeep.progress import ignore_progress

WHOLE = CropPlace(size=(64, 64), original=(64, 64), left=0, top=0, crop=64, mirrored=False)


def test_the_share_of_a_position_that_a_box_covers():
    found = covered_shares(np.array([[0.0, 16, 32, 48], [48, 0, 64, 64]]), WHOLE, 2)
    assert found.tolist() == [[0.5, 0.5], [0.5, 0.5]]
    assert covered_shares(np.array([[40.0, 40, 56, 200]]), WHOLE, 2).tolist() == [[0, 0], [0, 0.375]]


def test_shares_of_several_classes():
    shares = torch.tensor([[[0.0, 1.0], [0.0, 0.5]]])
    assert torch.equal(covered(shares, torch.tensor([0]), 1), shares[:, None])
    several = covered(shares.repeat(2, 1, 1), torch.tensor([0, 2]), 3)
    assert several.shape == (2, 4, 2, 2)
    assert torch.equal(several[:, 1:].sum(1), several[:, 0])
    assert several[1, 1:3].abs().sum() == 0
    assert [num_functions(count) for count in (1, 3, 1000)] == [5, 8, 5]


def test_distances_to_the_sides_of_the_box():
    found = distances(torch.tensor([[0.5, 0.25, 1.0, 0.5]]), 2)
    assert found[0].tolist() == [
        [[0.25, 0.75], [0.25, 0.75]],  # left
        [[0.25, 0.25], [0.75, 0.75]],  # top
        [[0.75, 0.25], [0.75, 0.25]],  # right
        [[0.25, 0.25], [-0.25, -0.25]],  # bottom
    ]


def test_the_functions_are_those_of_least_squares():
    generator = torch.Generator().manual_seed(0)
    maps = torch.randn(400, 5, 3, 3, generator=generator)
    true = torch.tensor([[1.0, -2, 0, 0.5, 3, 0.7], [0, 1, 1, 0, 0, -1]])
    wanted = torch.einsum("mc,ncyx->nmyx", true[:, :5], maps) + true[:, 5, None, None]
    found = fit_cells([maps[:150], maps[150:]], [wanted[:150], wanted[150:]])
    assert found == pytest.approx(true, abs=0.02)
    noise = torch.where(torch.arange(3) == 1, 100.0, 0.0).expand(400, 2, 3, 3)
    counted = (torch.arange(3) != 1).float().expand(400, 3, 3)
    assert fit_cells([maps], [wanted + noise], [counted]) == pytest.approx(true, abs=0.02)


def test_fc6_says_it_at_every_position():
    net = make_net("A", crop=64, width=0.25, hidden=24, num_classes=4)
    boxed = boxed_images("train", 24, num_classes=1)
    stored = store_views(net, boxed, fp32_choice("cpu"), views=3, seed=0, mirror=True, progress=ignore_progress)
    assert begin_from_cells(net, stored, 1) == 5
    maps, shares = torch.cat(list(stored.maps)).float(), torch.cat(list(stored.shares))
    with torch.no_grad():
        fc6 = net.relu6(net.fc6(maps)).flatten(1)
        covered = fc6[:, :4]
        assert fc6[:, :4].std(0) == pytest.approx(torch.ones(4), abs=1e-3)
        assert fc6[:, 20:].abs().sum() == 0  # no function is left for these
    together = np.corrcoef(covered.flatten().numpy(), shares.flatten().numpy())[0, 1]
    assert together > 0.5
