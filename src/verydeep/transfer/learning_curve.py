"""What more training images would bring: the error of linear classifiers fitted on fewer images, extrapolated.

Errors are of held-out training images, never of test images.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from jaxtyping import Float, Int, Int8
from numpy import ndarray

from verydeep.testing.metrics import interval95, wrong
from verydeep.transfer.classifier import HeldOut, LinearClassifier, fit_fixed

DRAWS: Final = {8: 3, 4: 2, 2: 1}
"""How often an eighth, a quarter and a half of the images of each class are drawn, in each part."""

_FEWEST_OF_CLASS = 2
"""Images of each class that a draw must have."""

_FEWEST_WRONG = 10
"""Wrong images below which nothing is extrapolated."""

_LEAST_GAIN = 0.05
"""Share of the error that twice the images must save to be more than little."""

_WORST_FIT = 9.0
"""Chi-square of the best power law above which the errors follow none."""


@dataclass(frozen=True, kw_only=True)
class CurvePoint:
    """The error at a number of training images."""

    num_images: int
    error: float  # a fraction
    interval95: tuple[float, float]

    def as_record(self) -> dict[str, object]:
        return {"num_images": self.num_images, "error": self.error, "interval95": list(self.interval95)}


@dataclass(frozen=True, kw_only=True)
class LearningCurve:
    """Errors at several numbers of training images, and the one to expect at twice as many as there are.

    Attributes:
        points: what was measured, the fewest images first.
        present: the error to expect with all images; None where the data do not allow it.
        forecast: the error to expect with twice as many; None where the data do not allow it.
        why_not: why there is no forecast.
    """

    points: Sequence[CurvePoint]
    present: CurvePoint | None = None
    forecast: CurvePoint | None = None
    why_not: str = ""

    def __str__(self) -> str:
        if self.present is None or self.forecast is None:
            return f"what more images would bring cannot be said: {self.why_not}"
        now, then = self.present.error, self.forecast.error
        low, high = self.forecast.interval95
        little = now - then < _LEAST_GAIN * now
        return (
            f"twice as many images of the same kind would probably bring {'little: ' if little else ''}"
            f"the error of the linear classifier from {100 * now:.1f}% to {100 * then:.1f}% "
            f"(95% interval {100 * low:.1f} to {100 * high:.1f}%)"
        )

    def as_record(self) -> dict[str, object]:
        return {
            "points": [point.as_record() for point in self.points],
            "present": self.present.as_record() if self.present else None,
            "forecast": self.forecast.as_record() if self.forecast else None,
            "text": str(self),
        }


def learning_curve(
    descriptors: Float[ndarray, "n d"],
    targets: Int8[ndarray, "n k"],
    classifier: LinearClassifier,
    classes: Sequence[str],
    *,
    seed: int = 0,
) -> LearningCurve:
    """Fits classifiers to an eighth, a quarter and a half of the training images, and extrapolates their errors.

    Each part of the cross-validation of ``classifier`` is held out in turn and is classified by classifiers fitted to
    random shares of the others, class by class, at the C of ``classifier``.

    Choice: the error at m images is taken for e (r + (1 - r) (m / n)^-a), an inverse power with an asymptote. The
    forecast is its mean over all e, r from 0 to 1 and a from 0.05 to 1.5, weighted by their likelihood; the interval
    holds 95% of the weight. There is none where a class has too few images, fewer than ten images are wrong, the error
    rises with more images, or no such law fits.

    Args:
        descriptors: of the training images.
        targets: 1 shows the class, -1 does not; one class each.
        classifier: fitted to all of them, by ``fit_classifier``.
        classes: their names, for messages.
        seed: of the draws.
    """
    held_out = classifier.cross_validation
    assert held_out is not None
    labels = targets.argmax(1)
    tested = held_out.parts >= 0
    if not tested.any():
        return LearningCurve(points=(), why_not="no image was held out")
    counts = np.bincount(labels, minlength=len(classes))
    rarest = int(counts.argmin())
    kept = float(np.mean([(held_out.parts != part).mean() for part in np.unique(held_out.parts[tested])]))
    shares = [share for share in DRAWS if kept * counts[rarest] / share >= _FEWEST_OF_CLASS]
    if len(shares) < 2:
        return LearningCurve(
            points=(), why_not=f"{classes[rarest]} has {counts[rarest]:,} images, too few to draw from"
        )
    sizes, is_wrong, spread = _measure(descriptors * classifier.scale, targets, classifier, held_out, shares, seed)
    errors, num_tested = is_wrong.mean(0), len(is_wrong)
    points = [
        CurvePoint(num_images=size, error=float(error), interval95=interval95(float(error), num_tested))
        for size, error in zip(sizes, errors, strict=True)
    ]
    why_not = _why_not(is_wrong, spread)
    if not why_not:
        found = _extrapolate(np.array(sizes), errors, np.cov(is_wrong.T) / num_tested + np.diag(spread**2), len(labels))
        if found is not None:
            return LearningCurve(points=points, present=found[0], forecast=found[1])
        why_not = "the error falls along no power law"
    return LearningCurve(points=points, why_not=why_not)


def _measure(
    scaled: Float[ndarray, "n d"],
    targets: Int8[ndarray, "n k"],
    classifier: LinearClassifier,
    held_out: HeldOut,
    shares: Sequence[int],
    seed: int,
) -> tuple[list[int], Float[ndarray, "m s"], Float[ndarray, "s"]]:
    """Measures classifiers on held-out images.

    Returns the numbers of images they were fitted to, how often each held-out image is wrong, and the standard error
    of each column by the draw of its training images.
    """
    generator = np.random.default_rng(seed)
    scaled, labels = scaled.astype(np.float64), targets.argmax(1)
    tested = np.flatnonzero(held_out.parts >= 0)
    columns: list[ndarray] = []
    sizes: list[int] = []
    spread: list[float] = []
    used = sorted(set(held_out.parts[tested].tolist()))
    for share in shares:
        rates = np.zeros(len(labels))
        variances: list[float] = []
        counts: list[int] = []
        for part in used:
            test, train = held_out.parts == part, np.flatnonzero(held_out.parts != part)
            each = []
            for _ in range(DRAWS[share]):
                drawn = _draw(labels, train, share, generator)
                weight, bias = fit_fixed(scaled[drawn], targets[drawn], classifier.kind, classifier.c)
                each.append(wrong(scaled[test] @ weight.T + bias, labels[test]))
                counts.append(len(drawn))
            rates[test] = np.mean(each, axis=0)
            if len(each) > 1:
                variances.append(np.mean(each, axis=1).var(ddof=1) / len(each))
        columns.append(rates[tested])
        sizes.append(round(float(np.mean(counts))))
        spread.append(float(np.sqrt(np.mean(variances) / len(used))) if variances else np.nan)
    columns.append(wrong(held_out.scores[tested], labels[tested]).astype(np.float64))
    sizes.append(round(float(np.mean([(held_out.parts != part).sum() for part in used]))))
    is_wrong = np.stack(columns, axis=1)
    # of sizes drawn once a part: as much of the error as of the last size drawn several times
    share_of = [s / e for s, e in zip(spread, is_wrong.mean(0), strict=False) if np.isfinite(s) and e > 0]
    whole = [*spread, np.nan]
    fallback = (share_of[-1] if share_of else 0.0) * is_wrong.mean(0)
    return sizes, is_wrong, np.where(np.isfinite(whole), whole, fallback)


def _draw(
    labels: Int[ndarray, "n"], train: Int[ndarray, "m"], share: int, generator: np.random.Generator
) -> Int[ndarray, "s"]:
    """Draws one in ``share`` images of each class, those of rare classes at least once."""
    drawn = []
    for label in range(int(labels.max()) + 1):
        members = generator.permutation(train[labels[train] == label])
        drawn.append(members[: max(1, round(len(members) / share))])
    return np.sort(np.concatenate(drawn))


def _why_not(is_wrong: Float[ndarray, "m s"], spread: Float[ndarray, "s"]) -> str:
    """Why errors cannot be extrapolated; empty where they can."""
    num_wrong, num_tested = is_wrong[:, -1].sum(), len(is_wrong)
    if num_wrong < _FEWEST_WRONG:
        return f"only {num_wrong:.0f} of {num_tested:,} held-out images are wrong"
    rises = np.diff(is_wrong, axis=1)
    noise = np.sqrt(rises.var(0, ddof=1) / num_tested + spread[:-1] ** 2 + spread[1:] ** 2)
    if (rises.mean(0) > 2 * noise).any():
        return "the error rises with more images"
    return ""


def _extrapolate(
    sizes: Int[ndarray, "s"], errors: Float[ndarray, "s"], covariance: Float[ndarray, "s s"], num_images: int
) -> tuple[CurvePoint, CurvePoint] | None:
    """Returns the errors to expect at ``num_images`` and at twice as many; None where no power law fits."""
    deviation = float(np.sqrt(covariance[-1, -1]))
    level = np.maximum(errors[-1] + deviation * np.linspace(-5, 5, 81), 0)[:, None, None]
    rest = np.linspace(0, 1, 41)[None, :, None]
    power = np.linspace(0.05, 1.5, 30)[None, None, :]

    def law(images: float) -> Float[ndarray, "81 41 30"]:
        found: ndarray = level * (rest + (1 - rest) * (images / sizes[-1]) ** -power)
        return found

    residuals = np.stack([law(size) for size in sizes.tolist()], axis=-1) - errors
    inverse = np.linalg.pinv(covariance + 1e-9 * np.eye(len(sizes)))
    squares = np.einsum("...i,ij,...j->...", residuals, inverse, residuals)
    if squares.min() > _WORST_FIT:
        return None
    weights = np.exp((squares.min() - squares) / 2).ravel()
    weights /= weights.sum()
    return _expect(law(num_images), weights, num_images), _expect(law(2 * num_images), weights, 2 * num_images)


def _expect(values: ndarray, weights: Float[ndarray, "g"], num_images: int) -> CurvePoint:
    flat = values.ravel()
    order = np.argsort(flat)
    below = np.cumsum(weights[order])
    low, high = (float(flat[order][np.searchsorted(below, share)]) for share in (0.025, 0.975))
    return CurvePoint(num_images=num_images, error=float(flat @ weights), interval95=(low, high))
