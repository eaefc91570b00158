"""The temperature of scores, folded into a net, and the expected calibration error."""

import copy

import numpy as np
import pytest
import torch

from small_nets import make_net, photos
from verydeep.errors import UsageError, UserError
from verydeep.nets.model_file import load_file, save
from verydeep.testing.calibration import (
    best_temperature,
    calibrate,
    calibration_error,
    fold_temperature,
    scores_of,
)
from verydeep.testing.measure import softmax
from verydeep.transfer.metrics import one_against_rest


def drawn(count, *, spread=2.0, classes=5, seed=0):
    """Scores, and labels drawn by their soft-max: calibrated by construction."""
    generator = np.random.default_rng(seed)
    scores = spread * generator.normal(size=(count, classes))
    labels = (softmax(scores).cumsum(1) < generator.random((count, 1))).sum(1)
    return scores, labels


def test_the_temperature_is_that_of_a_fine_search():
    generator = np.random.default_rng(0)
    scores = generator.normal(size=(300, 3))
    targets = one_against_rest((scores + 0.7 * generator.normal(size=scores.shape)).argmax(1), 3)

    def loss(scaled, wanted):
        powers = np.exp(scaled)
        return float(-np.log((powers / powers.sum(1, keepdims=True))[wanted > 0]).mean())

    tried = np.exp(np.linspace(-4, 3, 4000))
    expected = tried[np.argmin([loss(scores / one, targets) for one in tried])]
    assert best_temperature(scores, targets, loss) == pytest.approx(expected, rel=0.01)


@pytest.mark.parametrize(("spread", "classes"), [(1, 2), (2, 5), (4, 30)])
def test_calibrated_scores_have_the_temperature_one(spread, classes):
    found = [calibrate(*drawn(3000, spread=spread, classes=classes, seed=seed)) for seed in range(4)]
    assert found == pytest.approx([1.0] * 4, abs=0.12)
    assert np.mean(found) == pytest.approx(1, abs=0.05)


@pytest.mark.parametrize("factor", [0.25, 3.0])
def test_scores_too_sure_or_too_shy_are_divided_by_their_factor(factor):
    scores, labels = drawn(3000)
    assert calibrate(factor * scores, labels) == pytest.approx(factor * calibrate(scores, labels), rel=0.01)
    assert calibrate(scores_of(softmax(factor * scores)), labels) == pytest.approx(
        calibrate(factor * scores, labels), rel=0.01
    )


def test_without_an_error_the_temperature_is_not_zero():
    scores = np.eye(3).repeat(20, 0)
    temperature = calibrate(scores, np.arange(3).repeat(20))
    sureness = softmax(scores / temperature).max(1)
    assert 0.02 < temperature < 1
    assert 0.9 < sureness.min() < 1


def test_a_net_that_is_too_sure_is_calibrated_in_place_and_ranks_as_before(tmp_path):
    net, images = make_net(), photos(64, 96, 3)
    net.fc8.weight.data *= 3
    net.fc8.bias.data *= 3
    before = copy.deepcopy(net)
    scores, labels = drawn(3000, classes=7)
    temperature = fold_temperature(net, 3 * scores, labels)
    assert temperature == pytest.approx(3, rel=0.1)
    assert torch.allclose(net.score_map(images) * temperature, before.score_map(images), rtol=1e-4, atol=1e-6)
    assert torch.equal(net.score_map(images).argmax(1), before.score_map(images).argmax(1))
    assert fold_temperature(net, 3 * scores / temperature, labels) == pytest.approx(1, rel=0.01)
    save(net, tmp_path / "net.safetensors")
    assert torch.equal(load_file(tmp_path / "net.safetensors")(images), net(images))


def test_the_calibration_error_of_what_is_known():
    scores, labels = drawn(20_000)
    posteriors = softmax(scores)
    assert calibration_error(posteriors, labels) < 0.012
    assert calibration_error(softmax(4 * scores), labels) > 0.1
    sure = np.eye(2)[[0, 0, 1, 1]]
    assert calibration_error(sure, np.array([0, 1, 1, 0])) == 0.5
    assert calibration_error(sure, np.array([0, 0, 1, 1])) == 0
    assert calibration_error(np.array([[0.75, 0.25]] * 4), np.array([0, 0, 0, 1])) == 0


def test_what_has_no_temperature():
    with pytest.raises(UsageError, match="0 images of 3 classes"):
        calibrate(np.zeros((0, 3)), np.zeros(0, dtype=int))
    with pytest.raises(UserError, match="has no classes"):
        fold_temperature(make_net(features_only=True), *drawn(5))
