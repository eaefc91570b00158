"""Decodes any image file to upright RGB."""

import io
from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from numpy import ndarray
from PIL import Image, ImageOps, UnidentifiedImageError

from verydeep.errors import UserError

try:
    import simplejpeg
except ImportError:  # there is no wheel for this platform: Pillow does everything
    simplejpeg = None

SUFFIXES = frozenset({".jpg", ".jpeg", ".jpe", ".png", ".bmp", ".gif", ".tif", ".tiff", ".webp", ".ppm", ".pgm"})
"""Endings of the files that count as images, in lower case."""

FORMATS = ("JPEG", "PNG", "BMP", "GIF", "TIFF", "WEBP", "AVIF", "JPEG2000", "PPM")
"""Formats that are read whatever a file is called, by Pillow's names; its JPEG reads MPO too.

Without a list Pillow starts other programs for some, such as Ghostscript for EPS.
"""

_DAMAGED_REMEDY = "mend or remove it, or leave damaged files out with --damaged skip"
"""Of a damaged image in a data set, for messages."""

ORIENTATION = 0x0112
"""The EXIF tag that says how an image is turned or mirrored; 1 is upright."""

_PLAIN = frozenset({"YCbCr", "Gray"})


class DamagedImageError(UserError):
    """A file that cannot be decoded as an image, and what helps, where that is known."""

    def __init__(self, problem: str, remedy: str | None = None) -> None:
        super().__init__(problem if remedy is None else f"{problem}; {remedy}")
        self.problem, self.remedy = problem, remedy

    def in_a_set(self, more: str = "") -> "DamagedImageError":
        """Returns the error that ends the reading of a data set, with the remedy and ``more`` to be said before it."""
        return DamagedImageError(self.problem + more, self.remedy or _DAMAGED_REMEDY)


def is_image_file(file: Path) -> bool:
    """Whether a file's name says that it is an image; hidden files are not."""
    return file.suffix.lower() in SUFFIXES and not file.name.startswith(".")


def read_file(file: Path) -> bytes:
    """Reads a file; raises DamagedImageError where the disk or its permissions forbid it."""
    try:
        return file.read_bytes()
    except FileNotFoundError as error:
        raise UserError(f"no such file: {file}") from error
    except IsADirectoryError as error:
        raise UserError(f"{file} is a folder, not an image") from error
    except OSError as error:
        raise DamagedImageError(f"{file} cannot be read: {error.strerror or error}") from error


def open_image(file: Path | io.BytesIO) -> Image.Image:
    """Opens an image in one of ``FORMATS``; its pixels are not decoded yet."""
    return Image.open(file, formats=FORMATS)


def read_image(file: str | Path) -> Image.Image:
    """Reads and decodes an image file to upright RGB."""
    return Image.fromarray(decode_pixels(read_file(Path(file)), str(file)))


def decode_pixels(encoded: bytes, where: str) -> UInt8[ndarray, "h w 3"]:
    """Decodes an image file to upright RGB, the first frame of an animation; ``where`` names it in messages."""
    try:
        with open_image(io.BytesIO(encoded)) as image:
            pixels = _decode_plain_jpeg(encoded, image)
            if pixels is not None:
                return pixels
            image.load()
            if image.format == "PPM" and image.mode == "I":  # 16 bits a pixel, which Pillow holds as 32
                return np.asarray(to_rgb(Image.fromarray(np.asarray(image).astype(np.uint16))))
            return np.asarray(to_rgb(ImageOps.exif_transpose(image)))
    except MemoryError:
        raise
    except Exception as error:  # decoders of damaged files raise whatever they run into
        reason = str(error) or type(error).__name__
        if not encoded:
            reason = "it is empty"
        elif isinstance(error, UnidentifiedImageError):
            reason = f"cannot identify its format: none of {', '.join(FORMATS)}"
        raise DamagedImageError(f"{where} cannot be read as an image: {reason}") from error


def _decode_plain_jpeg(encoded: bytes, image: Image.Image) -> UInt8[ndarray, "h w 3"] | None:
    """Decodes a JPEG that is upright, in colour or grey, and undamaged, by libjpeg-turbo in one go.

    Pillow has the same decoder, feeds it piece by piece, and copies the pixels twice; the pixels are equal. None for
    all other files: Pillow decodes them, or says what is wrong.
    """
    if simplejpeg is None or image.format != "JPEG" or image.mode not in ("RGB", "L"):
        return None
    if image.getexif().get(ORIENTATION, 1) != 1:
        return None
    try:
        height, width, colours, _ = simplejpeg.decode_jpeg_header(encoded)
        if colours not in _PLAIN or (width, height) != image.size:
            return None
        pixels: ndarray = simplejpeg.decode_jpeg(encoded, colorspace="RGB")
    except ValueError:  # libjpeg warned: Pillow says whether that matters
        return None
    return np.asarray(pixels)


def to_rgb(image: Image.Image) -> Image.Image:
    """Converts grey, palette, CMYK, 16-bit and transparent images to 8-bit RGB.

    Choice: transparent pixels are laid over white; 16-bit grey is scaled to 8 bits.
    """
    if image.mode == "RGB":
        return image
    if image.mode.startswith("I;16"):
        grey = np.asarray(image).astype(np.uint32)
        return Image.fromarray(((grey * 255 + 32767) // 65535).astype(np.uint8)).convert("RGB")
    if image.mode in ("I", "F"):
        raise DamagedImageError("its pixels have 32 bits and no stated range: convert it to 8 or 16 bits")
    if image.has_transparency_data:
        rgba = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba).convert("RGB")
    return image.convert("RGB")
