"""What a net sees of an image at a test scale: its whole, or crops of it."""

from collections.abc import Callable, Sequence

import numpy as np
from jaxtyping import UInt8
from numpy import ndarray
from PIL import Image

from verydeep.data.images import centre_crop, rescale, rescaled_size, trim
from verydeep.mistakes import MistakeError
from verydeep.paper import TOTAL_STRIDE

MOST_PIXELS = 64_000_000
"""Pixels of a rescaled image at most: it is held in memory, in Pillow with four bytes for each."""

GRID_SIDE = 5
"""Crops of the grid in each direction (section 3.2 has 5x5)."""

View = Callable[[Image.Image, int, int], list[UInt8[ndarray, "h w 3"]]]
"""Gives what the net sees of an image, from the test scale Q and the crop, both in pixels."""


def whole(image: Image.Image, scale: int, _crop: int) -> list[UInt8[ndarray, "h w 3"]]:
    """The image rescaled to Q, its sides trimmed about the centre to multiples of 32."""
    return [np.asarray(trim(_rescaled(image, scale), TOTAL_STRIDE))]


def untrimmed(image: Image.Image, scale: int, _crop: int) -> list[UInt8[ndarray, "h w 3"]]:
    """The image rescaled to Q."""
    return [np.asarray(_rescaled(image, scale))]


def centre(image: Image.Image, scale: int, crop: int) -> list[UInt8[ndarray, "h w 3"]]:
    """The central crop of the image rescaled to Q.

    Of an image too long to be held at Q, what is far from its centre is cut off before.
    """
    if _num_pixels(image, scale) > MOST_PIXELS:
        short = min(image.size)
        image = centre_crop(image, *(min(side, 3 * short + (side - short) % 2) for side in image.size))
    return [np.asarray(centre_crop(rescale(image, scale), crop, crop))]


def corners_and_centre(image: Image.Image, scale: int, crop: int) -> list[UInt8[ndarray, "h w 3"]]:
    """The crops at the four corners and at the centre of the image rescaled to Q."""
    array = np.asarray(_rescaled(image, scale))
    bottom, right = (side - crop for side in array.shape[:2])
    places = [(0, 0), (0, right), (bottom, 0), (bottom, right), (bottom // 2, right // 2)]
    return [_cut(array, top, left, crop) for top, left in places]


def grid(image: Image.Image, scale: int, crop: int) -> list[UInt8[ndarray, "h w 3"]]:
    """A regular grid of 5x5 crops of the image rescaled to Q.

    Choice: evenly spaced from edge to edge, offsets rounded to the nearest pixel.

    Paper: section 3.2.
    """
    array = np.asarray(_rescaled(image, scale))
    tops, lefts = (grid_offsets(side - crop) for side in array.shape[:2])
    return [_cut(array, top, left, crop) for top in tops for left in lefts]


def grid_offsets(room: int) -> Sequence[int]:
    """The offsets of the crops of the grid in one direction.

    Args:
        room: the largest offset, pixels.
    """
    steps = GRID_SIDE - 1
    return [(2 * room * index + steps) // (2 * steps) for index in range(GRID_SIDE)]


def _cut(array: UInt8[ndarray, "h w 3"], top: int, left: int, crop: int) -> UInt8[ndarray, "c c 3"]:
    return array[top : top + crop, left : left + crop]


def _num_pixels(image: Image.Image, scale: int) -> int:
    width, height = rescaled_size(image.size, scale)
    return width * height


def _rescaled(image: Image.Image, scale: int) -> Image.Image:
    if _num_pixels(image, scale) > MOST_PIXELS:
        width, height = rescaled_size(image.size, scale)
        raise MistakeError(
            f"an image of {image.width}x{image.height} becomes {width}x{height} at test scale {scale}, more than "
            f"{MOST_PIXELS:,} pixels: crop it, or use --protocol centre"
        )
    return rescale(image, scale)
