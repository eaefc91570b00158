"""Error rates of posteriors: over all images, with their interval, and class by class."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int
from numpy import ndarray

from verydeep.errors import UserError


def wrong(posteriors: Float[ndarray, "n k"], labels: Int[ndarray, "n"], top: int = 1) -> Bool[ndarray, "n"]:
    """Returns for each image whether its class is not among the top ones.

    A class counts as beaten by every other class with a higher posterior, and by half of those with the same, so that a
    net with the same score for all classes gets no image right by the order of the classes. NaN is always wrong.

    Paper: section 4.
    """
    own = posteriors[np.arange(len(labels)), labels][:, None]
    beaten_by = (posteriors > own).sum(1) + ((posteriors == own).sum(1) - 1) / 2
    is_wrong: ndarray = ~(beaten_by < top) | np.isnan(own[:, 0])
    return is_wrong


def check_finite(numbers: Float[ndarray, "*shape"], whose: str = "the net") -> None:
    """Raises UserError where scores are NaN or infinite: every figure made of them would look like an answer."""
    if not np.isfinite(numbers).all():
        raise UserError(
            f"the scores of {whose} are not finite: a weight is NaN or infinite, or too large for the precision "
            "(verydeep inspect MODEL --check finds it): fetch or train it again"
        )


def top_error(posteriors: Float[ndarray, "n k"], labels: Int[ndarray, "n"], top: int) -> float | None:
    """The share of images whose class is not among the top ones, as ``wrong`` has it.

    Paper: section 4.
    """
    if posteriors.shape[1] < top:
        return None
    return float(np.mean(wrong(posteriors, labels, top)))


def class_errors(posteriors: Float[ndarray, "n k"], labels: Int[ndarray, "n"]) -> list[float | None]:
    """The top-1 error of the images of each class, as a fraction; None for a class without images."""
    is_wrong = wrong(posteriors, labels)
    counts = np.bincount(labels, minlength=posteriors.shape[1])
    errors = np.bincount(labels, weights=is_wrong, minlength=posteriors.shape[1])
    return [float(error / count) if count else None for error, count in zip(errors, counts, strict=True)]


def interval95(error: float, count: int) -> tuple[float, float]:
    """Wilson's interval that holds the true error with 95% confidence."""
    z = 1.959964
    centre = (error + z * z / (2 * count)) / (1 + z * z / count)
    half = z / (1 + z * z / count) * float(np.sqrt(error * (1 - error) / count + z * z / (4 * count * count)))
    return max(0.0, centre - half), min(1.0, centre + half)


@dataclass(frozen=True, kw_only=True)
class ClassError:
    index: int
    name: str
    num_images: int
    error: float  # top-1, a fraction
    interval: tuple[float, float]  # 95% confidence
    taken_for: str | None  # most often; None where every image is right
    times: int  # images taken for that class


def errors_by_class(
    posteriors: Float[ndarray, "n k"], labels: Int[ndarray, "n"], classes: Sequence[str]
) -> list[ClassError]:
    """Measures the top-1 error of every class that has images, the worst first."""
    table = confusion_counts(posteriors, labels, range(len(classes)))[:, :-1]
    found = []
    for index, error in enumerate(class_errors(posteriors, labels)):
        if error is None:
            continue
        number, others = int((labels == index).sum()), table[index].copy()
        others[index] = 0
        most = int(others.argmax())
        found.append(
            ClassError(
                index=index,
                name=classes[index],
                num_images=number,
                error=error,
                interval=interval95(error, number),
                taken_for=classes[most] if others[most] else None,
                times=int(others[most]),
            )
        )
    return sorted(found, key=lambda each: (-each.error, each.index))


def confusion_counts(
    posteriors: Float[ndarray, "n k"], labels: Int[ndarray, "n"], indices: Sequence[int]
) -> Int[ndarray, "c d"]:
    """Counts what the images of some classes are taken for: a row for each, and a last column for all other classes."""
    column = np.full(posteriors.shape[1], len(indices))
    column[list(indices)] = range(len(indices))
    counts = np.zeros((len(indices), len(indices) + 1), dtype=np.int64)
    own = column[labels] < len(indices)
    np.add.at(counts, (column[labels[own]], column[posteriors[own].argmax(1)]), 1)
    return counts
