"""The linear classifier: scikit-learn's, folded; its C, its temperature, and the sets it cannot be fitted on."""

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.svm import LinearSVC

from verydeep.errors import UserError
from verydeep.transfer.classifier import FOLDS, GRID, fit_classifier, folds
from verydeep.transfer.metrics import mean_average_precision, one_against_rest


def accuracy(scores, targets):
    return float(np.mean(targets[np.arange(len(scores)), scores.argmax(1)] > 0))


def blobs(count=240, classes=4, seed=0, spread=1.2, dimensions=24):
    generator = np.random.default_rng(seed)
    centres = np.random.default_rng(7).normal(size=(classes, dimensions))
    labels = generator.integers(0, classes, count)
    labels[:classes] = range(classes)[:count]
    descriptors = centres[labels] + spread * generator.normal(size=(count, dimensions))
    return (np.abs(descriptors) * 30).astype(np.float32), labels


NAMES = tuple("abcdefghij")


@pytest.mark.parametrize(("kind", "make"), [
    ("svm", lambda c: LinearSVC(C=c, dual=False)),
    ("logistic", lambda c: LogisticRegression(C=c, solver="liblinear")),
])  # fmt: skip
def test_scores_are_those_of_scikit_learn_on_scaled_descriptors(kind, make):
    x, labels = blobs()
    new, _ = blobs(seed=1)
    targets = one_against_rest(labels, 4)
    fitted = fit_classifier(x, targets, NAMES[:4], accuracy, kind=kind)
    scale = 1 / np.linalg.norm(x, axis=1).mean()
    assert fitted.scale == pytest.approx(scale)
    assert fitted.c in GRID[kind]
    for index in range(4):
        theirs = make(fitted.c).fit(x.astype(np.float64) * scale, labels == index)
        expected = theirs.decision_function(new * scale)
        np.testing.assert_allclose(fitted.scores(new)[:, index] * fitted.temperature, expected, atol=2e-3)


def test_c_is_the_best_of_the_cross_validation_and_the_smaller_of_equals():
    x, labels = blobs(spread=3)
    targets = one_against_rest(labels, 4)
    fitted = fit_classifier(x, targets, NAMES[:4], accuracy)
    best = max(fitted.held_out.values())
    assert fitted.c == min(c for c, value in fitted.held_out.items() if value == best)
    parts = folds(targets, 0)
    scaled = x.astype(np.float64) * fitted.scale
    scores = np.zeros((len(x), 4))
    for part in range(FOLDS):
        for index in range(4):
            svm = LinearSVC(C=fitted.c, dual=False).fit(scaled[parts != part], labels[parts != part] == index)
            scores[parts == part, index] = svm.decision_function(scaled[parts == part])
    assert accuracy(scores, targets) == pytest.approx(best, abs=0.01)


def test_the_same_seed_gives_the_same_classifier_and_metric_of_ours_may_choose():
    x, labels = blobs(count=60, dimensions=100)
    targets = one_against_rest(labels, 4)
    first, second = (fit_classifier(x, targets, NAMES[:4], mean_average_precision, seed=3) for _ in range(2))
    assert np.array_equal(first.weight, second.weight)
    assert np.array_equal(first.bias, second.bias)
    assert first.held_out == second.held_out


def test_fewer_images_than_dimensions():
    """In the span of the images, which changes nothing."""
    x, labels = blobs(count=60, dimensions=300)
    new, _ = blobs(count=60, dimensions=300, seed=1)
    fitted = fit_classifier(x, one_against_rest(labels, 4), NAMES[:4], accuracy)
    for index in range(4):
        theirs = LinearSVC(C=fitted.c, dual=False, tol=1e-6).fit(x.astype(np.float64) * fitted.scale, labels == index)
        expected = theirs.decision_function(new * fitted.scale)
        np.testing.assert_allclose(fitted.scores(new)[:, index] * fitted.temperature, expected, atol=2e-3)


def test_two_classes_share_one_plane():
    x, labels = blobs(classes=2)
    fitted = fit_classifier(x, one_against_rest(labels, 2), NAMES[:2], accuracy)
    scores = fitted.scores(x)
    np.testing.assert_allclose(scores[:, 0], -scores[:, 1])
    assert np.mean(scores.argmax(1) == labels) > 0.9


