"""Boxes: the code that a net predicts, and how well two boxes overlap.

Paper: appendix A.
"""

import numpy as np
from jaxtyping import Float64
from numpy import ndarray

from verydeep.images.augment import CropPlace


def encode(corners: Float64[ndarray, "n 4"], crop: CropPlace) -> Float64[ndarray, "n 4"]:
    """Converts boxes in pixels of an image to centre x, centre y, width, height, divided by the side of the crop."""
    left, top, right, bottom = crop.to_crop(corners).T / crop.crop
    return np.stack([(left + right) / 2, (top + bottom) / 2, right - left, bottom - top], axis=1)


def decode(code: Float64[ndarray, "n 4"], crop: CropPlace) -> Float64[ndarray, "n 4"]:
    """Converts codes to boxes in pixels of the image."""
    x, y, width, height = code.T * crop.crop
    return crop.to_image(np.stack([x - width / 2, y - height / 2, x + width / 2, y + height / 2], axis=1))


def iou(a: Float64[ndarray, "n 4"], b: Float64[ndarray, "m 4"]) -> Float64[ndarray, "n m"]:
    """Computes the intersection of boxes over their union, each with each."""
    sides = np.minimum(a[:, None, 2:], b[None, :, 2:]) - np.maximum(a[:, None, :2], b[None, :, :2])
    inside = sides.clip(0).prod(2)
    areas = [(corners[:, 2:] - corners[:, :2]).clip(0).prod(1) for corners in (a, b)]
    union = areas[0][:, None] + areas[1][None] - inside
    found: ndarray = np.divide(inside, union, out=np.zeros_like(inside), where=union > 0)
    return found
