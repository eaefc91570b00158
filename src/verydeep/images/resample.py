"""Rescales an image and cuts a window out in one step: no pixel outside the window is computed.

``resample.cpp`` is built once for each kind of vector, and the best that the CPU has is loaded; it gives what
Pillow's bilinear ``resize`` gives, to the last bit, where that resamples rows before columns. (Pillow 13 begins with
the columns of some tall images, which changes a quarter of the values by one grey level.) Without it Pillow computes
the window: values differ by one grey level at most, by 0.3 on average. The environment variable ``VERYDEEP_RESAMPLE``
(avx512, avx2, plain or none) chooses here too.

Paper: section 3.1.
"""

import ctypes
import hashlib
import os
from ctypes import c_char_p, c_int, c_int64, c_void_p
from functools import cache
from pathlib import Path

import numpy as np
from jaxtyping import Int, UInt8
from numpy import ndarray
from PIL import Image

from verydeep.errors import UsageError

KINDS = ("plain", "avx2", "avx512")
"""The libraries, the slowest first: the index of each is what the CPU must have."""

VARIABLE = "VERYDEEP_RESAMPLE"

MOST_SIDE = 2**31
"""Longest side of a rescaled image, pixels: 64-bit sums and products cannot overflow."""

_HERE = Path(__file__).parent


def resample(
    pixels: UInt8[ndarray, "h w 3"],
    size: tuple[int, int],
    window: tuple[int, int, int, int],
    *,
    mirrored: bool = False,
    shift: Int[ndarray, "3"] | None = None,
) -> UInt8[ndarray, "y x 3"]:
    """Computes a window of a rescaled image, bilinear with antialiasing.

    Args:
        pixels: RGB.
        size: width and height of the rescaled image, pixels.
        window: left, top, width and height in the rescaled image, pixels.
        mirrored: mirror the window, left to right.
        shift: added to the colours, in grey levels; what leaves 0..255 is clipped.

    Raises:
        ValueError: pixels of another dtype or shape, no pixels, or a window that is not inside.
    """
    left, top, width, height = window
    if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[2] != 3 or not pixels.size:
        raise ValueError(f"pixels of {pixels.dtype}, {pixels.shape}: give uint8, height, width, 3")
    if not (0 <= left < left + width <= size[0] <= MOST_SIDE and 0 <= top < top + height <= size[1] <= MOST_SIDE):
        raise ValueError(f"the window {window} is not inside an image of {size[0]}x{size[1]} pixels")
    if shift is not None and shift.shape != (3,):
        raise ValueError(f"a shift of shape {shift.shape}: give one number per channel")
    library = find_library()
    if library is None or size == (pixels.shape[1], pixels.shape[0]):
        return _shifted(_by_pillow(pixels, size, window), mirrored, shift)
    pixels = np.ascontiguousarray(pixels)
    window_pixels = np.empty((height, width, 3), dtype=np.uint8)
    added = np.zeros(3, dtype=np.int32) if shift is None else np.clip(shift, -255, 255).astype(np.int32)
    failed = library.verydeep_resample(
        pixels.ctypes.data,
        pixels.shape[1],
        pixels.shape[0],
        *size,
        *window,
        mirrored,
        added.ctypes.data,
        window_pixels.ctypes.data,
    )
    if failed:
        raise MemoryError
    return window_pixels


def _by_pillow(
    pixels: UInt8[ndarray, "h w 3"], size: tuple[int, int], window: tuple[int, int, int, int]
) -> UInt8[ndarray, "y x 3"]:
    (given_height, given_width, _), (left, top, width, height) = pixels.shape, window
    if size == (given_width, given_height):
        return pixels[top : top + height, left : left + width]
    image = Image.fromarray(pixels)
    if (width, height) == size:
        return np.asarray(image.resize(size, Image.Resampling.BILINEAR))
    across, down = given_width / size[0], given_height / size[1]
    right, bottom = min((left + width) * across, given_width), min((top + height) * down, given_height)
    box = (left * across, top * down, right, bottom)
    return np.asarray(image.resize((width, height), Image.Resampling.BILINEAR, box=box))


def _shifted(
    pixels: UInt8[ndarray, "y x 3"], mirrored: bool, shift: Int[ndarray, "3"] | None
) -> UInt8[ndarray, "y x 3"]:
    if mirrored:
        pixels = pixels[:, ::-1]
    if shift is None:
        return pixels
    shifted: ndarray = np.clip(pixels + np.clip(shift, -255, 255).astype(np.int16), 0, 255).astype(np.uint8)
    return shifted


def find_library() -> ctypes.CDLL | None:
    """Returns the fastest library that was built and that this CPU can run; None where Pillow has to do."""
    wanted = os.environ.get(VARIABLE, "")
    if wanted == "none":
        return None
    if wanted and wanted not in KINDS:
        raise UsageError(f"{VARIABLE}={wanted}: choose one of {', '.join(reversed(KINDS))} or none")
    plain = _loaded("plain")
    usable = KINDS[: plain.verydeep_vectors() + 1] if plain else ()
    if not wanted:
        return next((library for kind in reversed(usable) if (library := _loaded(kind))), None)
    if plain and wanted not in usable:
        raise UsageError(f"{VARIABLE}={wanted}: this processor can run {', '.join(reversed(usable))}")
    library = _loaded(wanted) if plain else None
    if library is None:
        raise UsageError(f"{VARIABLE}={wanted}: it was not built: install a C++ compiler, then verydeep again")
    return library


@cache
def _loaded(kind: str) -> ctypes.CDLL | None:
    file = _HERE / f"_resample_{kind}.so"
    try:
        library = ctypes.CDLL(str(file))
    except OSError:  # it was not built
        return None
    library.verydeep_source.restype = c_char_p
    fingerprint = hashlib.sha256((_HERE / "resample.cpp").read_bytes()).hexdigest()[:16]
    if library.verydeep_source().decode() != fingerprint:
        return None
    library.verydeep_resample.argtypes = [c_void_p, *[c_int64] * 8, c_int, c_void_p, c_void_p]
    return library
