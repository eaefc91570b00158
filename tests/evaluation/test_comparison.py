"""Comparisons against published examples, second implementations and simulated experiments."""

import numpy as np
import pytest
from scipy.stats import binom

from verydeep.evaluation.comparison import compare, holm, nested_difference, nested_error


def test_mcnemar_by_the_sum_of_binomial_chances():
    first, second = np.zeros(100, dtype=bool), np.zeros(100, dtype=bool)
    first[:12], second[8:12], second[20:23] = True, True, True  # 8 only the first, 3 only the second
    found = compare(first, second)
    assert (found.only_first_wrong, found.only_second_wrong, found.num_images) == (8, 3, 100)
    assert found.difference == pytest.approx(-0.05)
    assert found.p_value == pytest.approx(2 * binom.cdf(3, 11, 0.5))
    low, high = found.interval95
    assert low < found.difference < high
    half = 1.96 * np.sqrt((11 / 100 - 0.05**2) / 100)  # the normal approximation
    assert (low, high) == (pytest.approx(-0.05 - half, abs=0.012), pytest.approx(-0.05 + half, abs=0.012))
    assert compare(first, second) == found


def test_equal_tests_do_not_differ():
    same = np.arange(50) % 3 == 0
    found = compare(same, same)
    assert (found.difference, found.interval95, found.p_value) == (0, (0, 0), 1)


def test_the_other_way_round_changes_the_sign_alone():
    generator = np.random.default_rng(0)
    first, second = generator.random((2, 200)) < [[0.3], [0.2]]
    one, other = compare(first, second), compare(second, first)
    assert one.difference == -other.difference
    assert one.p_value == other.p_value


def test_holm_by_hand():
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.5, 0.9]) == pytest.approx([1.0, 1.0])
    assert holm([]) == []


def simulate(generator, seeds, images, seed_spread=0.4):
    """Errors that depend on the image, the seed and chance; their true mean is that of many draws."""
    hardness = generator.normal(-1, 1, images)
    skill = generator.normal(0, seed_spread, (seeds, 1))
    return generator.random((seeds, images)) < 1 / (1 + np.exp(-hardness - skill))


def test_nested_intervals_hold_the_truth_about_as_often_as_they_say():
    truth = simulate(np.random.default_rng(0), 3000, 2000).mean()
    held = 0
    for trial in range(150):
        errors = simulate(np.random.default_rng([1, trial]), 8, 200)
        mean, low, high = nested_error(errors, resamples=400, seed=trial)
        assert mean == pytest.approx(errors.mean())
        held += low <= truth <= high
    assert 0.85 <= held / 150 <= 1.0


def test_intervals_over_seeds_are_wider_than_over_images_alone():
    errors = simulate(np.random.default_rng(3), 6, 400, seed_spread=1.0)
    _, low, high = nested_error(errors, resamples=2000)
    _, low_of_images, high_of_images = nested_error(errors.mean(0, keepdims=True), resamples=2000)
    assert high - low > 1.5 * (high_of_images - low_of_images)


def test_a_difference_on_the_same_images_is_surer_than_on_others():
    generator = np.random.default_rng(4)
    hard = generator.random(500) < 0.4
    first = np.stack([hard ^ (generator.random(500) < 0.02) for _ in range(5)])
    second = np.stack([(hard & (np.arange(500) % 5 > 0)) ^ (generator.random(500) < 0.02) for _ in range(4)])
    difference, low, high = nested_difference(first, second, resamples=2000)
    assert difference == pytest.approx(second.mean() - first.mean())
    assert low < difference < high < 0
    _, low_of_second, high_of_second = nested_error(second, resamples=2000)
    assert high - low < high_of_second - low_of_second
