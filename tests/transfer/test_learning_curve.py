"""The learning curve: forecasts against the errors that twice the images give, where the law is known."""

import numpy as np
import pytest

from verydeep.transfer.classifier import fit_classifier, fit_fixed
from verydeep.transfer.learning_curve import learning_curve
from verydeep.transfer.metrics import accuracy, one_against_rest


def gaussian(generator, num_images, num_classes, dimensions, separation):
    """Descriptors of classes that are round and equally far from the middle."""
    means = np.random.default_rng(99).normal(size=(num_classes, dimensions))
    means *= separation / np.linalg.norm(means, axis=1, keepdims=True)
    labels = generator.integers(0, num_classes, num_images)
    return means[labels] + generator.normal(size=(num_images, dimensions)), labels


def curve_of(descriptors, labels, seed=0):
    num_classes = int(labels.max()) + 1
    classes = [f"class {index}" for index in range(num_classes)]
    targets = one_against_rest(labels, num_classes)
    fitted = fit_classifier(
        descriptors, targets, classes, lambda scores, wanted: accuracy(scores.argmax(1), wanted.argmax(1)), seed=seed
    )
    return learning_curve(descriptors, targets, fitted, classes, seed=seed), fitted


def true_error(generator, fitted, num_images, *law):
    """The error of a classifier at the same C on very many images."""
    (x, y), (tested, labels) = gaussian(generator, num_images, *law), gaussian(generator, 20_000, *law)
    scale = 1 / np.linalg.norm(x, axis=1).mean()
    weight, bias = fit_fixed(x * scale, one_against_rest(y, law[0]), fitted.kind, fitted.c)
    return np.mean((tested * scale @ weight.T + bias).argmax(1) != labels)


def test_the_forecast_is_the_error_of_twice_the_images():
    law, found = (5, 40, 3.0), []
    for seed in range(6):
        generator = np.random.default_rng(seed)
        curve, fitted = curve_of(*gaussian(generator, 400, *law), seed)
        assert curve.present.num_images == 400
        assert curve.forecast.num_images == 800
        truth = true_error(generator, fitted, 800, *law)
        low, high = curve.forecast.interval95
        found.append((curve.present.error, curve.forecast.error, truth, low <= truth <= high))
    present, forecast, truth, inside = np.mean(found, axis=0)
    assert forecast == pytest.approx(truth, abs=0.01)
    assert forecast < 0.95 * present
    assert inside >= 5 / 6
    assert "twice as many images of the same kind would probably bring the error" in str(curve)


def test_where_more_images_bring_nothing_little_is_promised():
    generator = np.random.default_rng(0)
    descriptors, labels = gaussian(generator, 600, 3, 2, 1.0)  # two dimensions are learnt from the first dozens
    curve, fitted = curve_of(descriptors, labels)
    truth = true_error(generator, fitted, 1200, 3, 2, 1.0)
    low, high = curve.forecast.interval95
    assert low <= truth <= high
    assert "would probably bring little" in str(curve)


def test_points_are_measured_on_held_out_images_with_shares_of_the_others():
    curve, fitted = curve_of(*gaussian(np.random.default_rng(1), 400, 5, 40, 3.0))
    sizes = [point.num_images for point in curve.points]
    assert sizes[-1] == 320
    assert sizes[:3] == pytest.approx([40, 80, 160], rel=0.05)
    assert curve.points[0].error > curve.points[-1].error
    assert curve.points[-1].error == pytest.approx(1 - fitted.held_out[fitted.c])
    assert all(low < point.error < high for point in curve.points for low, high in [point.interval95])
    assert curve.as_record()["text"] == str(curve)


def test_nothing_is_said_of_few_images_few_errors_or_errors_that_rise():
    generator = np.random.default_rng(2)
    few, _ = curve_of(*gaussian(generator, 24, 5, 40, 3.0))
    right, _ = curve_of(*gaussian(generator, 400, 3, 40, 12.0))
    assert "images, too few to draw from" in str(few)
    assert "of 400 held-out images are wrong" in str(right)
    x, y = gaussian(generator, 400, 5, 40, 3.0)
    held_out = curve_of(x, y)[1]
    held_out.cross_validation.scores[:200] *= -1  # as if all images together gave a bad classifier
    rising = learning_curve(x, one_against_rest(y, 5), held_out, list("abcde"))
    assert "the error rises with more images" in str(rising)
    for curve in (few, right, rising):
        assert curve.forecast is None
        assert curve.as_record()["forecast"] is None
