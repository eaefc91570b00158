"""Contrasts of cells: their weights, and the trend over depth against least squares."""

import numpy as np
import pytest
from test_claims import key
from test_rows import net

from verydeep.tables.claims import CLAIMS
from verydeep.tables.contrasts import Pair, mean_part


def contrast(part, errors):
    return sum(weight * errors[one] for weight, one in part.weights)


def test_the_trend_is_the_slope_of_least_squares():
    keys = [key(net(name)) for name in "ABDE"]
    errors = dict(zip(keys, (0.30, 0.28, 0.27, 0.25), strict=True))
    (trend, *steps), _ = CLAIMS["depth"].find(keys)
    assert contrast(trend, errors) == pytest.approx(np.polyfit([11, 13, 16, 19], list(errors.values()), 1)[0])
    assert [round(contrast(step, errors), 6) for step in steps] == [-0.02, -0.01, -0.02]
    assert [step.title for step in steps] == ["B against A", "D against B", "E against D"]
    assert not any(step.decides for step in steps)


def test_the_trend_over_several_training_scales_has_an_intercept_for_each():
    keys = [key(net(name)) for name in "ABDE"] + [key(net(name, (384, 384))) for name in "DE"]
    errors = dict(zip(keys, (0.30, 0.28, 0.27, 0.25, 0.50, 0.47), strict=True))
    (trend, *_), _ = CLAIMS["depth"].find(keys)
    design = np.array([[11, 1, 0], [13, 1, 0], [16, 1, 0], [19, 1, 0], [16, 0, 1], [19, 0, 1]])
    slope = np.linalg.lstsq(design, np.array(list(errors.values())), rcond=None)[0][0]
    assert contrast(trend, errors) == pytest.approx(slope)


def test_nets_in_the_middle_change_what_is_said_of_depth():
    keys = [key(net(name)) for name in "ABDE"]
    (trend, *steps), _ = CLAIMS["depth"].find(keys)
    errors = dict(zip(keys, (0.30, 0.28, 0.27, 0.25), strict=True))
    spoilt = errors | {keys[1]: 1.0, keys[2]: 1.0}
    assert contrast(trend, spoilt) != pytest.approx(contrast(trend, errors), abs=0.001)
    assert [contrast(step, spoilt) for step in steps] == pytest.approx([0.70, 0.0, -0.75])


def test_of_two_nets_the_trend_is_all():
    (trend,), _ = CLAIMS["depth"].find([key(net("A")), key(net("D"))])
    assert contrast(trend, {key(net("A")): 0.30, key(net("D")): 0.25}) == pytest.approx(
        -0.01
    )  # for each of five layers


def test_the_variance_in_units_of_a_pairs():
    one, two, three = (key(net(name)) for name in "ABD")
    again, twice = key(net("A"), "multi-scale", (224, 256, 288)), key(net("B"), "multi-scale", (224, 256, 288))
    assert mean_part([Pair(one, two)]).relative_variance == 1
    assert mean_part([Pair(one, two), Pair(again, twice)]).relative_variance == 1  # the same nets
    assert mean_part([Pair(one, again), Pair(two, twice)]).relative_variance == 0.5  # two nets
    (trend, *_), _ = CLAIMS["depth"].find([one, two, three])
    assert trend.relative_variance == pytest.approx(1 / 2 / np.var([11, 13, 16]) / 3)


def test_the_most_that_a_contrast_can_be():
    one, two, three = (key(net(name)) for name in "ABD")
    assert mean_part([Pair(one, two)]).reach == pytest.approx(1)
    chain = mean_part([Pair(one, two), Pair(two, three)])
    assert chain.reach == pytest.approx(0.5)  # the net in the middle cancels
    assert chain.title == "the mean of 2 pairs"
