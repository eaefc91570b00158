"""Made outcomes are as they are said to be, and verdicts on them are wrong no more often than they may be."""

import math

import numpy as np
import pytest

from benchmarks.claims_outcomes import ERROR, Design, Made, cells, designs, net
from benchmarks.claims_simulation import simulate


def design(keys, claim, num_images=300):
    return Design(name="made", claim=claim, keys=keys, num_seeds=3, num_images=num_images)


def test_all_made_errors_are_alike_and_tests_of_one_net_are_alike():
    nets = [net("D", (256, 512)), net("E", (256, 512))]
    keys = cells(nets, ["multi-scale", "multi-crop"], fused=True)
    made = Made(design(keys, "fusion"), np.random.default_rng(0))
    wrong = {key: values > made.thresholds[key] for key, values in made.latent(100).items()}
    for values in wrong.values():
        assert values.mean() == pytest.approx(ERROR, abs=0.01)
    first, again, other = (wrong[key] for key in keys[:3])
    assert (first != again).mean() < (first != other).mean()
    assert (wrong[keys[4]] != first).mean() < (first != other).mean()  # both fused and one of them


def test_one_net_under_four_protocols_and_two_nets_under_two():
    """These gave 19% and 9% false positives at 5% when pairs were added as if they were independent."""
    nets = [net("D", (256, 512)), net("E", (256, 512))]
    every = ("single", "multi-scale", "multi-crop", "dense+multi-crop")
    for keys, claim in ((cells(nets[:1], every), "both"), (cells(nets, every[1:3]), "crops")):
        found = simulate(design(keys, claim), 600, 1)
        assert found["false_positives"] < 0.05 + 3 * math.sqrt(0.05 * 0.95 / 600)
        assert found["false_positives"] <= found["upper_end"]
        assert 0 <= found["power_of_6_claims"] <= found["power"] <= 1


def test_every_claim_has_a_design():
    from verydeep.tables.claims import CLAIMS

    assert {one.claim for one in designs()} == set(CLAIMS) - {"1x1", "5x5"}  # alike to 3x3: two nets
