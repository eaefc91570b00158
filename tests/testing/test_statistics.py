"""Comparisons, also over seeds, against published examples, second implementations and simulated experiments."""

import numpy as np
import pytest
from scipy.stats import binom, binomtest, bootstrap, ttest_1samp

from verydeep.testing.statistics import Spread, all_below, compare, estimate, holm, moments, power


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


@pytest.mark.parametrize(("one", "other"), [(0, 0), (0, 1), (5, 5), (3, 17), (400, 520), (9000, 9300)])
def test_p_values_and_intervals_are_scipys(one, other):
    count = 2 * (one + other) + 10
    first, second = np.zeros(count, dtype=bool), np.zeros(count, dtype=bool)
    first[:one], second[one : one + other] = True, True
    found = compare(first, second)
    assert found.p_value == pytest.approx(binomtest(one, one + other).pvalue if one + other else 1.0, rel=1e-8)
    if one + other > 100:
        return
    differences = second.astype(float) - first
    spread = differences.std() / np.sqrt(count)
    if spread:
        low, high = bootstrap(
            (differences,), np.mean, n_resamples=9999, method="percentile", rng=np.random.default_rng(1)
        ).confidence_interval
        assert found.interval95 == pytest.approx((low, high), abs=0.12 * spread)


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
    return (generator.random((seeds, images)) < 1 / (1 + np.exp(-hardness - skill))).astype(float)


@pytest.mark.parametrize("seeds", [2, 3, 8])
def test_intervals_hold_the_truth_at_least_as_often_as_they_say(seeds):
    truth = simulate(np.random.default_rng(0), 3000, 2000).mean()
    held = 0
    for trial in range(300):
        errors = simulate(np.random.default_rng([1, trial]), seeds, 200)
        found = estimate(errors)
        assert found.difference == pytest.approx(errors.mean())
        low, high = found.interval()
        held += low <= truth <= high
    assert held / 300 >= 0.93


def test_with_many_images_the_interval_is_students_over_the_seeds():
    errors = simulate(np.random.default_rng(3), 3, 50_000, seed_spread=1.0)
    low, high = estimate(errors).interval()
    of_seeds = errors.mean(1)
    assert (low, high) == pytest.approx(ttest_1samp(of_seeds, 0).confidence_interval(), rel=0.01)


def test_with_one_seed_the_interval_is_that_over_the_images():
    errors = np.arange(10_000)[None] % 4 == 0
    low, high = estimate(errors.astype(float)).interval()
    assert (low, high) == pytest.approx((0.25 - 1.96 * 0.00433, 0.25 + 1.96 * 0.00433), abs=1e-4)


def test_no_difference_on_few_images_proves_nothing():
    low, high = estimate(np.zeros((3, 36))).interval()
    assert low < -0.05 < 0.05 < high
    assert estimate(np.zeros((3, 36)), reach=0.5).interval()[1] == pytest.approx(high / 2)


def test_ends_of_an_interval():
    found = estimate(simulate(np.random.default_rng(4), 4, 500))
    assert found.interval() == (found.end(0.025), found.end(0.975))
    assert found.interval(0.99)[0] < found.interval(0.95)[0] < found.difference < found.end(0.6)


def test_moments_of_many_trials_are_those_of_each():
    generator = np.random.default_rng(5)
    values = generator.normal(size=(4, 3, 50))
    difference, of_seeds, of_images = moments(values)
    for number, one in enumerate(values):
        found = estimate(one)
        assert found.difference == pytest.approx(difference[number])
        assert found.spread.seed_variance == pytest.approx(of_seeds[number])
        assert found.spread.seed_variance == pytest.approx(one.mean(1).var(ddof=1) / 3)
        assert found.spread.image_variance == pytest.approx(of_images[number])


def test_power_is_how_often_simulated_contrasts_lie_below():
    spread, generator = Spread(0.003**2 / 3, 0.3**2 / 1000, 3, 1000), np.random.default_rng(6)
    seen = 0
    for _ in range(400):
        effects = generator.normal(0, 0.003, (3, 1)) + generator.normal(0, 0.3, (1, 1000))
        seen += estimate(effects - 0.03).end(0.975) < 0
    assert power(-0.03, spread, tail=0.025) == pytest.approx(seen / 400, abs=0.06)
    assert power(0.0, spread, tail=0.025) < 0.026
    assert power(-0.03, spread, tail=0.0025) < power(-0.03, spread, tail=0.025)
    once = Spread(0.0, 0.3**2 / 1000, 1, 1000)
    assert power(-0.0186, once, tail=0.025) == pytest.approx(0.5, abs=0.01)  # 1.96 standard errors


def test_all_below_is_intersection_union():
    low = np.array([[-3.0, -3.0], [-3.0, -1.0], [-3.0, 0.5]])
    high = np.array([[-1.0, -1.0], [-1.0, 1.0], [-1.0, 2.0]])
    holds, fails = all_below(low, high, np.array([True, True]), 0.0)
    assert holds.tolist() == [True, False, False]
    assert fails.tolist() == [False, False, True]
    holds, fails = all_below(low, high, np.array([True, False]), 0.0)
    assert holds.tolist() == [True, True, False]  # the second need only not lie above
