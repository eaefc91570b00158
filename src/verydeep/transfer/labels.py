"""Labels that are probably wrong: held-out scores of training images against the classes that were given.

Choice: a label is taken for wrong with the same chance e for every image, and then for any of the other classes alike.
The temperature of the scores and e are those with the greatest likelihood of the labels together, so that classes that
merely overlap raise the temperature and not e. (Confident learning compares posteriors with the mean of their class
instead, and reports many images of overlapping classes.)
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Final

import numpy as np
from jaxtyping import Float, Int
from numpy import ndarray

from verydeep.testing.measure import softmax

MOST_LABELS: Final = 36
"""Labels that are reported at most."""

_LEAST_GAIN = 6.6
"""Twice the gain in log-likelihood below which the labels are taken for right: chance gives it once in 200 times."""


@dataclass(frozen=True, kw_only=True)
class DoubtfulLabel:
    """An image whose label is probably wrong."""

    index: int  # of the image, among those given
    given: int  # index of the class
    suggested: int
    given_posterior: float  # held out
    posterior: float  # held out, of the suggested class
    doubt: float  # probability that the suggested class is the right one, above 0.5

    def as_record(self) -> dict[str, object]:
        return asdict(self)


def find_doubtful_labels(
    scores: Float[ndarray, "n k"], labels: Int[ndarray, "n"], *, most: int = MOST_LABELS
) -> list[DoubtfulLabel]:
    """Finds images of which another class than the given one is probably the right one, the least doubtful last.

    Args:
        scores: of each image by a net or classifier that did not learn from it, or logarithms of posteriors: their
            scale does not matter.
        labels: indices of the classes that were given.
        most: how many are returned at most.
    """
    num_images, num_classes = scores.shape
    if num_images == 0:
        return []
    temperature, share = _fit_noise(scores, labels)
    if share == 0:
        return []
    posteriors = softmax(scores / temperature)
    own = posteriors[np.arange(num_images), labels]
    suggested = posteriors.argmax(1)
    best = posteriors.max(1)
    noise = share / (num_classes - 1)
    doubt = noise * best / ((1 - share) * own + noise * (1 - own))
    doubtful = np.flatnonzero((suggested != labels) & (doubt > 0.5))
    order = doubtful[np.argsort(own[doubtful], kind="stable")][:most]
    return [
        DoubtfulLabel(
            index=int(index),
            given=int(labels[index]),
            suggested=int(suggested[index]),
            given_posterior=float(own[index]),
            posterior=float(best[index]),
            doubt=float(doubt[index]),
        )
        for index in order
    ]


def describe_doubtful(found: Sequence[DoubtfulLabel], num_images: int) -> str:
    """Says how many labels are probably wrong, in a line."""
    if not found:
        return f"no label of the {num_images:,} training images looks wrong"
    many = f"{len(found)} labels of the {num_images:,} training images are"
    one = f"1 label of the {num_images:,} training images is"
    least = "at least " if len(found) == MOST_LABELS else ""
    return f"{least}{one if len(found) == 1 else many} probably wrong: look at them"


def _fit_noise(scores: Float[ndarray, "n k"], labels: Int[ndarray, "n"]) -> tuple[float, float]:
    """The temperature, and the share of wrong labels: 0 where that explains the labels as well."""
    from scipy.optimize import minimize

    num_images, num_classes = scores.shape
    scale = float(scores.std()) or 1.0
    rows = np.arange(num_images)

    def loss(log_temperature: float, share: float) -> float:
        posteriors = softmax(scores / (scale * np.exp(np.clip(log_temperature, -6, 6))))
        own = posteriors[rows, labels]
        likelihood = (1 - share) * own + share * (1 - own) / (num_classes - 1)
        # one image more of no class, as for the temperature of a classifier: where all are right no posterior is 1
        extra = -np.log(np.maximum(posteriors, 1e-300)).mean()
        return float(-np.log(np.maximum(likelihood, 1e-300)).sum() + extra)

    clean = minimize(lambda x: loss(x[0], 0.0), [-1.0], method="Nelder-Mead")
    noisy = min(
        (
            minimize(lambda x: loss(x[0], _share(x[1])), [float(clean.x[0]) - lower, logit], method="Nelder-Mead")
            for lower, logit in ((0.5, -3.0), (2.0, -1.0))
        ),
        key=lambda found: float(found.fun),
    )
    if 2 * (clean.fun - noisy.fun) < _LEAST_GAIN:
        return scale * float(np.exp(clean.x[0])), 0.0
    return scale * float(np.exp(np.clip(noisy.x[0], -6, 6))), _share(noisy.x[1])


def _share(logit: float) -> float:
    """A share of wrong labels, below a half: above it the right ones would be the wrong ones."""
    return float(0.5 / (1 + np.exp(-logit)))
