"""Which cells each claim of the paper is about, and what the paper itself has of it."""

import pytest
from test_rows import net

from verydeep.tables.claims import CLAIMS, papers_differences
from verydeep.tables.contrasts import CellKey


def key(one, protocol="single", scales=None):
    nets = one if isinstance(one, tuple) else (one,)
    return CellKey(nets, protocol, scales or (sum(nets[0].train_scale) // 2,))


def pairs(claim, keys):
    parts, reason = CLAIMS[claim].find(keys)
    return [[pair.title for pair in part.pairs] for part in parts], reason


def test_the_papers_own_differences():
    """By hand from Tables 3 to 6."""
    assert papers_differences("lrn")[""] == pytest.approx(0.001)
    assert papers_differences("1x1")[""] == pytest.approx(-0.006)
    assert papers_differences("3x3")[""] == pytest.approx((-0.011 - 0.013 - 0.017) / 3)
    assert papers_differences("5x5")[""] == -0.07
    assert papers_differences("jitter")[""] == pytest.approx((-0.008 - 0.012 - 0.014) / 3)
    assert papers_differences("crops")[""] == pytest.approx(-0.002)
    assert papers_differences("both") == pytest.approx({"multi-scale": -0.004, "multi-crop": -0.002})
    assert papers_differences("fusion")[""] == pytest.approx((-0.008 - 0.007 - 0.007) / 3)
    trend = (-3.75 * 0.296 - 1.75 * 0.287 + 1.25 * 0.270 + 4.25 * 0.273) / (36.75 + 4.5 + 4.5)
    assert papers_differences("depth")["trend"] == pytest.approx(trend)  # E is level with D at the other scales


def test_jitter_is_compared_at_the_same_test_scale_alone():
    fixed, larger, jittered = net("D", (73, 73), 64), net("D", (110, 110), 64), net("D", (73, 146), 64)
    found, reason = pairs("jitter", [key(fixed), key(jittered)])
    assert found == []
    assert "tested at Q = 109 and the fixed scale at Q = 73" in reason
    found, left_out = pairs("jitter", [key(fixed), key(larger), key(jittered)])
    assert left_out == reason
    assert found == [["D, S = [73;146], single against D, S = 110, single"]]  # a pixel of rounding
    found, _ = pairs("jitter", [key(fixed), key(fixed, scales=(109,)), key(larger), key(jittered)])
    assert [len(part) for part in found] == [1, 1]  # better than each of two fixed scales


def test_maps_of_one_position_are_not_compared_as_dense_tests():
    small = net("D", (37, 37), 32)
    found, reason = pairs("scales", [key(small), key(small, "multi-scale", (32, 37, 42))])
    assert found == []
    assert "the score maps of Q = 32, 37, 42 have one position each" in reason
    whole = net("D")
    assert pairs("scales", [key(whole), key(whole, "multi-scale", (224, 256, 288))])[0]


def test_nets_that_were_not_tested_densely_are_compared_by_the_central_crop():
    nets = [net(name, (37, 37), 32) for name in "CD"]
    keys = [
        key(one, name, (scale,)) for one in nets for name, scale in (("centre", 32), ("centre", 37), ("single", 32))
    ]
    assert pairs("3x3", keys)[0] == [["D, S = 37, centre against C, S = 37, centre"]]
    assert pairs("3x3", [*keys, *map(key, nets)])[0] == [["D, S = 37, single against C, S = 37, single"]]
    fixed, jittered = net("B", (37, 37), 32), net("B", (32, 42), 32)
    found, left_out = pairs("jitter", [key(one, "centre", (scale,)) for one in (fixed, jittered) for scale in (37, 42)])
    assert left_out == ""
    assert [len(part) for part in found] == [2]  # at both test scales


def test_the_one_test_scale_is_the_middle_of_several():
    tuned = net("D", (146, 146), 128)
    keys = [key(tuned, scales=(scale,)) for scale in (128, 160, 192)] + [key(tuned, "multi-scale", (128, 160, 192))]
    assert pairs("scales", keys)[0] == [["D, S = 146, multi-scale against D, S = 146, single, Q = 160"]]
    crops = key(tuned, "multi-crop", (128, 160))
    assert pairs("crops", [*keys, crops]) == ([], "")  # other scales


def test_one_test_scale_is_the_nets_own():
    jittered = net("D", (256, 512))
    keys = [key(jittered, scales=(scale,)) for scale in (256, 384, 512)]
    found, _ = pairs("scales", [*keys, key(jittered, "multi-scale", (256, 384, 512))])
    assert found == [["D, S = [256;512], multi-scale against D, S = [256;512], single"]]
    assert keys[0].title == "D, S = [256;512], single, Q = 256"


def test_better_than_each_is_a_part_for_each():
    both = (net("D"), net("E"))
    keys = [key(one, protocol, scales) for one in (*both, both) for protocol, scales in (
        ("single", (256,)), ("multi-scale", (224, 256, 288)))]  # fmt: skip
    found, _ = pairs("fusion", keys)
    assert [len(part) for part in found] == [2, 2]  # against D and against E, the mean over two protocols
    (against_d, _), _ = CLAIMS["fusion"].find(keys)
    assert against_d.title == "D, S = 256 + E, S = 256 against D, S = 256, the mean of 2 tests"
    whole = net("D", (256, 512))
    several = ("multi-scale", "multi-crop", "dense+multi-crop")
    found, _ = pairs("both", [key(whole, name, (256, 384, 512)) for name in several])
    assert [len(part) for part in found] == [1, 1]


def test_nothing_is_compared_across_batch_norm_or_crop():
    keys = [key(net("A")), key(net("D", (110, 110), 96))]
    assert pairs("depth", keys) == ([], "")
