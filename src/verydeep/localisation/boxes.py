"""Boxes: the code that a net predicts, how well two boxes overlap, and the boxes of a map.

Paper: appendix A.
"""

import numpy as np
from jaxtyping import Float, Float64
from numpy import ndarray

from verydeep.images.augment import CropPlace
from verydeep.paper.constants import TOTAL_STRIDE

RIGHT_OVERLAP = 0.5
"""A box is right where its intersection over union with that of the object is above this."""


def encode(corners: Float[ndarray, "*n 4"], crop: CropPlace) -> Float64[ndarray, "*n 4"]:
    """Converts boxes (left, top, right, bottom) in pixels of the original image to what a net predicts.

    Choice: centre x, centre y, width and height relative to the crop, divided by its side.
    """
    left, top, right, bottom = np.moveaxis(crop.to_crop(corners), -1, 0)
    return np.stack([(left + right) / 2, (top + bottom) / 2, right - left, bottom - top], -1) / crop.crop


def decode(code: Float[ndarray, "*n 4"], crop: CropPlace) -> Float64[ndarray, "*n 4"]:
    """Converts what a net predicts to boxes (left, top, right, bottom) in pixels of the original image.

    Choice: a width or height below zero counts as zero.
    """
    return crop.to_image(_corners_in_crop(code, crop.crop))


def decode_map(code: Float[ndarray, "channels i j"], first: CropPlace) -> Float64[ndarray, "k positions 4"]:
    """Converts a map of a net to boxes in pixels of the original image, row by row.

    A position sees the crop that lies 32 pixels below or beside that of the position before it. Of a mirrored image the
    map goes from right to left.

    Args:
        code: four numbers for each of k classes.
        first: the crop that the first position sees.

    Paper: appendix A.
    """
    channels, rows, columns = code.shape
    corners = _corners_in_crop(np.moveaxis(code.reshape(channels // 4, 4, rows, columns), 1, -1), first.crop)
    down, across = TOTAL_STRIDE * np.arange(rows)[:, None], TOTAL_STRIDE * np.arange(columns)
    corners[..., 0::2] += across[:, None]
    corners[..., 1::2] += down[..., None]
    return first.to_image(corners).reshape(channels // 4, rows * columns, 4)


def _corners_in_crop(code: Float[ndarray, "*n 4"], side: int) -> Float64[ndarray, "*n 4"]:
    centre, size = side * code[..., :2].astype(np.float64), side * code[..., 2:].astype(np.float64).clip(0)
    return np.concatenate([centre - size / 2, centre + size / 2], -1)


def iou(a: Float[ndarray, "n 4"], b: Float[ndarray, "m 4"]) -> Float64[ndarray, "n m"]:
    """Computes the intersection over union of every two boxes; 0 where neither has an area."""
    a, b = a.astype(np.float64), b.astype(np.float64)
    sides = np.minimum(a[:, None, 2:], b[:, 2:]) - np.maximum(a[:, None, :2], b[:, :2])
    intersection = sides.clip(0).prod(-1)
    union = _areas(a)[:, None] + _areas(b) - intersection
    overlap: ndarray = intersection / np.maximum(union, np.finfo(np.float64).tiny)
    return overlap


def _areas(corners: Float64[ndarray, "n 4"]) -> Float64[ndarray, "n"]:
    areas: ndarray = (corners[:, 2:] - corners[:, :2]).clip(0).prod(-1)
    return areas


def clip(corners: Float[ndarray, "*n 4"], size: tuple[int, int]) -> Float[ndarray, "*n 4"]:
    """Cuts boxes off at the edges of an image of this width and height, which no object crosses."""
    clipped: ndarray = np.clip(corners, 0, [*size, *size])
    return clipped
