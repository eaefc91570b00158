"""Views of an image at a test scale: the whole image, or crops of it."""

from collections.abc import Callable, Sequence

from jaxtyping import UInt8
from numpy import ndarray

from verydeep.images.decode import LongImageError
from verydeep.images.geometry import centred, rescale, rescaled_centre, size_of, too_long
from verydeep.paper.constants import TOTAL_STRIDE

GRID_SIDE = 5
"""Crops of the grid in each direction (section 3.2 has 5x5)."""

View = Callable[[UInt8[ndarray, "h w 3"], int, int], list[UInt8[ndarray, "y x 3"]]]
"""Cuts the inputs of a net out of an image, RGB, for a test scale Q and a crop, both in pixels."""


def whole(image: UInt8[ndarray, "h w 3"], scale: int, _crop: int) -> list[UInt8[ndarray, "y x 3"]]:
    """The image rescaled to Q, its sides trimmed about the centre to multiples of 32."""
    return [_rescaled(image, scale, TOTAL_STRIDE)]


def untrimmed(image: UInt8[ndarray, "h w 3"], scale: int, _crop: int) -> list[UInt8[ndarray, "y x 3"]]:
    """The image rescaled to Q."""
    return [_rescaled(image, scale)]


def centre(image: UInt8[ndarray, "h w 3"], scale: int, crop: int) -> list[UInt8[ndarray, "y x 3"]]:
    """The central crop of the image rescaled to Q.

    An image too long to be held at Q is cut about its centre first.
    """
    if too_long(size_of(image), scale):
        short = min(size_of(image))
        kept = (min(side, 3 * short + (side - short) % 2) for side in size_of(image))
        left, top, width, height = centred(size_of(image), *kept)
        image = image[top : top + height, left : left + width]
    return [rescaled_centre(image, scale, crop)]


def corners_and_centre(image: UInt8[ndarray, "h w 3"], scale: int, crop: int) -> list[UInt8[ndarray, "y x 3"]]:
    """The crops at the four corners and at the centre of the image rescaled to Q."""
    array = _rescaled(image, scale)
    bottom, right = (side - crop for side in array.shape[:2])
    corners = [(0, 0), (0, right), (bottom, 0), (bottom, right), (bottom // 2, right // 2)]
    return [_cut(array, top, left, crop) for top, left in corners]


def grid(image: UInt8[ndarray, "h w 3"], scale: int, crop: int) -> list[UInt8[ndarray, "y x 3"]]:
    """A regular grid of 5x5 crops of the image rescaled to Q.

    Choice: evenly spaced from edge to edge, offsets rounded to the nearest pixel.

    Paper: section 3.2.
    """
    array = _rescaled(image, scale)
    tops, lefts = (grid_offsets(side - crop) for side in array.shape[:2])
    return [_cut(array, top, left, crop) for top in tops for left in lefts]


def grid_offsets(room: int) -> Sequence[int]:
    """Offsets of the crops of the grid in one direction, from 0 to ``room`` pixels."""
    steps = GRID_SIDE - 1
    return [(2 * room * index + steps) // (2 * steps) for index in range(GRID_SIDE)]


def _cut(array: UInt8[ndarray, "h w 3"], top: int, left: int, crop: int) -> UInt8[ndarray, "c c 3"]:
    return array[top : top + crop, left : left + crop]


def _rescaled(image: UInt8[ndarray, "h w 3"], scale: int, multiple: int = 1) -> UInt8[ndarray, "y x 3"]:
    if reason := too_long(size_of(image), scale):
        raise LongImageError(f"an image of {reason}: crop it, or use --protocol centre")
    return rescale(image, scale, multiple)
