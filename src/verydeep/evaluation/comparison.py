"""Whether two tests on the same images differ: pure functions of which images each gets wrong."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Float
from numpy import ndarray
from scipy.stats import binomtest, bootstrap

_RESAMPLES = 9999


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """The paired difference of two tests on the same images.

    Attributes:
        difference: error of the second minus that of the first, a fraction.
        interval95: of the difference, by the bootstrap over the images.
        p_value: of McNemar's exact test: how likely so uneven a count of the images that only one gets wrong would be,
            if both were equally good.
        only_first_wrong: images that only the first gets wrong.
        only_second_wrong: images that only the second gets wrong.
        num_images: images compared.
    """

    difference: float
    interval95: tuple[float, float]
    p_value: float
    only_first_wrong: int
    only_second_wrong: int
    num_images: int

    def as_record(self) -> dict[str, Any]:
        """The figures, for JSON."""
        return asdict(self) | {"interval95": list(self.interval95)}


def compare(first: Bool[ndarray, "n"], second: Bool[ndarray, "n"], *, seed: int = 0) -> Comparison:
    """Compares two tests on the same images.

    Args:
        first: which images the first gets wrong.
        second: which images the second gets wrong.
        seed: of the bootstrap.
    """
    differences = second.astype(np.float64) - first
    only_first, only_second = int((first & ~second).sum()), int((second & ~first).sum())
    p_value = binomtest(only_first, only_first + only_second).pvalue if only_first + only_second else 1.0
    return Comparison(
        difference=float(differences.mean()),
        interval95=_bootstrap_mean(differences, seed),
        p_value=float(p_value),
        only_first_wrong=only_first,
        only_second_wrong=only_second,
        num_images=len(first),
    )


def _bootstrap_mean(values: Float[ndarray, "n"], seed: int) -> tuple[float, float]:
    if len(values) < 2 or (values == values[0]).all():  # nothing to draw from
        return float(values.mean()), float(values.mean())
    interval = bootstrap(
        (values,),
        np.mean,
        vectorized=True,
        n_resamples=_RESAMPLES,
        batch=max(1, 2**22 // len(values)),
        method="percentile",
        rng=np.random.default_rng(seed),
    ).confidence_interval
    return float(interval.low), float(interval.high)


def holm(p_values: Sequence[float]) -> list[float]:
    """Corrects p-values for the number of claims, by Holm's step-down method.

    A claim whose corrected value is below 0.05 holds together with all others that are: the chance that any of them is
    an accident is below 5%.

    Args:
        p_values: one for each claim.

    Returns:
        The corrected values, in the same order.
    """
    order = np.argsort(p_values, kind="stable")
    stepped = np.maximum.accumulate(np.asarray(p_values, dtype=np.float64)[order] * np.arange(len(order), 0, -1))
    corrected = np.empty(len(order))
    corrected[order] = np.minimum(1.0, stepped)
    return [float(value) for value in corrected]
