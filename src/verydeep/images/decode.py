"""Decodes any image file to upright RGB."""

import io
import os
import re
import stat
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8, UInt32
from numpy import ndarray
from PIL import Image, UnidentifiedImageError

from verydeep.errors import UsageError, UserError
from verydeep.images.jpeg import JPEG_FORMATS, decode_plain, too_many_scans, warn_of_corruption
from verydeep.images.libtiff import silence_libtiff

SUFFIXES = frozenset({
    ".jpg", ".jpeg", ".jpe", ".jfif", ".mpo", ".png", ".apng", ".bmp", ".gif", ".tif", ".tiff", ".webp", ".avif",
    ".jp2", ".j2k", ".jpf", ".jpx", ".ppm", ".pgm", ".pbm", ".pnm",
})  # fmt: skip
"""Endings of the files that count as images, in lower case."""

FORMATS = ("JPEG", "PNG", "BMP", "GIF", "TIFF", "WEBP", "AVIF", "JPEG2000", "PPM")
"""Formats that are read whatever a file is called, by Pillow's names; its JPEG reads MPO too.

Without a list Pillow starts other programs for some, such as Ghostscript for EPS.
"""

MOST_PIXELS_VARIABLE = "VERYDEEP_MAX_PIXELS"
"""The environment variable that ``--max-pixels`` sets: worker processes have it too."""

_MOST_PIXELS = 100_000_000
_BAND_PIXELS = 2**22
"""Pixels that are converted to RGB at once."""

_DAMAGED_REMEDY = "mend or remove it, or leave damaged files out with --damaged skip"
"""Of a damaged image in a data set, for messages."""

ORIENTATION = 0x0112
"""The EXIF tag that says how an image is turned or mirrored; 1 is upright."""

_FIRST_BYTES = (
    ("JPEG", rb"\xff\xd8\xff"),
    ("PNG", rb"\x89PNG\r\n\x1a\n"),
    ("GIF", rb"GIF8[79]a"),
    ("BMP", rb"BM....\0\0\0\0"),
    ("TIFF", rb"II\*\0|MM\0\*"),
    ("WEBP", rb"RIFF....WEBP"),
    ("AVIF", rb"....ftyp(avif|avis|.*avif)"),
    ("HEIF", rb"....ftyp(heic|heix|heim|heis|hevc|hevx|mif1|msf1)"),
    ("JPEG2000", rb"\0\0\0\x0cjP  \r\n\x87\n|\xff\x4f\xff\x51"),
    ("PPM", rb"P[1-6]\s+[\d#]"),
)

_OTHERS = {
    "OpenEXR, of floats": b"v/1\x01", "Radiance HDR, of floats": b"#?RADIANCE", "PFM, of floats": b"PF",
    "Photoshop's": b"8BPS", "JPEG XL": b"\xff\x0a", "a PDF": b"%PDF", "SVG": b"<svg", "a page of HTML": b"<!DOCTYPE",
    "a Zip file": b"PK\x03\x04", "a pointer of Git LFS": b"version https://git-lfs",
}  # fmt: skip

_PHOTOMETRIC, _BITS, _SAMPLE_FORMAT = 262, 258, 339  # tags of TIFF
_SIGNED = 2

MANY_BITS = "scaled down by 257: with fewer bits in use they come out dark; convert them to 8 bits"
"""Of images with 16 bits a channel, for messages."""

_SIXTEEN_BITS = ("I;16", "L;16", "LA;16", "RGB;16", "RGBA;16", "RGBX;16")


class DamagedImageError(UserError):
    """A file that cannot be decoded as an image, and what helps, where that is known."""

    def __init__(self, problem: str, remedy: str | None = None) -> None:
        super().__init__(problem if remedy is None else f"{problem}; {remedy}")
        self.problem, self.remedy = problem, remedy

    def in_a_set(self, more: str = "") -> "DamagedImageError":
        """Returns the error that ends the reading of a data set, with the remedy and ``more`` to be said before it."""
        return DamagedImageError(self.problem + more, self.remedy or _DAMAGED_REMEDY)


class ManyPixelsError(DamagedImageError):
    """An image with more pixels than are decoded; the message does not name it."""


class LongImageError(DamagedImageError):
    """An image that cannot be rescaled, for its size or its shape; the message does not name it."""


@contextmanager
def naming(where: str) -> Iterator[None]:
    """A context that puts the name of an image before the message of a ``LongImageError``."""
    try:
        yield
    except LongImageError as error:
        raise DamagedImageError(f"{where}: {error}") from error


def is_image_file(file: Path) -> bool:
    """Whether a file's name says that it is an image; hidden files are not."""
    return file.suffix.lower() in SUFFIXES and not file.name.startswith(".")


def kind_of(first_bytes: bytes) -> str | None:
    """The format that the first 32 bytes of a file are of, by Pillow's name; None where it is none of an image."""
    return next((kind for kind, start in _FIRST_BYTES if re.match(start, first_bytes, re.DOTALL)), None)


def _other_kind(first_bytes: bytes) -> str | None:
    return next((kind for kind, start in _OTHERS.items() if first_bytes.startswith(start)), None)


