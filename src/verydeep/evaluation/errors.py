"""Error rates of saved posteriors."""

import numpy as np
from jaxtyping import Bool, Float, Int
from numpy import ndarray


def wrong(posteriors: Float[ndarray, "n k"], labels: Int[ndarray, "n"], top: int = 1) -> Bool[ndarray, "n"]:
    """Says of each image whether its class is not among the top ones.

    A class counts as beaten by every other class with a higher posterior, and by half of those with the same, so that a
    net that says the same of all classes gets no image right by the order of the classes. NaN is always wrong.

    Args:
        posteriors: one row per image.
        labels: index of the true class.
        top: 1 or 5.

    Paper: section 4.
    """
    own = posteriors[np.arange(len(labels)), labels][:, None]
    beaten_by = (posteriors > own).sum(1) + ((posteriors == own).sum(1) - 1) / 2
    is_wrong: ndarray = ~(beaten_by < top) | np.isnan(own[:, 0])
    return is_wrong


def top_error(posteriors: Float[ndarray, "n k"], labels: Int[ndarray, "n"], top: int) -> float | None:
    """The share of images whose class is not among the top ones, as ``wrong`` has it.

    Args:
        posteriors: one row per image.
        labels: index of the true class.
        top: 1 or 5.

    Returns:
        A fraction, micro average; None with fewer classes than ``top``.

    Paper: section 4.
    """
    if posteriors.shape[1] < top:
        return None
    return float(np.mean(wrong(posteriors, labels, top)))


def class_errors(posteriors: Float[ndarray, "n k"], labels: Int[ndarray, "n"]) -> list[float | None]:
    """The top-1 error of the images of each class, as a fraction; None for a class without images.

    Args:
        posteriors: one row per image.
        labels: index of the true class.
    """
    is_wrong = wrong(posteriors, labels)
    counts = np.bincount(labels, minlength=posteriors.shape[1])
    errors = np.bincount(labels, weights=is_wrong, minlength=posteriors.shape[1])
    return [float(error / count) if count else None for error, count in zip(errors, counts, strict=True)]


def interval95(error: float, count: int) -> tuple[float, float]:
    """Wilson's interval that holds the true error with 95% confidence.

    Args:
        error: measured, a fraction.
        count: number of images.
    """
    z = 1.959964
    centre = (error + z * z / (2 * count)) / (1 + z * z / count)
    half = z / (1 + z * z / count) * float(np.sqrt(error * (1 - error) / count + z * z / (4 * count * count)))
    return max(0.0, centre - half), min(1.0, centre + half)
