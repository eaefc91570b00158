"""Comparisons against published examples, second implementations and simulated experiments."""

import numpy as np
import pytest
from scipy.stats import binom

from verydeep.evaluation.comparison import compare, holm


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
