"""Loss and score of a batch: classes against their definition, and another objective in the same loop."""

import pytest
import torch
import torch.nn.functional as F

from verydeep.data.open import open_data
from verydeep.device import Compute
from verydeep.nets.net import VeryDeep
from verydeep.training.loop import make_optimiser
from verydeep.training.objective import Classification, classification_for
from verydeep.training.recipe import find_recipe
from verydeep.training.update import update


def test_the_score_of_classes_is_whether_they_are_wrong():
    outputs = torch.tensor([[3.0, 1, 2], [0, 1, 0], [5, 6, 7]])
    targets = torch.tensor([0, 2, 2])
    assert Classification().score(outputs, targets).tolist() == [0, 1, 0]
    smoothed = Classification(label_smoothing=0.3).loss(outputs, targets)
    posteriors = outputs.softmax(1).log()
    expected = -(0.7 * posteriors[range(3), targets] + 0.3 * posteriors.mean(1))
    assert torch.allclose(smoothed, expected)


def test_rare_classes_weigh_more_where_the_recipe_balances_by_loss(make_folder):
    images = open_data(make_folder("uneven", {"rare": 10, "usual": 40})).train
    weights = classification_for(find_recipe("quick", balance="loss"), images).class_weights
    assert weights is not None
    labels = torch.from_numpy(images.labels)
    assert weights[labels].mean().item() == pytest.approx(1)
    rare, usual = (labels == 0).sum().item(), (labels == 1).sum().item()
    assert (rare * weights[0]).item() == pytest.approx((usual * weights[1]).item())
    assert classification_for(find_recipe("quick"), images) == Classification()


class Boxes:
    """Four numbers of each image, as localisation has them."""

    def loss(self, outputs, targets):
        return F.smooth_l1_loss(outputs.float(), targets, reduction="none").sum(1)

    def score(self, outputs, targets):
        return (outputs - targets).abs().amax(1)


def test_an_update_learns_boxes_as_it_learns_classes():
    generator = torch.Generator().manual_seed(0)
    net = VeryDeep("A", num_classes=4, crop=32, width=0.125, initialisation="kaiming", generator=generator).train()
    compute = Compute(device="cpu", precision="fp32", channels_last=False, threads=1)
    optimiser = make_optimiser(net, find_recipe("quick", learning_rate=0.02, dropout=0))
    net.set_dropout(0)
    images = torch.randint(0, 256, (6, 3, 32, 32), dtype=torch.uint8, generator=generator)
    boxes = torch.rand(6, 4, generator=generator)
    sums = [update(net, optimiser, images, boxes, compute, Boxes()) for _ in range(30)]
    assert sums[-1][0] < 0.5 * sums[0][0]
    assert sums[-1][1] < sums[0][1]
