"""Whether tests on the same images differ, also over several trainings: pure functions of which images each gets wrong.

**Two tests** (`compare`): McNemar's exact test, and the bootstrap over the images for the interval. `holm` corrects for
several comparisons.

**Several trainings** (`estimate`): a contrast is a weighted sum of error rates, such as that of D less that of A. It is
taken first, for each seed and image, so that what the tests of one seed share (a net under several protocols) and what
all tests share (hard images) enters as it is, and m seeds give m numbers, however many nets, scales and protocols the
contrast is of. Seeds and images are crossed random effects: other seeds and other images would move its mean with the
variance s/m + i/n + x/(mn), where s is of seeds, i of images and x of what is particular to a seed on an image. The
variance of the m numbers over m estimates s/m + x/(mn); that of the n images' means over the seeds, over n, estimates
i/n + x/(mn). Their sum counts x twice, so it is too large by x/(mn) and never too small on average. The interval is

    difference ± sqrt(t(m-1)² · variance of the seeds / m  +  t(n-1)² · variance of the images / n),

Howe's combination of two quantiles of Student's t. It takes the contrast of a seed as about normally distributed, which
three seeds can neither show nor refute. With one seed there is no first term, and the interval is for other images and
this one training. Where neither term is much larger than the other the interval is wider than it need be: that is the
price of a spread over seeds that three of them tell little of.

Why no bootstrap of the seeds: three seeds drawn again have two thirds of the variance and no tails. Why not the degrees
of freedom of Welch and Satterthwaite: where the seeds vary little by chance, they trust them too much. Both are wrong
too often as soon as seeds vary as much as those of a net that is hard to train.
`python -m benchmarks.claims_simulation` counts how often either is wrong.

Where few images differ, the normal approximation gives too narrow an interval, or one of no width: one image more is
counted as having gone either way (Bonett and Price).

References: W. G. Howe, "Approximate confidence limits on the mean of X + Y where X and Y are two tabled independent
random variables", JASA 69, 1974; A. B. Owen and D. Eckles, "Bootstrapping data arrays of arbitrary order", Annals of
Applied Statistics 6, 2012 (the variance of crossed effects); D. G. Bonett and R. M. Price, "Adjusted Wald confidence
interval for a difference of binomial proportions based on paired data", J. of Educational and Behavioral Statistics 37,
2012.
"""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Float
from numpy import ndarray

_RESAMPLES = 9999
_SPREADS = 500
"""Values that the spread of a few seeds is taken to have, each as likely, for the power of a contrast."""


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
class Spread:
    """How far other seeds and other images would move a contrast."""

    seed_variance: float  # of the mean over the seeds; 0 where there is one
    image_variance: float  # of the mean over the images
    num_seeds: int
    num_images: int


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """A contrast of error rates over seeds and images."""

    difference: float  # a fraction; below 0 where the second is better
    of_seeds: tuple[float, ...]  # the contrast of each
    spread: Spread

    def end(self, quantile: float) -> float:
        """An end of an interval: the lower one for 0.025, the upper one for 0.975."""
        spread = self.spread
        width = half_width(
            spread.seed_variance,
            spread.image_variance,
            spread.num_seeds,
            spread.num_images,
            min(quantile, 1 - quantile),
        )
        return self.difference + math.copysign(float(width), quantile - 0.5)

    def interval(self, level: float = 0.95) -> tuple[float, float]:
        tail = (1 - level) / 2
        return self.end(tail), self.end(1 - tail)


def estimate(values: Float[ndarray, "s n"], *, reach: float = 1.0) -> Estimate:
    """Estimates a contrast.

    Args:
        values: the contrast for each seed and image, such as -1, 0 or 1 for one test less another.
        reach: the most that it can be for an image: the sum of its positive weights.
    """
    difference, of_seeds, of_images = moments(values, reach=reach)
    return Estimate(
        difference=float(difference),
        of_seeds=tuple(map(float, values.mean(1))),
        spread=Spread(float(of_seeds), float(of_images), *values.shape),
    )


def moments(
    values: Float[ndarray, "*trials s n"], *, reach: float = 1.0
) -> tuple[Float[ndarray, "*trials"], Float[ndarray, "*trials"], Float[ndarray, "*trials"]]:
    """The mean of contrasts, and its variance for other seeds (0 where there is one) and for other images."""
    num_seeds, num_images = values.shape[-2:]
    of_images = values.mean(-2)
    difference = np.asarray(of_images.mean(-1))
    of_seeds = values.mean(-1).var(-1, ddof=1) / num_seeds if num_seeds > 1 else np.zeros_like(difference)
    image_variance = (of_images.var(-1) + 2 * reach**2 / num_images) / num_images
    return difference, np.asarray(of_seeds), np.asarray(image_variance)


def half_width(
    seed_variance: Float[ndarray, "*trials"] | float,
    image_variance: Float[ndarray, "*trials"] | float,
    num_seeds: int,
    num_images: int,
    tail: float,
) -> Float[ndarray, "*trials"]:
    """How far an end of the interval lies from the difference, where ``tail`` of the confidence is beyond it."""
    from scipy.special import stdtrit

    of_seeds = stdtrit(max(1, num_seeds - 1), 1 - tail) ** 2 * np.asarray(seed_variance)  # 0 where there is one
    of_images = stdtrit(max(1, num_images - 1), 1 - tail) ** 2 * np.asarray(image_variance)
    return np.asarray(np.sqrt(of_seeds + of_images))


def all_below(
    low: Float[ndarray, "*trials parts"],
    high: Float[ndarray, "*trials parts"],
    decides: Bool[ndarray, "parts"],
    threshold: float,
) -> tuple[Bool[ndarray, "*trials"], Bool[ndarray, "*trials"]]:
    """Whether all contrasts lie surely below a threshold, and whether any lies surely above it.

    Of those that do not decide it is enough that they do not lie above. All must lie below for the first answer, so
    that each may be tested at the full level (intersection-union); for the second they have to share it.
    """
    above = np.asarray((low > threshold).any(-1))
    below = np.asarray(((high < threshold) | ~decides).all(-1))
    return np.asarray(below & ~above), above


def power(true_difference: float, spread: Spread, *, tail: float, threshold: float = 0.0) -> float:
    """The chance that the upper end lies below the threshold, were the difference and the spread the true ones."""
    from scipy.special import gammaincinv, ndtr

    half = (spread.num_seeds - 1) / 2
    chances = (np.arange(_SPREADS) + 0.5) / _SPREADS
    measured = spread.seed_variance * gammaincinv(half, chances) / half if spread.num_seeds > 1 else np.zeros(1)
    width = half_width(measured, spread.image_variance, spread.num_seeds, spread.num_images, tail)
    deviation = math.sqrt(spread.seed_variance + spread.image_variance)
    return float(ndtr((threshold - true_difference - width) / deviation).mean())
