"""Labels that are probably wrong: wrong ones that were injected, and data without any."""

import numpy as np
import pytest
from test_learning_curve import curve_of, gaussian

from verydeep.transfer.labels import describe_doubtful, find_doubtful_labels


def injected(seed, num_classes, separation, share):
    """Held-out scores, the labels that were given, and the true ones."""
    generator = np.random.default_rng(seed)
    descriptors, true = gaussian(generator, 800, num_classes, 32, separation)
    moved = generator.random(len(true)) < share
    given = np.where(moved, (true + generator.integers(1, num_classes, len(true))) % num_classes, true)
    _, fitted = curve_of(descriptors, given)
    return fitted.cross_validation.scores, given, true


@pytest.mark.parametrize("num_classes", [2, 8])
@pytest.mark.parametrize("seed", range(2))
def test_wrong_labels_are_found_with_the_right_class(seed, num_classes):
    scores, given, true = injected(seed, num_classes, 7.0, 0.03)
    found = find_doubtful_labels(scores, given, most=100)
    right = sum(true[each.index] != given[each.index] and each.suggested == true[each.index] for each in found)
    assert right / len(found) > 0.9
    assert right / (true != given).sum() > 0.85
    for each in found:
        assert each.given == given[each.index] != each.suggested
        assert each.given_posterior < 0.1 < 0.5 < each.posterior
    doubts = [each.given_posterior for each in found]
    assert doubts == sorted(doubts)


@pytest.mark.parametrize("seed", range(3))
def test_classes_that_overlap_are_no_wrong_labels(seed):
    scores, given, _ = injected(seed, 4, 2.2, 0.0)
    assert np.mean(scores.argmax(1) != given) > 0.1
    assert len(find_doubtful_labels(scores, given)) <= 2


def test_labels_that_are_all_right():
    scores, given, _ = injected(0, 3, 12.0, 0.0)
    assert find_doubtful_labels(scores, given) == []
    assert find_doubtful_labels(scores[:0], given[:0]) == []
    assert describe_doubtful([], 800) == "no label of the 800 training images looks wrong"


def test_the_scale_of_scores_does_not_matter_and_some_dozens_are_enough():
    scores, given, _ = injected(3, 8, 7.0, 0.1)
    first = [each.index for each in find_doubtful_labels(scores, given, most=20)]
    assert len(first) == 20
    assert [each.index for each in find_doubtful_labels(7 * scores, given, most=20)] == first
    many = find_doubtful_labels(scores, given)
    assert describe_doubtful(many, 800).startswith("at least 36 labels of the 800 training images are probably wrong")