def can_read(kind: str | None) -> bool:
    """Whether files of a format are decoded here; HEIC with pillow-heif, where that is installed."""
    return _reads_heic() if kind == "HEIF" else kind is not None


@cache
def _reads_heic() -> bool:
    try:
        import_module("pillow_heif").register_heif_opener()
    except ImportError:
        return False
    return True


def read_file(file: Path) -> bytes:
    """Reads a regular file; raises DamagedImageError for what is none, or where the disk or permissions forbid it."""
    try:
        mode = _mode(file)
        if stat.S_ISDIR(mode):
            os.scandir(file).close()  # raises where it may not be listed
            raise UserError(f"{file} is a folder, not an image")
        if not stat.S_ISREG(mode):  # a pipe or a device might never end
            raise DamagedImageError(f"{file} cannot be read: it is a pipe or a device, not a regular file")
        return file.read_bytes()
    except FileNotFoundError as error:
        if file.is_symlink():
            raise DamagedImageError(f"{file} cannot be read: it is a link to a file that is not there") from error
        raise UserError(f"no such file: {file}") from error
    except OSError as error:
        raise DamagedImageError(f"{file} cannot be read: {error.strerror or error}") from error


def most_pixels() -> int:
    """Number of pixels of an image file above which it is not decoded: a few kilobytes can declare gigabytes."""
    given = os.environ.get(MOST_PIXELS_VARIABLE, "")
    if not given:
        return _MOST_PIXELS
    if not given.isdecimal() or not int(given):
        raise UsageError(f"{MOST_PIXELS_VARIABLE}={given}: give a number of pixels, such as {2 * _MOST_PIXELS}")
    return int(given)


def limit_pixels(count: int) -> None:
    """Sets ``most_pixels`` for this process and those it starts, and Pillow's own limit where that is lower."""
    if count < 1:
        raise UsageError(f"--max-pixels {count}: give a number of pixels, such as {2 * _MOST_PIXELS}")
    os.environ[MOST_PIXELS_VARIABLE] = str(count)
    if Image.MAX_IMAGE_PIXELS is not None:
        Image.MAX_IMAGE_PIXELS = max(Image.MAX_IMAGE_PIXELS, count)


def _mode(file: Path) -> int:
    try:
        return file.stat().st_mode
    except ValueError as error:  # a null character, or half a surrogate pair
        raise DamagedImageError(f"{file} cannot be read: no file can have this name") from error


def open_image(file: Path | io.BytesIO) -> Image.Image:
    """Opens an image in one of ``FORMATS``, or HEIC where that can be read; its pixels are not decoded yet.

    Raises:
        ManyPixelsError: it has more than ``most_pixels``.
    """
    most = most_pixels()
    try:
        image = Image.open(file, formats=(*FORMATS, "HEIF") if _reads_heic() else FORMATS)
    except Image.DecompressionBombError as error:
        reason = f"it has more pixels than the {most:,} that are decoded: shrink it, or give --max-pixels"
        raise ManyPixelsError(reason) from error
    if (num_pixels := image.width * image.height) > most:
        size = f"{image.width:,}x{image.height:,}"
        image.close()
        raise ManyPixelsError(
            f"its {size} pixels are more than the {most:,} that are decoded: shrink it, or give --max-pixels "
            f"{num_pixels}"
        )
    if image.format == "TIFF":
        silence_libtiff()
    return image


def many_bits(image: Image.Image) -> bool:
    """Whether an open file has more than 8 bits a channel, before its pixels are decoded."""
    # an open file's image has the list of its tiles; Pillow's types know it of the subclass only
    raw = image.tile[0].args if image.tile else ""  # type: ignore[attr-defined]
    raw_mode = raw if isinstance(raw, str) else str(raw[0]) if raw else ""
    return image.mode.startswith("I;16") or raw_mode.startswith(_SIXTEEN_BITS)


def has_many_bits(file: Path) -> bool:
    """Whether an image file has more than 8 bits a channel."""
    with open_image(file) as image:
        return many_bits(image)


def read_image(file: str | Path) -> Image.Image:
    """Reads and decodes an image file to upright RGB."""
    return Image.fromarray(decode_pixels(read_file(Path(file)), str(file)))


