"""Error rates of boxes as ILSVRC has them: pure functions of boxes and of the objects that are there.

Paper: appendix A.
"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Float, Float64, Int, Int64
from numpy import ndarray

from verydeep.localisation.boxes import RIGHT_OVERLAP, iou

SHARES = 20
"""Parts of the distribution of the IoU."""


def best_overlaps(boxes: Float[ndarray, "n 4"], objects: Sequence[Float[ndarray, "_ 4"]]) -> Float64[ndarray, "n"]:
    """The IoU of the box of each image with that of its objects which it overlaps most."""
    return np.array([iou(box[None], one).max() for box, one in zip(boxes, objects, strict=True)], np.float64)


def wrong_boxes(
    classes: Int[ndarray, "n t"],
    overlaps: Float[ndarray, "n t"],
    labels: Int[ndarray, "n"],
    top: int,
) -> Bool[ndarray, "n"]:
    """Returns for each image whether none of its ``top`` answers has the right class and the right box.

    Args:
        classes: that each answer names, the most likely first.
        overlaps: IoU of its box with the object of the image's class that it overlaps most.
        labels: class of each image.
        top: answers that count.
    """
    right = (classes == labels[:, None]) & (overlaps > RIGHT_OVERLAP)
    is_wrong: ndarray = ~right[:, :top].any(1)
    return is_wrong


def overlap_counts(overlaps: Float[ndarray, "n"]) -> Int64[ndarray, "shares"]:
    """Counts the images whose IoU lies in each of ``SHARES`` equal parts: a part holds its upper edge."""
    parts = np.ceil(overlaps * SHARES - 1e-9).astype(np.int64) - 1
    return np.bincount(parts.clip(0, SHARES - 1), minlength=SHARES)
