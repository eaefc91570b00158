"""Whether tests on the same images differ, also over several seeds: pure functions of which images each gets wrong."""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Float
from numpy import ndarray

_RESAMPLES = 9999
_SEED_IMAGE_RESAMPLES = 4999
_AT_ONCE = 2**22
"""Numbers of a batch of resamples."""


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """The paired difference of two tests on the same images."""

    difference: float  # error of the second minus that of the first, a fraction
    interval95: tuple[float, float]  # of the difference, by the bootstrap over the images
    p_value: float  # of McNemar's exact test
    only_first_wrong: int  # images
    only_second_wrong: int
    num_images: int

    def as_record(self) -> dict[str, Any]:
        return asdict(self) | {"interval95": list(self.interval95)}


def compare(first: Bool[ndarray, "n"], second: Bool[ndarray, "n"], *, seed: int = 0) -> Comparison:
    only_first, only_second = int((first & ~second).sum()), int((second & ~first).sum())
    return Comparison(
        difference=(only_second - only_first) / len(first),
        interval95=_bootstrap(only_first, only_second, len(first), seed),
        p_value=_mcnemar(only_first, only_second),
        only_first_wrong=only_first,
        only_second_wrong=only_second,
        num_images=len(first),
    )


def _bootstrap(only_first: int, only_second: int, count: int, seed: int) -> tuple[float, float]:
    """The interval of the difference over images drawn anew: only how many of each kind are drawn matters."""
    shares = [only_first / count, only_second / count, (count - only_first - only_second) / count]
    drawn = np.random.default_rng(seed).multinomial(count, shares, _RESAMPLES)
    low, high = np.percentile((drawn[:, 1] - drawn[:, 0]) / count, [2.5, 97.5])
    return float(low), float(high)


def _mcnemar(only_first: int, only_second: int) -> float:
    """The chance of so uneven a split or one more so, if each image fell to either side alike."""
    count, fewer = only_first + only_second, min(only_first, only_second)
    logarithms = [
        math.lgamma(count + 1) - math.lgamma(number + 1) - math.lgamma(count - number + 1) - count * math.log(2)
        for number in range(fewer + 1)
    ]
    return min(1.0, 2 * math.fsum(map(math.exp, logarithms)))


def holm(p_values: Sequence[float]) -> list[float]:
    """Corrects p-values for the number of claims, by Holm's step-down method.

    A claim whose corrected value is below 0.05 holds together with all others that are: the chance that any of them is
    an accident is below 5%.
    """
    order = np.argsort(p_values, kind="stable")
    stepped = np.maximum.accumulate(np.asarray(p_values, dtype=np.float64)[order] * np.arange(len(order), 0, -1))
    corrected = np.empty(len(order))
    corrected[order] = np.minimum(1.0, stepped)
    return [float(value) for value in corrected]


@dataclass(frozen=True)
class Term:
    """One part of a contrast: errors of one setting by seed and image, and how much they count."""

    weight: float  # such as 1 for the second of two settings and -1 for the first
    errors: Float[ndarray, "s n"]  # for two tests of the same nets their differences


@dataclass(frozen=True, kw_only=True)
class Difference:
    """A difference of error rates over seeds and images."""

    difference: float  # a fraction; below 0 where the second is better
    interval95: tuple[float, float]  # for other seeds and images; where there is one seed, for other images alone
    p_value: float  # two-sided, of a difference on the other side of the threshold
    num_seeds: int  # the smallest of a setting
    num_images: int

    def as_record(self) -> dict[str, Any]:
        return asdict(self) | {"interval95": list(self.interval95)}


def contrast(first: Bool[ndarray, "s n"], second: Bool[ndarray, "t n"], *, same_nets: bool) -> list[Term]:
    """The second setting against the first; where the nets are the same, a seed is drawn for both together."""
    one, other = first.astype(np.float64), second.astype(np.float64)
    return [Term(1.0, other - one)] if same_nets else [Term(1.0, other), Term(-1.0, one)]


def mean_contrast(contrasts: Sequence[Sequence[Term]]) -> list[Term]:
    """The mean of several contrasts on the same images; what stands in several of them is drawn once for all."""
    merged: list[Term] = []
    for term in (term for terms in contrasts for term in terms):
        weight = term.weight / len(contrasts)
        known = next((number for number, one in enumerate(merged) if _same(one.errors, term.errors)), None)
        if known is None:
            merged.append(Term(weight, term.errors))
        else:
            merged[known] = Term(merged[known].weight + weight, term.errors)
    return [term for term in merged if abs(term.weight) > 1e-12] or merged[:1]


def _same(first: Float[ndarray, "s n"], second: Float[ndarray, "t n"]) -> bool:
    return first is second or np.array_equal(first, second)


def seed_image_bootstrap(
    terms: Sequence[Term], *, threshold: float = 0.0, resamples: int = _SEED_IMAGE_RESAMPLES, seed: int = 0
) -> Difference:
    """Measures a contrast with its interval, for other images and other seeds.

    Images are drawn anew by the bootstrap, the same for all terms. A few seeds cannot stand for all by being drawn
    again: their means move the contrast by Student's t times its standard error over the seeds, with the degrees of
    freedom of Welch (1947), so that two seeds prove little and five much.
    """
    num_images = terms[0].errors.shape[1]
    generator = np.random.default_rng(seed)
    drawn: list[ndarray] = []
    while (left := resamples - sum(len(part) for part in drawn)) > 0:
        count = min(left, max(1, _AT_ONCE // num_images))
        images = _shares(generator, count, num_images)
        of_seeds = [term.weight * (images @ term.errors.T) for term in terms]
        drawn.append(sum(values.mean(1) for values in of_seeds) + _moves(of_seeds, generator))
    values = np.concatenate(drawn)
    low, high = np.quantile(values, [0.025, 0.975])
    beyond = min((values <= threshold).mean(), (values >= threshold).mean())
    return Difference(
        difference=float(sum(term.weight * term.errors.mean() for term in terms)),
        interval95=(float(low), float(high)),
        p_value=float(min(1.0, 2 * max(beyond, 1 / (resamples + 1)))),
        num_seeds=min(len(term.errors) for term in terms),
        num_images=num_images,
    )


def _shares(generator: np.random.Generator, count: int, number: int) -> Float[ndarray, "c m"]:
    """How often each of ``number`` things is drawn in as many draws, as shares that sum to 1; ``count`` times."""
    drawn = generator.integers(0, number, (count, number)) + number * np.arange(count)[:, None]
    shares: ndarray = np.bincount(drawn.ravel(), minlength=count * number).reshape(count, number) / number
    return shares


def _moves(of_seeds: Sequence[Float[ndarray, "c _"]], generator: np.random.Generator) -> Float[ndarray, "c"]:
    """How other seeds would move a sum of means over seeds."""
    count = len(of_seeds[0])
    several = [values for values in of_seeds if values.shape[1] > 1]
    parts = np.array([values.var(1, ddof=1) / values.shape[1] for values in several]).reshape(len(several), count)
    variance = parts.sum(0)
    each = np.array([values.shape[1] - 1 for values in several]).reshape(-1, 1)
    freedom = variance**2 / np.maximum((parts**2 / each).sum(0), np.finfo(np.float64).tiny)
    moves: ndarray = generator.standard_t(np.maximum(freedom, 1.0)) * np.sqrt(variance)
    return moves