def decode_pixels(encoded: bytes, where: str) -> UInt8[ndarray, "h w 3"]:
    """Decodes an image file to upright RGB, the first frame of an animation; ``where`` names it in messages.

    Warns with ``CorruptImageWarning`` of a JPEG whose pixels are partly lost.
    """
    try:
        with open_image(io.BytesIO(encoded)) as image:
            pixels, orientation, is_doubtful = _decode(encoded, image)
        pixels = _turned(pixels, orientation)
    except UsageError:
        raise
    except Exception as error:  # decoders of damaged files raise whatever they run into
        reason = str(error) or type(error).__name__
        if not encoded:
            reason = "it is empty"
        elif isinstance(error, MemoryError):
            reason = "there is not the memory for its pixels"
        elif kind_of(encoded[:32]) == "HEIF" and not _reads_heic():
            reason = "it is HEIC, which needs pillow-heif: pip install pillow-heif, or convert it to JPEG"
        elif isinstance(error, UnidentifiedImageError) and (kind := kind_of(encoded[:32])) is not None:
            reason = f"it is a {kind} with pixels that are not read, such as floats: convert it to 8 bits a channel"
        elif isinstance(error, UnidentifiedImageError) and (kind := _other_kind(encoded[:32])) is not None:
            reason = f"it is {kind}, which is not read: convert it to JPEG or PNG"
        elif isinstance(error, UnidentifiedImageError):
            reason = f"cannot identify its format: none of {', '.join(FORMATS)}"
        raise DamagedImageError(f"{where} cannot be read as an image: {reason}") from error
    if is_doubtful:
        warn_of_corruption(encoded, where)
    return pixels


def _decode(encoded: bytes, image: Image.Image) -> tuple[UInt8[ndarray, "h w 3"], object, bool]:
    """The pixels of an open file as stored, how EXIF says that they are turned, and whether they may be corrupt."""
    is_jpeg = image.format in JPEG_FORMATS
    if is_jpeg:
        if why := too_many_scans(encoded, image.width * image.height):
            raise DamagedImageError(why)
        if image.mode in ("RGB", "L"):
            orientation = image.getexif().get(ORIENTATION, 1)
            pixels = decode_plain(encoded, image.size)
            if pixels is not None:
                return pixels, orientation, False
    image.load()
    return _in_bands(image), image.getexif().get(ORIENTATION, 1), is_jpeg


def _in_bands(image: Image.Image) -> UInt8[ndarray, "h w 3"]:
    """Converts a decoded image to RGB, some rows at a time: neither is held twice."""
    width, height = image.size
    rows = max(1, _BAND_PIXELS // max(1, width))
    if height <= rows:
        return np.asarray(to_rgb(image))
    pixels = np.empty((height, width, 3), np.uint8)
    for top in range(0, height, rows):
        bottom = min(height, top + rows)
        pixels[top:bottom] = np.asarray(to_rgb(image.crop((0, top, width, bottom)), image))
    return pixels


def _turned(pixels: UInt8[ndarray, "h w 3"], orientation: object) -> UInt8[ndarray, "y x 3"]:
    """Turns and mirrors pixels upright, as an EXIF orientation says how they are stored."""
    if orientation in (5, 6, 7, 8):
        pixels = pixels.transpose(1, 0, 2)
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    return np.ascontiguousarray(pixels)


def to_rgb(image: Image.Image, opened: Image.Image | None = None) -> Image.Image:
    """Converts grey, palette, CMYK, 16-bit and transparent images to 8-bit RGB.

    ``opened`` is what a file was opened as, where ``image`` is a copy, without the tags of a TIFF.

    Choice: transparent pixels are laid over white; grey of up to 16 bits is scaled to 8 bits.
    """
    transparent = image.info.get("transparency")
    if image.mode == "RGB" and transparent is None:
        return image
    opened = image if opened is None else opened
    if opened.format == "PPM" and image.mode == "I":  # 16 bits a pixel, which Pillow holds as 32
        image = Image.fromarray(np.asarray(image).astype(np.uint16))
    # Pillow's types know the tags of the subclass only
    tags = opened.tag_v2 if opened.format == "TIFF" else {}  # type: ignore[attr-defined]
    if image.mode.startswith("I;16"):
        return _grey_of_many_bits(np.asarray(image).astype(np.uint32), tags, transparent).convert("RGB")
    if image.mode == "I" and tags.get(_SAMPLE_FORMAT, (0,))[0] == _SIGNED:
        bits = tags.get(_BITS, (32,))[0]
        raise DamagedImageError(
            f"its pixels are signed numbers of {bits} bits: convert it to 8 or 16 bits without sign"
        )
    if image.mode == "F":
        raise DamagedImageError("its pixels are floats of no stated range: convert it to 8 or 16 bits")
    if image.mode == "I":
        raise DamagedImageError("its pixels have 32 bits and no stated range: convert it to 8 or 16 bits")
    if image.has_transparency_data:
        if image.mode == "RGB" and isinstance(transparent, tuple) and max(transparent) > 255:  # of 16 bits a channel
            image.info["transparency"] = tuple(value >> 8 for value in transparent)
        rgba = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba).convert("RGB")
    return image.convert("RGB")


def _grey_of_many_bits(grey: UInt32[ndarray, "h w"], tags: Mapping[int, Any], transparent: object) -> Image.Image:
    """Scales grey to 8 bits: by the bits that a TIFF says are used, white for its 0 where it says that."""
    bits = tags.get(_BITS, (16,))[0]
    most = 2**bits - 1 if 8 < bits < 16 else 65535
    scaled = (np.minimum(grey, most) * 255 + most // 2) // most
    if tags.get(_PHOTOMETRIC) == 0:
        scaled = 255 - scaled
    if isinstance(transparent, int):
        scaled[grey == transparent] = 255
    return Image.fromarray(scaled.astype(np.uint8))
