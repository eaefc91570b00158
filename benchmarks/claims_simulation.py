"""How often the verdicts of `tables` are wrong where nothing differs, and how often they see the paper's differences.

    python -m benchmarks.claims_simulation

makes outcomes (`claims_outcomes`) for every design that `tables` makes and judges them by the functions that judge real
ones, 4,000 trials each, into results/claims-simulation.jsonl: a line for each design. One core takes some minutes.
Where nothing differs, each verdict but "undecided" is wrong. Other true differences, such as the paper's for the power,
are added to what was measured.
"""

import argparse
import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy import ndarray
from scipy.special import ndtr, ndtri, stdtrit
from scipy.stats import beta

from benchmarks.claims_outcomes import (
    BAD,
    ERROR,
    FAILURES,
    ONE_BAD,
    ONE_FAILS,
    THRESHOLD,
    Design,
    Made,
    designs,
)
from verydeep.files import atomic_write
from verydeep.tables.claims import CLAIMS, papers_differences
from verydeep.tables.contrasts import Part
from verydeep.testing.statistics import all_below, half_width, moments

RESULTS = Path("results/claims-simulation.jsonl")
LEVEL = 0.05
NUM_CLAIMS = 6
"""Claims that one set of tables decides together, for the power after correction."""
_AT_ONCE = 2**22
"""Outcomes that are made at once."""


def true_differences(design: Design, parts: Sequence[Part]) -> ndarray:
    """What is added to the difference of each part under the null hypothesis."""
    nets = list(dict.fromkeys(one for key in design.keys for one in key.nets))
    added = np.full(len(parts), CLAIMS[design.claim].threshold)
    for number, part in enumerate(parts):
        if design.name == ONE_BAD and all(pair.first.nets == (nets[-1],) for pair in part.pairs):
            added[number] -= BAD
        if design.name == ONE_FAILS:
            chances = (np.arange(100_000) + 0.5) / 100_000
            skill = design.latent_skill * FAILURES * (-np.log1p(-chances) - 1)
            alone = math.sqrt(1 + design.latent_skill**2 + design.latent_test_skill**2)
            without = math.sqrt(1 + design.latent_test_skill**2)
            added[number] -= float(ndtr((skill - THRESHOLD * alone) / without).mean()) - ERROR
    return added


@dataclass(frozen=True)
class Measured:
    """Contrasts of many trials: arrays of trials and parts."""

    difference: ndarray
    seed_variance: ndarray
    image_variance: ndarray


def measure(design: Design, parts: Sequence[Part], trials: int, seed: int) -> Measured:
    """Makes outcomes and takes the contrasts of a design, by the functions that take those of real outcomes."""
    generator = np.random.default_rng(seed)
    made = Made(design, generator)
    size = max(1, _AT_ONCE // (design.num_seeds * design.num_images * (len(design.keys) + len(parts))))
    found: list[list[tuple[ndarray, ndarray, ndarray]]] = []
    for first in range(0, trials, size):
        latent = made.latent(min(size, trials - first))
        wrong = {key: (values > made.thresholds[key]).astype(np.float32) for key, values in latent.items()}
        found.append([])
        for part in parts:
            values = np.zeros_like(wrong[part.keys[0]])
            for weight, key in part.weights:
                values += np.float32(weight) * wrong[key]
            found[-1].append(moments(values, reach=part.reach))
    stacked = (
        np.concatenate([np.stack([part[which] for part in batch], axis=1) for batch in found]) for which in range(3)
    )
    return Measured(*stacked)


def decided(
    design: Design, parts: Sequence[Part], measured: Measured, added: ndarray, widths: "Widths", tail: float
) -> tuple[ndarray, ndarray]:
    """Which trials support the claim, and which contradict it."""
    claim = CLAIMS[design.claim]
    difference = measured.difference + added
    low = difference - widths(measured, design, tail / len(parts))
    high = difference + widths(measured, design, tail)
    decides = np.array([part.decides for part in parts])
    if claim.no_gain:
        return all_below(-high, -low, decides, -claim.threshold)
    return all_below(low, high, decides, claim.threshold)


Widths = Callable[[Measured, Design, float], ndarray]


def ours(measured: Measured, design: Design, tail: float) -> ndarray:
    return half_width(measured.seed_variance, measured.image_variance, design.num_seeds, design.num_images, tail)


def bootstrapped(measured: Measured, design: Design, tail: float) -> ndarray:
    """What the bootstrap of seeds and images tends to: the seeds' variance is too small by (m - 1)/m, with no tails."""
    shrunk = measured.seed_variance * (design.num_seeds - 1) / design.num_seeds
    width: ndarray = -float(ndtri(tail)) * np.sqrt(shrunk + measured.image_variance)
    return width


def satterthwaite(measured: Measured, design: Design, tail: float) -> ndarray:
    """Student's t times the standard error, with Satterthwaite's degrees of freedom."""
    seeds, images = measured.seed_variance, measured.image_variance
    parts = seeds**2 / max(1, design.num_seeds - 1) + images**2 / (design.num_images - 1)
    width: ndarray = stdtrit((seeds + images) ** 2 / parts, 1 - tail) * np.sqrt(seeds + images)
    return width


def simulate(design: Design, trials: int, seed: int) -> dict[str, Any]:
    """Judges made outcomes of a design, where nothing differs and with the paper's differences."""
    claim = CLAIMS[design.claim]
    parts, _ = claim.find(design.keys)
    measured = measure(design, parts, trials, seed)
    null = true_differences(design, parts)
    differences = papers_differences(design.claim)
    in_paper = null + [differences[part.role] - claim.threshold for part in parts]
    wrong = {
        name: int(np.logical_or(*decided(design, parts, measured, null, widths, LEVEL / 2)).sum())
        for name, widths in {"ours": ours, "bootstrap": bootstrapped, "satterthwaite": satterthwaite}.items()
    }
    seen = [
        float(decided(design, parts, measured, in_paper, ours, LEVEL / 2 / claims)[0].mean())
        for claims in (1, NUM_CLAIMS)
    ]
    return {
        "design": design.name,
        "claim": design.claim,
        "seeds": design.num_seeds,
        "images": design.num_images,
        "deviation_over_seeds": design.skill,
        "parts": len(parts),
        "trials": trials,
        "false_positives": wrong["ours"] / trials,
        "upper_end": float(beta.ppf(0.975, wrong["ours"] + 1, trials - wrong["ours"])),
        "false_positives_bootstrap": wrong["bootstrap"] / trials,
        "false_positives_satterthwaite": wrong["satterthwaite"] / trials,
        "in_paper": [differences[part.role] for part in parts],
        "power": seen[0],
        f"power_of_{NUM_CLAIMS}_claims": seen[1],
        "assumed": design.name != ONE_FAILS,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=4_000)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    lines = []
    for number, design in enumerate(designs()):
        lines.append(simulate(design, arguments.trials, arguments.seed + number))
        print(json.dumps(lines[-1]), flush=True)
    with atomic_write(RESULTS) as temporary:
        temporary.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")


if __name__ == "__main__":
    main()
