"""The paper's claims on made-up rows whose truth is known."""

import numpy as np
import pytest
from test_rows import net, result

from verydeep.tables.claims import CLAIMS, check_claims
from verydeep.tables.rows import gather_cells, row_of

IMAGES, SEEDS = 2000, 4


def cells_of(errors, nets, protocol="single", seed=0):
    """Rows of nets with the given error rates, on images of which some are hard for all."""
    generator = np.random.default_rng(seed)
    hardness = np.random.default_rng(99).random(IMAGES)
    rows = []
    for one, error in zip(nets, errors, strict=True):
        group = one if isinstance(one, tuple) else (one,)
        for number in range(SEEDS):
            noise = generator.normal(0, 0.03, IMAGES)
            tested = result(hardness + noise < error, protocol, architectures=[part.architecture for part in group])
            rows.append(row_of(tested, group, number))
    return rows


def verdicts(*rows):
    return {one.claim.name: one for one in check_claims(gather_cells([row for part in rows for row in part]))}


def test_the_papers_own_order_supports_its_claims():
    nets = [net(name) for name in ("A", "A-LRN", "B", "C", "D", "E")]
    jittered = [net(name, (256, 512)) for name in ("D", "E")]
    found = verdicts(
        cells_of([0.40, 0.41, 0.36, 0.33, 0.30, 0.28], nets),
        cells_of([0.24, 0.23], jittered, seed=1),
        cells_of([0.20, 0.19], jittered, "multi-scale", seed=2),
        cells_of([0.17, 0.16], jittered, "multi-crop", seed=3),
        cells_of([0.14, 0.13], jittered, "dense+multi-crop", seed=4),
        cells_of([0.10], [tuple(jittered)], "dense+multi-crop", seed=5),
        cells_of([0.45, 0.36], [net("B-5x5"), net("B")], "centre", seed=6),
    )
    assert set(found) == set(CLAIMS)
    assert {one.verdict for one in found.values()} == {"supported"}
    depth = found["depth"]
    assert [(pair.first.nets[0].name, pair.second.nets[0].name) for pair, _ in depth.pairs] == [
        ("A", "B"),
        ("B", "D"),
        ("D", "E"),
        ("D", "E"),  # with jitter
    ]
    assert depth.difference.difference == pytest.approx((0.28 - 0.40 + 0.23 - 0.24) / 4, abs=0.01)
    assert len(found["jitter"].pairs) == 2
    assert len(found["both"].pairs) == 4
    record = depth.as_record()
    assert record["verdict"] == "supported"
    assert record["interval95"][0] < record["difference"] < record["interval95"][1]


def test_the_other_way_round_contradicts_and_nothing_at_all_is_undecided():
    found = verdicts(cells_of([0.20, 0.30, 0.15], [net("A"), net("D"), net("A-LRN")]))
    assert found["depth"].verdict == "contradicted"
    assert found["lrn"].verdict == "contradicted"  # it gains five points
    assert set(found) == {"depth", "lrn"}
    same = verdicts(cells_of([0.3, 0.3], [net("A"), net("D")]))
    assert same["depth"].verdict == "undecided"
    assert verdicts([]) == {}


def test_one_training_of_each_net_decides_nothing_about_nets():
    rows = [row for row in cells_of([0.40, 0.20], [net("A"), net("D")]) if row.seed == 0]
    scales = [row for row in cells_of([0.30, 0.10], [net("A"), net("D")], "multi-scale", seed=1) if row.seed == 0]
    found = verdicts(rows, scales)
    assert found["depth"].corrected_p_value < 0.01
    assert found["depth"].verdict == "undecided"
    assert found["scales"].verdict == "supported"


def test_two_protocols_of_the_same_nets_are_compared_seed_by_seed():
    rows = [
        *cells_of([0.3], [net("D")]),
        *[
            row_of(result(row.wrong & (np.arange(IMAGES) % 50 > 0), "multi-scale"), row.nets, row.seed)
            for row in cells_of([0.3], [net("D")])
        ],
    ]
    (found,) = check_claims(gather_cells(rows))
    assert found.claim.name == "scales"
    assert found.verdict == "supported"
    assert found.difference.interval95[1] - found.difference.interval95[0] < 0.01  # unpaired it would be 0.05
