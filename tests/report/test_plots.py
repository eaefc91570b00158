"""Drawings: what stands where, and that names cannot break them."""

import re

import numpy as np
import pytest

from verydeep.report.plots import Point, confusion, curves, points


def test_curves_have_round_ticks_and_every_finite_value():
    drawn = curves("error", "%", {"one": [80.0, 40.0, float("nan"), 10.0], "two": [1.0]})
    assert re.findall(r">(\d+)%<", drawn) == ["0", "20", "40", "60", "80"]
    assert drawn.count("<circle") == 4
    assert "nan" not in drawn
    lines = [line.split() for line in re.findall(r'points="([^"]+)"', drawn)]
    heights = [float(point.split(",")[1]) for point in lines[0]]
    assert heights == sorted(heights)  # a smaller error lies lower
    top, _, bottom = heights
    assert (heights[1] - top) / (bottom - top) == pytest.approx((80 - 40) / (80 - 10), abs=0.01)
    for values in ([0.0], [float("nan")], [1e-9], [3e7, 2.0], [1.0]):
        assert "<svg" in curves("t", "", {"x": values})


def test_a_cell_of_the_confusion_matrix_says_what_it_is():
    drawn = confusion(["a<b", "c"], ["a<b", "c"], np.array([[3, 1], [0, 2]]))
    assert "a&lt;b taken for c: 1 of 4 (25%)" in drawn
    assert "a<b" not in drawn
    assert drawn.count("<rect") == 4


def test_points_lie_by_their_values_within_their_intervals():
    line = [Point(1, 30, 25, 35, "one<"), Point(10, 20, 10, 30, "two"), Point(100, 20, 20, 20, "three")]
    drawn = points("t", "%", "cost", {"a & b": line}, marks={1.0: "1x", 100.0: "100x"}, logarithmic=True)
    at = [(float(x), float(y)) for x, y in re.findall(r'<circle cx="([^"]+)" cy="([^"]+)"', drawn)]
    assert at[1][0] - at[0][0] == pytest.approx(at[2][0] - at[1][0], abs=0.2)  # equal ratios
    assert at[0][1] < at[1][1] == at[2][1]  # a larger error lies higher
    ends = [float(end) for end in re.findall(r"M[\d.]+ ([\d.]+)V", drawn)]
    assert ends[1] - at[1][1] == pytest.approx(at[1][1] - at[0][1], abs=0.2)
    assert "one&lt;" in drawn
    assert "a &amp; b" in drawn
