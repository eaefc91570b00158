"""Decodes plain JPEG files by libjpeg-turbo in one go, and finds those that it calls corrupt.

Pillow has the same decoder, feeds it piece by piece, and copies the pixels twice; the pixels are equal. But Pillow
says nothing where the decoder warns: it fills what is lost with grey or with what came before.
"""

import warnings
from typing import Final

import numpy as np
from jaxtyping import UInt8
from numpy import ndarray

try:
    import simplejpeg
except ImportError:  # there is no wheel for this platform: Pillow does everything
    simplejpeg = None

JPEG_FORMATS: Final = ("JPEG", "MPO")
"""Pillow's names of the formats whose first image is a JPEG."""

_PLAIN: Final = frozenset({"YCbCr", "Gray"})

_SCAN: Final = b"\xff\xda"
_MOST_SCANNED: Final = 2_500_000_000
"""Pixels of all scans of a file: a progressive one has ten as a rule, and each goes over the whole image."""


class CorruptImageWarning(UserWarning):
    """An image whose pixels are partly lost: it is decoded as far as it goes."""


def decode_plain(encoded: bytes, size: tuple[int, int]) -> UInt8[ndarray, "h w 3"] | None:
    """Decodes a JPEG in colour or grey that is undamaged, of a width and height; None for all others."""
    if simplejpeg is None:
        return None
    try:
        height, width, colours, _ = simplejpeg.decode_jpeg_header(encoded)
        if colours not in _PLAIN or (width, height) != size:
            return None
        pixels: ndarray = simplejpeg.decode_jpeg(encoded, colorspace="RGB")
    except (ValueError, KeyError):  # libjpeg warned, or does not know the kind: Pillow says whether that matters
        return None
    return np.asarray(pixels)


def corruption(encoded: bytes) -> str | None:
    """What libjpeg says of a JPEG that it calls corrupt and that Pillow reads; None where it says nothing."""
    if simplejpeg is None:
        return None
    try:
        _, _, colours, _ = simplejpeg.decode_jpeg_header(encoded, strict=False)
    except (ValueError, KeyError):  # of a kind that it does not know, which need not be corrupt
        return None
    try:
        if colours in _PLAIN:
            simplejpeg.decode_jpeg(encoded, colorspace="GRAY", min_height=1, min_width=1, min_factor=8)
    except ValueError as error:
        return " ".join(str(error).split()) or "no reason"
    return None


def warn_of_corruption(encoded: bytes, where: str) -> None:
    """Warns of a JPEG that was decoded although libjpeg calls it corrupt; ``where`` names it."""
    if (reason := corruption(encoded)) is not None:
        warnings.warn(
            f"{where} is corrupt ({reason}): its pixels are read as far as they go, save it anew from its source",
            CorruptImageWarning,
            stacklevel=2,
        )


def too_many_scans(encoded: bytes, num_pixels: int) -> str | None:
    """Why a JPEG is not decoded: a small file of very many scans would take minutes; None where it is."""
    scans = encoded.count(_SCAN)
    if scans * num_pixels <= _MOST_SCANNED:
        return None
    return f"it has {num_pixels:,} pixels in {scans:,} scans, which would take minutes: save it anew"
