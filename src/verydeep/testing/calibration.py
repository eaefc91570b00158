"""Calibration: one temperature that makes posteriors as sure as they are right, folded into the last layer.

Guo et al., On Calibration of Modern Neural Networks (2017).
"""

from collections.abc import Callable
from typing import Any, Final

import numpy as np
from jaxtyping import Float, Int, Int8
from numpy import ndarray

from verydeep.errors import UsageError

NUM_BINS: Final = 15
"""Bins of the expected calibration error, as Guo et al. have them."""

_SMALLEST: Final = 1e-30
"""Posteriors below count as this: the logarithm of 0 has no temperature."""


def calibrate(scores: Float[ndarray, "n k"], labels: Int[ndarray, "n"]) -> float:
    """Finds the temperature of scores: what they are divided by so that their soft-max is most likely.

    About 1 where they are calibrated, above where they are too sure. One image more of no class is counted, so that
    the temperature of scores without an error is not 0.

    Args:
        scores: before the soft-max, or the logarithms of posteriors, ``scores_of``; of images not trained on.
        labels: index of the class of each image.
    """
    if not len(scores) or scores.shape[1] < 2:
        raise UsageError(f"{len(scores)} images of {scores.shape[1]} classes: a temperature needs images of several")
    targets = np.where(np.arange(scores.shape[1]) == labels[:, None], 1, -1).astype(np.int8)
    return best_temperature(scores.astype(np.float64), targets, softmax_loss)


def scores_of(posteriors: Float[ndarray, "n k"]) -> Float[ndarray, "n k"]:
    """The logarithms of posteriors: scores whose soft-max they are."""
    found: ndarray = np.log(np.maximum(posteriors.astype(np.float64), _SMALLEST))
    return found


def fold_temperature(net: Any, scores: Float[ndarray, "n k"], labels: Int[ndarray, "n"]) -> float:  # noqa: ANN401
    """Calibrates a net: divides weight and bias of fc8 by the temperature of its scores, and returns that.

    Every backend, file and export of the net then has calibrated posteriors and knows nothing of it. Scores keep their
    order at every position; a mean of posteriors, as over mirror images or crops, may rank close classes otherwise.

    Args:
        net: a VeryDeep, changed in place; a backend made of it before is not.
        scores: of images that it was not trained on.
        labels: index of the class of each image.
    """
    import torch

    net.require_scores()
    temperature = calibrate(scores, labels)
    with torch.no_grad():
        for parameter in net.get_submodule("fc8").parameters():
            parameter.div_(temperature)
    return temperature


def calibration_error(posteriors: Float[ndarray, "n k"], labels: Int[ndarray, "n"]) -> float:
    """The expected calibration error: by how much the largest posterior differs from the share that is right.

    Its mean over bins of equal width, weighted by their images: a fraction, 0 for posteriors that can be believed. Of a
    few hundred images it is some hundredths by chance alone.
    """
    sureness, is_right = posteriors.max(1).astype(np.float64), posteriors.argmax(1) == labels
    bins = np.minimum((sureness * NUM_BINS).astype(int), NUM_BINS - 1)
    gaps = np.bincount(bins, weights=is_right - sureness, minlength=NUM_BINS)
    return float(np.abs(gaps).sum() / len(labels))


def best_temperature(
    scores: Float[ndarray, "n k"], targets: Int8[ndarray, "n k"], loss: Callable[[ndarray, ndarray], float]
) -> float:
    """The positive number that scores are divided by for the least loss."""
    from scipy.optimize import minimize_scalar

    spread = float(scores.std()) or 1.0
    found = minimize_scalar(
        lambda log: loss(scores / (spread * np.exp(log)), targets), bounds=(-6, 6), method="bounded"
    )
    return spread * float(np.exp(found.x))


def softmax_loss(scores: Float[ndarray, "n k"], targets: Int8[ndarray, "n k"]) -> float:
    """Counts one image more than there are, of no class: where all are right, posteriors are no surer than that."""
    highest = scores.max(1, keepdims=True)
    surprise = highest + np.log(np.exp(scores - highest).sum(1, keepdims=True)) - scores
    return float((surprise[targets > 0].sum() + surprise.mean()) / (len(scores) + 1))
