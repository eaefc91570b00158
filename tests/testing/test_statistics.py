"""Comparisons, also over seeds, against published examples, second implementations and simulated experiments."""

import numpy as np
import pytest
from scipy.stats import binom, binomtest, bootstrap

from verydeep.testing.statistics import Term, compare, contrast, holm, mean_contrast, seed_image_bootstrap


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
    return generator.random((seeds, images)) < 1 / (1 + np.exp(-hardness - skill))


def alone(errors, **options):
    return seed_image_bootstrap([Term(1.0, errors.astype(float))], **options)


@pytest.mark.parametrize("seeds", [2, 3, 8])
def test_intervals_hold_the_truth_about_as_often_as_they_say(seeds):
    truth = simulate(np.random.default_rng(0), 3000, 2000).mean()
    held = 0
    for trial in range(150):
        errors = simulate(np.random.default_rng([1, trial]), seeds, 200)
        found = alone(errors, resamples=400, seed=trial)
        assert found.difference == pytest.approx(errors.mean())
        held += found.interval95[0] <= truth <= found.interval95[1]
    assert 0.9 <= held / 150 <= 1.0


def test_intervals_over_seeds_are_wider_than_over_images_alone():
    errors = simulate(np.random.default_rng(3), 6, 400, seed_spread=1.0)
    low, high = alone(errors, resamples=2000).interval95
    low_of_images, high_of_images = alone(errors.mean(0, keepdims=True), resamples=2000).interval95
    assert high - low > 1.5 * (high_of_images - low_of_images)


def flipped(generator, errors, share, seeds):
    return np.stack([errors ^ (generator.random(len(errors)) < share) for _ in range(seeds)])


def test_a_difference_on_the_same_images_is_surer_than_on_others():
    generator = np.random.default_rng(4)
    hard = generator.random(500) < 0.4
    first = flipped(generator, hard, 0.02, 5)
    second = flipped(generator, hard & (np.arange(500) % 5 > 0), 0.02, 4)
    found = seed_image_bootstrap(contrast(first, second, same_nets=False), resamples=2000)
    assert found.difference == pytest.approx(second.mean() - first.mean())
    assert found.interval95[0] < found.difference < found.interval95[1] < 0
    assert (found.num_seeds, found.num_images) == (4, 500)
    assert found.p_value < 0.01
    of_second = alone(second, resamples=2000).interval95
    assert found.interval95[1] - found.interval95[0] < of_second[1] - of_second[0]


def test_the_same_nets_tested_twice_differ_more_surely_than_other_nets_would():
    generator = np.random.default_rng(5)
    first = simulate(generator, 5, 300, seed_spread=1.5)
    second = first & (generator.random(first.shape) < 0.85)
    paired = seed_image_bootstrap(contrast(first, second, same_nets=True), resamples=1000)
    apart = seed_image_bootstrap(contrast(first, second, same_nets=False), resamples=1000)
    assert paired.difference == pytest.approx(apart.difference)
    assert np.diff(paired.interval95) < np.diff(apart.interval95) / 3
    assert paired.p_value < apart.p_value


def test_the_p_value_is_for_the_threshold_and_the_mean_of_contrasts_is_their_mean():
    generator = np.random.default_rng(6)
    first = simulate(generator, 4, 400)
    second = first & (generator.random(first.shape) < 0.9)
    terms = contrast(first, second, same_nets=True)
    found = seed_image_bootstrap(terms, resamples=1000)
    at_it = seed_image_bootstrap(terms, threshold=found.difference, resamples=1000)
    assert at_it.p_value > 0.8 > 0.05 > found.p_value
    assert seed_image_bootstrap([Term(1.0, term.errors[:2]) for term in terms], resamples=1000).p_value > found.p_value
    both = mean_contrast([terms, contrast(first, first, same_nets=True)])
    assert seed_image_bootstrap(both, resamples=500).difference == pytest.approx(found.difference / 2)


def test_one_seed_alone_is_drawn_over_images():
    errors = np.arange(100)[None] % 4 == 0
    low, high = alone(errors, resamples=2000).interval95
    assert (low, high) == (pytest.approx(0.25 - 1.96 * 0.0433, abs=0.02), pytest.approx(0.25 + 1.96 * 0.0433, abs=0.02))
