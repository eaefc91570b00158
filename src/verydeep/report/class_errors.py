"""Which classes a net gets wrong, and what it takes them for."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy import ndarray

from verydeep.evaluation.errors import interval95, top_error
from verydeep.evaluation.result import Result

MOST_CLASSES = 30
"""Classes shown of data sets with more."""


@dataclass(frozen=True, kw_only=True)
class ClassError:
    """The error of one class.

    Attributes:
        index: of the class.
        name: of the class.
        num_images: tested.
        error: top-1, a fraction.
        interval: that holds the true error with 95% confidence.
        taken_for: the class it is most often taken for; None where every image is right.
        times: images taken for that class.
    """

    index: int
    name: str
    num_images: int
    error: float
    interval: tuple[float, float]
    taken_for: str | None
    times: int


def class_errors(result: Result) -> list[ClassError]:
    """Measures the top-1 error of every class that has images, the worst first."""
    table = confusion_counts(result, range(len(result.classes)))[:, :-1]
    errors = []
    for index, name in enumerate(result.classes):
        own = result.labels == index
        number = int(own.sum())
        if not number:
            continue
        error = top_error(result.posteriors[own], result.labels[own], 1)
        assert error is not None
        wrong = table[index].copy()
        wrong[index] = 0
        most = int(wrong.argmax())
        errors.append(
            ClassError(
                index=index,
                name=name,
                num_images=number,
                error=error,
                interval=interval95(error, number),
                taken_for=result.classes[most] if wrong[most] else None,
                times=int(wrong[most]),
            )
        )
    return sorted(errors, key=lambda each: (-each.error, each.index))


def confusion_counts(result: Result, indices: Sequence[int]) -> ndarray:
    """Counts what the images of some classes are taken for.

    Args:
        result: of a test.
        indices: of the classes.

    Returns:
        One row for each class, one column for each class and a last one for all others.
    """
    column = np.full(len(result.classes), len(indices))
    column[list(indices)] = range(len(indices))
    counts = np.zeros((len(indices), len(indices) + 1), dtype=np.int64)
    own = column[result.labels] < len(indices)
    np.add.at(counts, (column[result.labels[own]], column[result.posteriors[own].argmax(1)]), 1)
    return counts
