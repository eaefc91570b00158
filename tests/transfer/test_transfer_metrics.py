"""Recall and average precision against scikit-learn and against slow loops in the words of the VOC's own code."""

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, balanced_accuracy_score, precision_recall_curve

from verydeep.transfer.metrics import (
    accuracy,
    average_precision,
    average_precisions,
    class_recalls,
    mean_average_precision,
    mean_class_recall,
    one_against_rest,
)


def voc_code(scores, targets, area):
    """VOCevalcls.m and VOCap.m, line by line, for scores without ties."""
    order = sorted((index for index in range(len(scores)) if targets[index]), key=lambda index: -scores[index])
    recalls, precisions = [], []
    true = false = 0
    for index in order:
        true, false = true + (targets[index] > 0), false + (targets[index] < 0)
        recalls.append(true / sum(target > 0 for target in targets))
        precisions.append(true / (true + false))
    if area == "eleven-points":
        total = 0.0
        for tenth in range(11):
            total += max((p for p, r in zip(precisions, recalls, strict=True) if r >= tenth / 10 - 1e-9), default=0)
        return total / 11
    mrec, mpre = [0, *recalls, 1], [0, *precisions, 0]
    for index in range(len(mpre) - 2, -1, -1):
        mpre[index] = max(mpre[index], mpre[index + 1])
    return sum((mrec[index] - mrec[index - 1]) * mpre[index] for index in range(1, len(mrec)))


@pytest.mark.parametrize("area", ["eleven-points", "area"])
@pytest.mark.parametrize("seed", range(30))
def test_average_precision_is_that_of_the_vocs_code(seed, area):
    generator = np.random.default_rng(seed)
    number = int(generator.integers(1, 60))
    targets = generator.choice([-1, 0, 1], number, p=[0.6, 0.1, 0.3]).astype(np.int8)
    targets[generator.integers(number)] = 1
    scores = generator.permutation(number) / 7 + targets * generator.uniform(0, 5)
    if len(set(scores)) == number:
        assert average_precision(scores, targets, area) == pytest.approx(voc_code(scores, targets, area), abs=1e-12)


@pytest.mark.parametrize("seed", range(20))
def test_the_area_with_ties_against_scikit_learns_curve(seed):
    """Scikit-learn does not interpolate: its curve with the best precision at each recall or higher gives ours."""
    generator = np.random.default_rng(seed)
    positive = generator.random(50) < 0.3
    positive[0] = True
    scores = np.round(generator.normal(size=50) + positive, 1)  # many ties
    precision, recall, _ = precision_recall_curve(positive, scores)
    best = np.maximum.accumulate(precision)  # from the highest recall to the lowest
    expected = -np.sum(np.diff(recall) * best[:-1])
    found = average_precision(scores, np.where(positive, 1, -1))
    assert found == pytest.approx(expected, abs=1e-12)
    assert found >= average_precision_score(positive, scores) - 1e-12


def test_the_area_is_scikit_learns_where_precision_only_falls():
    targets = np.array([1, 1, 1, -1, 1, -1, -1, -1])
    scores = np.arange(8.0)[::-1]
    assert average_precision(scores[:4], targets[:4]) == average_precision_score(targets[:4] > 0, scores[:4]) == 1
    assert average_precision(scores, targets) == pytest.approx(average_precision_score(targets > 0, scores))


def test_numbers_by_hand():
    scores, targets = np.array([4.0, 3, 2, 1]), np.array([1, -1, 1, -1])
    assert average_precision(scores, targets) == pytest.approx(0.5 + 0.5 * 2 / 3)
    assert average_precision(scores, targets, "eleven-points") == pytest.approx((6 + 5 * 2 / 3) / 11)
    assert average_precision(np.zeros(4), targets) == 0.5  # all tied: the share that shows the class


@pytest.mark.parametrize("area", ["eleven-points", "area"])
def test_difficult_images_count_as_neither(area):
    scores, targets = np.array([9.0, 4, 3, 2, 1]), np.array([0, 1, -1, 1, -1])
    assert average_precision(scores, targets, area) == average_precision(scores[1:], targets[1:], area)
    assert average_precision(scores, np.array([0, -1, -1, -1, -1]), area) is None


@pytest.mark.parametrize("count", range(1, 41))
def test_eleven_points_of_a_perfect_ranking_are_one(count):
    """Also where 3 of 10 is a hair below 0.3."""
    scores = np.arange(2.0 * count)
    assert average_precision(scores, np.where(scores < count, -1, 1), "eleven-points") == 1


def test_means_leave_out_what_no_image_shows():
    scores = np.array([[3.0, 1, 0], [2, 5, 0], [1, 2, 0]])
    targets = np.array([[1, -1, -1], [-1, 1, -1], [1, -1, -1]], dtype=np.int8)
    first = average_precision(scores[:, 0], targets[:, 0])
    assert average_precisions(scores, targets) == [first, 1.0, None]
    assert mean_average_precision(scores, targets) == pytest.approx((first + 1) / 2)
    assert np.isnan(mean_average_precision(scores, -np.ones((3, 3), np.int8)))


def test_recall_and_accuracy_against_scikit_learn():
    generator = np.random.default_rng(0)
    labels, predicted = generator.integers(0, 5, 200), generator.integers(0, 5, 200)
    assert mean_class_recall(predicted, labels, 5) == pytest.approx(balanced_accuracy_score(labels, predicted))
    assert accuracy(predicted, labels) == np.mean(labels == predicted)
    assert class_recalls(np.array([0, 0, 2]), np.array([0, 1, 1]), 4) == [1, 0, None, None]
    assert mean_class_recall(np.array([0, 0, 2]), np.array([0, 1, 1]), 4) == 0.5


def test_one_against_rest():
    assert one_against_rest(np.array([1, 0]), 3).tolist() == [[-1, 1, -1], [1, -1, -1]]
