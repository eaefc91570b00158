"""Prints what the outcomes in results/tables-*.jsonl are like, for those that `claims_simulation` makes.

python -m benchmarks.claims_spreads
"""

import math
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy import ndarray
from scipy.optimize import brentq
from scipy.special import ndtr, ndtri

from verydeep.tables.rows import read_results
from verydeep.tables.verdicts import check_claims


def spreads(file: Path) -> Iterator[str]:
    """What the made outcomes are like: errors, deviations and correlations of the latent numbers of real outcomes."""
    results = read_results(file)
    alone = [cell for cell in results.cells if len(cell.nets) == 1]
    for one in check_claims(results):
        for part in one.parts:
            spread = part.estimate.spread
            of_seeds = math.sqrt(spread.seed_variance * spread.num_seeds)
            of_images = math.sqrt(spread.image_variance * spread.num_images)
            yield f"{one.claim.name}, {part.part.title}: over seeds {100 * of_seeds:.2f} points, images {of_images:.3f}"
    for cell in (cell for cell in alone if cell.protocol == "single"):
        others = [other for other in alone if other.nets == cell.nets and other is not cell]
        unlike = [other for other in alone if other.nets != cell.nets and other.protocol == cell.protocol]
        wrong = cell.wrong()
        again = [_correlation(wrong[0], one) for one in wrong[1:]]
        tests = [_correlation(wrong[0], other.wrong()[0]) for other in others]
        nets = [_correlation(wrong[0], other.wrong()[0]) for other in unlike]
        yield (
            f"{cell.title}: error {100 * wrong.mean():.1f}%, over seeds {100 * wrong.mean(1).std():.2f}; correlation "
            f"with another seed {_range(again)}, another protocol {_range(tests)}, another net {_range(nets)}"
        )


def _range(values: Sequence[float]) -> str:
    return f"{min(values):.2f} to {max(values):.2f}" if values else "-"


def _correlation(one: ndarray, other: ndarray) -> float:
    """The correlation of latent numbers that lie above their thresholds together as often as two tests are wrong."""
    bounds = [float(ndtri(1 - part.mean())) for part in (one, other)]
    numbers, share = ndtri((np.arange(2_000) + 0.5) / 2_000), float((one & other).mean())

    def together(correlation: float) -> float:
        above = numbers[numbers > bounds[0]]
        rest = math.sqrt(1 - correlation**2)
        return float(ndtr((correlation * above - bounds[1]) / rest).sum()) / len(numbers)

    return float(brentq(lambda correlation: together(correlation) - share, -0.9, 0.9999))


if __name__ == "__main__":
    for file in sorted(Path("results").glob("tables-*.jsonl")):
        print(file, *spreads(file), sep="\n  ")
