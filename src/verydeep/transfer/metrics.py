"""Metrics of appendix B: mean class recall, average precision as the Pascal VOC measures it, accuracy.

Paper: appendix B, Tables 11 and 12.
"""

from typing import Final, Literal

import numpy as np
from jaxtyping import Bool, Float, Int
from numpy import ndarray

METRICS: Final = ("recall", "map", "accuracy")
"""Mean class recall, mean average precision, share of images that are right."""

Area = Literal["eleven-points", "area"]
"""How precision and recall become one number: VOC 2007's eleven points, or the area of VOC 2010 and later."""


def accuracy(predicted: Int[ndarray, "n"], labels: Int[ndarray, "n"]) -> float:
    return float(np.mean(predicted == labels))


def score_accuracy(scores: Float[ndarray, "n k"], targets: Int[ndarray, "n k"]) -> float:
    """The accuracy of the class with the highest score, of images that show one class each."""
    return accuracy(scores.argmax(1), targets.argmax(1))


def class_recalls(predicted: Int[ndarray, "n"], labels: Int[ndarray, "n"], num_classes: int) -> list[float | None]:
    """The share of the images of each class that are recognised; None for a class without images."""
    counts = np.bincount(labels, minlength=num_classes)
    right = np.bincount(labels[predicted == labels], minlength=num_classes)
    return [float(found / count) if count else None for found, count in zip(right, counts, strict=True)]


def mean_class_recall(predicted: Int[ndarray, "n"], labels: Int[ndarray, "n"], num_classes: int) -> float:
    """The mean of the recalls of the classes that have images: every class counts alike.

    Paper: appendix B.
    """
    return float(np.mean([recall for recall in class_recalls(predicted, labels, num_classes) if recall is not None]))


def average_precision(scores: Float[ndarray, "n"], targets: Int[ndarray, "n"], area: Area = "area") -> float | None:
    """The average precision of one class.

    Precision at a recall is the best at that recall or a higher one, in both ways of measuring.

    Choice: images of equal score enter the ranking together, so that their order does not count.

    Args:
        scores: the higher, the more the image shows the class.
        targets: 1 shows it, -1 does not, 0 counts as neither (VOC calls it difficult).
        area: ``eleven-points`` (recalls 0, 0.1 ... 1) or ``area``.

    Returns:
        A fraction; None where no image shows the class.

    Paper: appendix B.
    """
    counted = targets != 0
    scores, positive = scores[counted], targets[counted] > 0
    if not positive.any():
        return None
    precision, recall = _curve(scores, positive)
    best = np.maximum.accumulate(precision[::-1])[::-1]
    if area == "area":
        return float(np.sum(best * np.diff(recall, prepend=0.0)))
    points = np.searchsorted(recall, np.arange(11) / 10 - 1e-12)  # recalls are counts divided: 0.3 need not be 3 / 10
    return float(np.append(best, 0.0)[points].mean())


def _curve(scores: Float[ndarray, "n"], positive: Bool[ndarray, "n"]) -> tuple[ndarray, ndarray]:
    """Precision and recall after each group of equal scores, the highest first."""
    order = np.argsort(-scores, kind="stable")
    scores, positive = scores[order], positive[order]
    ends = np.append(np.flatnonzero(np.diff(scores)), len(scores) - 1)
    true = np.cumsum(positive)[ends]
    return true / (ends + 1), true / positive.sum()


def average_precisions(
    scores: Float[ndarray, "n k"], targets: Int[ndarray, "n k"], area: Area = "area"
) -> list[float | None]:
    return [average_precision(scores[:, index], targets[:, index], area) for index in range(targets.shape[1])]


def mean_average_precision(scores: Float[ndarray, "n k"], targets: Int[ndarray, "n k"], area: Area = "area") -> float:
    """The mean of the average precisions of the classes that some image shows; NaN where there is none.

    Paper: appendix B.
    """
    found = [value for value in average_precisions(scores, targets, area) if value is not None]
    return float(np.mean(found)) if found else float("nan")


def one_against_rest(labels: Int[ndarray, "n"], num_classes: int) -> Int[ndarray, "n k"]:
    """Targets 1 and -1 of images that show one class each."""
    targets = np.full((len(labels), num_classes), -1, dtype=np.int8)
    targets[np.arange(len(labels)), labels] = 1
    return targets