def test_the_temperature_makes_the_posterior_of_new_images_as_sure_as_it_is_right():
    x, labels = blobs(count=400, spread=2.5)
    new, truth = blobs(count=2000, spread=2.5, seed=1)
    fitted = fit_classifier(x, one_against_rest(labels, 4), NAMES[:4], accuracy)
    powers = np.exp(fitted.scores(new))
    posteriors = powers / powers.sum(1, keepdims=True)
    assert posteriors.max(1).mean() == pytest.approx(np.mean(posteriors.argmax(1) == truth), abs=0.04)


def test_several_labels_an_image_and_difficult_ones():
    generator = np.random.default_rng(0)
    x = np.abs(generator.normal(size=(200, 12))).astype(np.float32)
    targets = np.where(x[:, :3] > 0.8, 1, -1).astype(np.int8)
    targets[:40, 1] = 0
    fitted = fit_classifier(x, targets, NAMES[:3], mean_average_precision, multi_label=True)
    assert mean_average_precision(fitted.scores(x), targets) > 0.9
    changed = targets.copy()
    changed[:40, 1] = 0
    assert np.array_equal(
        fit_classifier(x, changed, NAMES[:3], mean_average_precision, multi_label=True).weight, fitted.weight
    )
    sigmoid = 1 / (1 + np.exp(-fitted.scores(x)))
    assert np.abs(sigmoid.mean(0) - (targets > 0).mean(0)).max() < 0.2


def test_folds_deal_each_class_evenly_and_keep_an_only_image_for_every_fit():
    labels = np.array([0] * 11 + [1] * 5 + [2])
    parts = folds(one_against_rest(labels, 3), 0)
    assert parts[-1] == -1
    assert sorted(np.bincount(parts[:11])) == [2, 2, 2, 2, 3]
    assert sorted(parts[11:16]) == [0, 1, 2, 3, 4]
    assert not np.array_equal(parts, folds(one_against_rest(labels, 3), 1))
    several = np.array([[1, 1], [1, -1], [1, 1], [-1, -1], [-1, -1]], dtype=np.int8)
    assert folds(several, 0)[1] == -1  # the only one that counts for the first class
    x, _ = blobs(count=17)
    assert fit_classifier(x, one_against_rest(labels, 3), NAMES[:3], accuracy).weight.shape == (3, 24)


def test_one_image_a_class_leaves_nothing_to_choose_by():
    x, _ = blobs(count=3)
    fitted = fit_classifier(x, one_against_rest(np.arange(3), 3), NAMES[:3], accuracy)
    assert fitted.scores(x).argmax(1).tolist() == [0, 1, 2]


@pytest.mark.parametrize(
    ("targets", "names", "complaint"),
    [
        (np.ones((4, 1), np.int8), "a", "there is one class, a: a classifier needs at least two"),
        (one_against_rest(np.zeros(4, int), 2), "ab", "every training image shows a"),
        (one_against_rest(np.array([0, 1, 0, 1]), 3), "abc", "no training image shows c"),
    ],
)
def test_what_cannot_be_fitted(targets, names, complaint):
    with pytest.raises(UserError, match=complaint):
        fit_classifier(np.ones((4, 3), np.float32), targets, tuple(names), accuracy)


def test_a_few_images_that_are_all_right_give_no_certainty():
    x, labels = blobs(count=20, spread=0.05)
    scores = fit_classifier(x, one_against_rest(labels, 4), NAMES[:4], accuracy).scores(x)
    powers = np.exp(scores - scores.max(1, keepdims=True))
    assert 0.8 < (powers / powers.sum(1, keepdims=True)).max(1).mean() < 0.99


def test_large_sets_hold_one_part_out(monkeypatch):
    x, labels = blobs(spread=3)
    targets = one_against_rest(labels, 4)
    monkeypatch.setattr("verydeep.transfer.classifier.MOST_NUMBERS", x.size - 1)
    held_out = folds(targets, 0) == 0
    steps = []
    fitted = fit_classifier(x, targets, NAMES[:4], accuracy, progress=lambda *step: steps.append(step))
    assert steps[-1][2] == len(GRID["svm"]) + 1
    scaled = x.astype(np.float64) * fitted.scale
    scores = np.stack(
        [
            LinearSVC(C=fitted.c, dual=False)
            .fit(scaled[~held_out], labels[~held_out] == index)
            .decision_function(scaled[held_out])
            for index in range(4)
        ],
        1,
    )
    assert accuracy(scores, targets[held_out]) == pytest.approx(max(fitted.held_out.values()), abs=0.03)
