"""Plain JPEG files to pixels, by libjpeg-turbo in one go.

Pillow has the same decoder, feeds it piece by piece, and copies the pixels twice. The pixels are equal, so whatever is
not plain, is damaged or cannot be decoded here is left to Pillow.
"""

import numpy as np
from jaxtyping import UInt8
from numpy import ndarray
from PIL import Image

try:
    import simplejpeg
except ImportError:  # there is no wheel for this platform: Pillow does everything
    simplejpeg = None

_ORIENTATION = 0x0112  # of EXIF
_PLAIN = frozenset({"YCbCr", "Gray"})


def decode_plain(encoded: bytes, image: Image.Image) -> UInt8[ndarray, "h w 3"] | None:
    """Decodes a JPEG that is upright, in colour or grey, and undamaged.

    Args:
        encoded: the bytes of the file.
        image: the same, opened by Pillow, which has looked at its head alone.

    Returns:
        RGB as Pillow gives it, or None where Pillow has to decide.
    """
    if simplejpeg is None or image.format != "JPEG" or image.mode not in ("RGB", "L"):
        return None
    if image.getexif().get(_ORIENTATION, 1) != 1:
        return None
    try:
        height, width, colours, _ = simplejpeg.decode_jpeg_header(encoded)
        if colours not in _PLAIN or (width, height) != image.size:
            return None
        pixels: ndarray = simplejpeg.decode_jpeg(encoded, colorspace="RGB")
    except ValueError:  # libjpeg warned: Pillow says whether that matters
        return None
    return np.asarray(pixels)
