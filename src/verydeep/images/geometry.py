"""Isotropic rescaling: sizes, the window in the middle, the limit of pixels."""

from jaxtyping import UInt8
from numpy import ndarray

from verydeep.images.resample import resample

MOST_PIXELS = 64_000_000
"""Pixels of a rescaled image at most: a test holds it in memory, in Pillow with four bytes for each."""


LONGEST = 200
"""How many times longer than wide an image may be at most, and the other way round: a strip is no photograph.

Rescaled to a usual height it would cost as many crops as that."""


def rescaled_size(size: tuple[int, int], scale: int) -> tuple[int, int]:
    """Width and height after isotropic rescaling: the shorter side is the scale, the longer one rounded."""
    width, height = size
    if width <= height:
        return scale, max(scale, round(height * scale / width))
    return max(scale, round(width * scale / height)), scale


def too_long(size: tuple[int, int], scale: int) -> str | None:
    """Why an image cannot be rescaled: it is a strip, or would have more than ``MOST_PIXELS``; None where it can."""
    if max(size) > LONGEST * min(size):
        return f"{size[0]}x{size[1]} pixels is a strip: one side is more than {LONGEST} times as long as the other"
    width, height = rescaled_size(size, scale)
    if width * height <= MOST_PIXELS:
        return None
    return f"{size[0]}x{size[1]} becomes {width}x{height} at scale {scale}, more than {MOST_PIXELS:,} pixels"


def size_of(pixels: UInt8[ndarray, "h w 3"]) -> tuple[int, int]:
    """Width and height of an image."""
    return pixels.shape[1], pixels.shape[0]


def rescale(pixels: UInt8[ndarray, "h w 3"], scale: int, multiple: int = 1) -> UInt8[ndarray, "y x 3"]:
    """Rescales an image isotropically until its shorter side is the scale, in pixels.

    The sides are then trimmed about the centre to multiples of a number of pixels.

    Choice: bilinear with antialiasing.

    Paper: section 3.1.
    """
    width, height = size = rescaled_size(size_of(pixels), scale)
    return resample(pixels, size, centred(size, width // multiple * multiple, height // multiple * multiple))


def rescaled_centre(pixels: UInt8[ndarray, "h w 3"], scale: int, crop: int) -> UInt8[ndarray, "c c 3"]:
    """Cuts a square out of the middle of the rescaled image; no other pixel of it is computed."""
    size = rescaled_size(size_of(pixels), scale)
    return resample(pixels, size, centred(size, crop, crop))


def centred(size: tuple[int, int], width: int, height: int) -> tuple[int, int, int, int]:
    """Returns the window in the middle of an image: left, top, width, height; an odd pixel remains right and below."""
    return (size[0] - width) // 2, (size[1] - height) // 2, width, height
