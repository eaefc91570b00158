"""Loss and score of boxes, checked against loops."""

import numpy as np
import pytest
import torch

from verydeep.localisation.objective import BoxRegression, chance_of_boxes, codes_of, iou_of_codes, mean_codes

TARGETS = torch.tensor([[0, 0.5, 0.5, 0.4, 0.2], [1, 0.2, 0.3, 0.2, 0.2], [1, 0.4, 0.3, 0.2, 0.4]])


def iou_by_loop(first, second) -> float:
    a, b = ((x - w / 2, y - h / 2, x + w / 2, y + h / 2) for x, y, w, h in (first, second))
    across, down = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    inside = max(across, 0) * max(down, 0)
    return inside / (first[2] * first[3] + second[2] * second[3] - inside)


def test_the_loss_is_half_the_squared_distance_of_the_box_of_the_true_class():
    outputs = torch.randn(3, 8, generator=torch.Generator().manual_seed(0), requires_grad=True)
    loss = BoxRegression("pcr").loss(outputs, TARGETS)
    expected = [
        sum((outputs[row, 4 * int(label) + number].item() - value) ** 2 for number, value in enumerate(code)) / 2
        for row, (label, *code) in enumerate(TARGETS.tolist())
    ]
    assert loss.tolist() == pytest.approx(expected, rel=1e-5)
    loss.sum().backward()
    assert (outputs.grad != 0).nonzero().tolist() == [
        *([0, number] for number in range(4)),
        *([1, number] for number in range(4, 8)),
        *([2, number] for number in range(4, 8)),
    ]


def test_of_one_box_for_all_classes_every_output_counts():
    outputs = torch.randn(3, 4, generator=torch.Generator().manual_seed(0))
    assert torch.equal(BoxRegression("scr").codes(outputs, TARGETS), outputs)


def test_the_score_counts_boxes_that_overlap_too_little():
    exact = TARGETS[:, 1:]
    objective = BoxRegression("scr")
    assert objective.score(exact, TARGETS).tolist() == [0, 0, 0]
    half = exact * torch.tensor([1, 1, 1, 0.49])
    assert objective.score(half, TARGETS).tolist() == [1, 1, 1]
    more = exact * torch.tensor([1, 1, 1, 0.52])
    assert objective.score(more, TARGETS).tolist() == [0, 0, 0]
    assert objective.score(exact * torch.tensor([1, 1, -1, 1]), TARGETS).tolist() == [1, 1, 1]


def test_the_overlap_is_that_of_a_loop():
    generator = np.random.default_rng(0)
    boxes = generator.uniform(0.1, 0.6, (2, 200, 4))
    expected = [iou_by_loop(first, second) for first, second in zip(*boxes, strict=True)]
    assert iou_of_codes(*torch.from_numpy(boxes)).tolist() == pytest.approx(expected)


def test_chance_is_the_mean_box_of_each_class():
    means = mean_codes(TARGETS, "pcr", 3).reshape(3, 4)
    assert torch.allclose(means[0], TARGETS[0, 1:])
    assert torch.allclose(means[1], TARGETS[1:, 1:].mean(0))
    assert torch.allclose(means[2], TARGETS[:, 1:].mean(0))  # without images: the mean of all
    chance = chance_of_boxes(TARGETS, "pcr", 3)
    assert chance.loss == pytest.approx(2 * (0.1**2 + 0.1**2) / 2 / 3)
    assert chance_of_boxes(TARGETS, "scr", 3).loss > chance.loss


def test_codes_of_a_class_are_its_four_outputs():
    outputs = torch.arange(24).reshape(2, 12).float()
    assert codes_of(outputs, torch.tensor([2, 0]), "pcr").tolist() == [[8, 9, 10, 11], [12, 13, 14, 15]]
