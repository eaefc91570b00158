"""Verdicts on made-up rows whose truth is known, and on the published ones."""

from pathlib import Path

import numpy as np
import pytest
from test_claims import key
from test_rows import net, result

from verydeep.tables.claims import CLAIMS
from verydeep.tables.grid import TableNet
from verydeep.tables.rows import TableResults, read_results, row_of
from verydeep.tables.verdicts import check_claims, plan_claims

IMAGES, SEEDS = 2000, 4
RESULTS = Path(__file__).parents[2] / "results"


def rows_of(errors, nets, protocol="single", *, seed=0, seeds=SEEDS, spread=0.0, **record):
    """Rows of nets with the given error rates, on images of which some are hard for all."""
    generator = np.random.default_rng(seed)
    hardness = np.random.default_rng(99).random(IMAGES)
    rows = []
    for one, error in zip(nets, errors, strict=True):
        group = one if isinstance(one, tuple) else (one,)
        low, high = group[0].train_scale
        several = (low, (low + high) // 2, high) if low < high else (low - 32, low, low + 32)
        scales = ((low + high) // 2,) if protocol in ("single", "centre") else several
        for number in range(seeds):
            noise = generator.normal(0, 0.03, IMAGES) + generator.normal(0, spread)
            tested = result(hardness + noise < error, protocol, scales, [part.architecture for part in group])
            rows.append(row_of(tested, group, number))
            rows[-1].record.update(record)
    return rows


def verdicts(*rows):
    found = check_claims(TableResults(about={}, rows=[row for part in rows for row in part]))
    return {one.claim.name: one for one in found}


def test_the_papers_own_order_supports_its_claims():
    nets = [net(name) for name in ("A", "A-LRN", "B", "C", "D", "E")]
    jittered = [net(name, (256, 512)) for name in ("D", "E")]
    found = verdicts(
        rows_of([0.40, 0.43, 0.36, 0.33, 0.30, 0.28], nets),
        rows_of([0.30], [net("D", (384, 384))], seed=7),
        rows_of([0.24, 0.23], jittered, seed=1),
        rows_of([0.20, 0.19], jittered, "multi-scale", seed=2),
        rows_of([0.17, 0.16], jittered, "multi-crop", seed=3),
        rows_of([0.14, 0.13], jittered, "dense+multi-crop", seed=4),
        rows_of([0.10], [tuple(jittered)], "dense+multi-crop", seed=5),
        rows_of([0.45, 0.36], [net("B-5x5"), net("B")], "centre", seed=6),
    )
    assert set(found) == set(CLAIMS)
    assert {name: one.verdict for name, one in found.items()} == dict.fromkeys(CLAIMS, "supported")
    assert len(found["both"].parts) == 4
    record = found["depth"].as_record()
    assert record["interval"][0] < record["difference"] < record["interval"][1] < 0
    assert record["reason"].startswith("training error unknown; hangs on the trend over A, B, D, E")


def test_the_other_way_round_contradicts_and_nothing_at_all_is_undecided():
    found = verdicts(rows_of([0.20, 0.30, 0.15], [net("A"), net("D"), net("A-LRN")]))
    assert found["depth"].verdict == "contradicted"
    assert found["lrn"].verdict == "contradicted"  # it gains five points
    assert set(found) == {"depth", "lrn"}
    same = verdicts(rows_of([0.3, 0.3], [net("A"), net("D")]))
    assert same["depth"].verdict == "undecided"
    assert verdicts([]) == {}


def test_a_bad_member_does_not_make_fusion_better_than_each():
    """cifar10 had D 26.9, E 31.7 and both fused 27.5: better than their mean, worse than D."""
    pair = (net("D"), net("E"))
    found = verdicts(rows_of([0.269, 0.317], pair), rows_of([0.275], [pair]))["fusion"]
    assert found.verdict != "supported"
    assert found.worst[0].part.pairs[0].first.nets == (net("D"),)
    assert found.difference > 0
    sure = verdicts(rows_of([0.269, 0.317], pair), rows_of([0.30], [pair]))["fusion"]
    assert sure.verdict == "contradicted"
    assert sure.interval[0] > 0


def test_a_bad_half_does_not_make_both_better_than_either():
    rows = [
        rows_of([error], [net("D", (256, 512))], name)
        for name, error in (("multi-scale", 0.25), ("multi-crop", 0.35), ("dense+multi-crop", 0.26))
    ]
    assert verdicts(*rows)["both"].verdict != "supported"


def test_depth_hangs_on_the_nets_in_the_middle():
    nets = [net(name) for name in "ABDE"]
    good = verdicts(rows_of([0.40, 0.36, 0.30, 0.28], nets))["depth"]
    spoilt = verdicts(rows_of([0.40, 1.1, 1.1, 0.28], nets))["depth"]
    assert good.verdict == "supported"
    assert spoilt.verdict == "contradicted"  # B is worse than A
    assert spoilt.worst[0].part.title == "B against A"
    assert spoilt.parts[0].estimate.difference != pytest.approx(good.parts[0].estimate.difference, abs=0.001)


def test_several_nets_and_protocols_of_one_seed_are_one_seed():
    """The contrast is of each seed: seven nets that move together are no surer than one."""
    moves = np.array([0.02, -0.01, 0.03, 0.00])

    def of(names):
        rows = []
        for number, name in enumerate(names):
            for protocol, shift in (("single", 0.0 * moves), ("multi-scale", moves)):
                for seed in range(SEEDS):
                    wrong = np.roll(np.arange(IMAGES) < round(IMAGES * (0.3 + shift[seed])), 13 * number)
                    scales = (256,) if protocol == "single" else (224, 256, 288)
                    rows.append(row_of(result(wrong, protocol, scales), [net(name)], seed))
        return verdicts(rows)["scales"].parts[0]

    one, seven = of("D"), of(("A", "A-LRN", "B", "B-5x5", "C", "D", "E"))
    assert seven.estimate.of_seeds == pytest.approx(tuple(moves))
    assert np.diff(seven.interval) > 0.95 * np.diff(one.interval)


def test_an_interval_excludes_the_threshold_where_a_claim_is_decided_and_nowhere_else():
    decided = set()
    for number in range(30):
        errors = 0.3 - np.array([0, 0.003, 0.006, 0.012, 0.02, 0.001]) * (1 + number / 10)
        nets = [net(name) for name in ("A", "A-LRN", "B", "C", "D", "E")]
        for one in verdicts(rows_of(errors, nets, seed=number, spread=0.002, seeds=3)).values():
            low, high = one.interval
            outside = not low <= one.claim.threshold <= high
            assert outside == (one.verdict in ("supported", "contradicted"))
            decided.add(one.verdict)
    assert len(decided) > 2


def test_one_training_of_each_net_decides_nothing():
    found = verdicts(
        rows_of([0.40, 0.20], [net("A"), net("D")], seeds=1),
        rows_of([0.30, 0.10], [net("A"), net("D")], "multi-scale", seed=1, seeds=1),
    )
    assert found["depth"].verdict == "untestable here"
    assert found["depth"].interval is None
    assert "one training of each net" in found["depth"].reason
    assert found["scales"].verdict == "untestable here"  # another training of the same net may be another matter


def test_parts_that_cannot_be_measured_are_not_passed_over():
    pair = (net("D"), net("E"))
    rows = [*rows_of([0.3], [pair[0]]), *rows_of([0.2], [pair], seed=1)]
    rows += [row for row in rows_of([0.3], [pair[1]], seed=2, seeds=9) if row.seed > 7]
    found = verdicts(rows)["fusion"]
    assert (found.verdict, found.parts) == ("untestable here", ())
    assert "no seed in common" in found.reason


def test_nets_that_are_not_trained_out_show_nothing():
    trained = {"training_error": 0.1, "training_error_slope": 0.0}
    begun = {"training_error": 0.35, "training_error_slope": -0.01}
    rows = rows_of([0.40, 0.30], [net("A"), net("D")], **begun)
    found = verdicts(rows)["depth"]
    assert found.verdict == "untestable here"
    assert found.reason == "not trained out: A, D"
    assert found.interval[1] < 0  # what these nets are like is shown all the same
    more = verdicts(rows, rows_of([0.35, 0.25], [net("B"), net("E")], seed=1, **trained))["depth"]
    assert more.verdict == "supported"
    assert more.reason == "without A, D, not trained out"


def test_what_would_seldom_be_seen_is_untestable():
    nets = [net("C"), net("D")]
    noisy = verdicts(rows_of([0.30, 0.30], nets, spread=0.02, seeds=3))["3x3"]
    assert noisy.verdict == "untestable here"
    assert noisy.power < 0.5
    assert "seldom" in noisy.reason


def test_plans_say_what_can_be_decided():
    nets = [net("C"), net("D")]
    keys = [key(one) for one in nets] + [key(one, "multi-scale", (224, 256, 288)) for one in nets]
    few = {one.claim.name: one for one in plan_claims(keys, 3, 1_000)}
    many = {one.claim.name: one for one in plan_claims(keys, 10, 50_000)}
    assert set(few) == set(many) == {"3x3", "scales"}
    assert not few["3x3"].is_decidable
    assert many["3x3"].is_decidable
    assert few["3x3"].power < many["3x3"].power
    once = {one.claim.name: one for one in plan_claims(keys, 1, 50_000)}
    assert "one training of each net" in once["3x3"].reason
    assert once["scales"].power is None
    small = TableNet(name="D", architecture="D", batch_norm=False, crop=32, train_scale=(37, 37))
    (blocked,) = plan_claims([key(small), key(small, "multi-scale", (32, 37, 42))], 3, 10_000)
    assert "one position each" in blocked.reason
    assert blocked.as_record()["decidable"] is False


@pytest.mark.parametrize("name", ["tables-cifar10", "tables-cifar10-bn", "tables-clothing"])
def test_nothing_that_was_published_in_version_0_2_is_trained_out(name):
    found = check_claims(read_results(RESULTS / f"{name}.jsonl"))
    assert found
    assert {one.verdict for one in found} == {"untestable here"}


def test_published_fusion_is_worse_than_its_best_member():
    found = {one.claim.name: one for one in check_claims(read_results(RESULTS / "tables-cifar10.jsonl"))}["fusion"]
    against_d, against_e = found.parts
    assert against_d.estimate.difference == pytest.approx(0.006, abs=0.003)
    assert against_e.estimate.difference < -0.03
    assert found.worst[0] is against_d
