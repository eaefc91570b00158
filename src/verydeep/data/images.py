"""What is deterministic about an image: decode, isotropic rescale, crop, trim."""

import io
from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from numpy import ndarray
from PIL import Image, ImageOps, UnidentifiedImageError

from verydeep.data.jpeg import decode_plain
from verydeep.data.resample import resample
from verydeep.mistakes import MistakeError

SUFFIXES = frozenset({".jpg", ".jpeg", ".jpe", ".png", ".bmp", ".gif", ".tif", ".tiff", ".webp", ".ppm", ".pgm"})
"""Endings of the files that count as images, in lower case."""

FORMATS = ("JPEG", "PNG", "BMP", "GIF", "TIFF", "WEBP", "AVIF", "JPEG2000", "PPM")
"""Formats that are read whatever a file is called, by Pillow's names; its JPEG reads MPO too.

Without a list Pillow starts other programs for some, such as Ghostscript for EPS.
"""

MOST_PIXELS = 64_000_000
"""Pixels of a rescaled image at most: a test holds it in memory, in Pillow with four bytes for each."""

DAMAGED_REMEDY = "mend or remove it, or leave damaged files out with --damaged skip"
"""Where images are of a data set."""


class DamagedImageError(MistakeError):
    """A file that cannot be decoded as an image."""


def is_image_file(file: Path) -> bool:
    """Whether a file's name says that it is an image; hidden files are not."""
    return file.suffix.lower() in SUFFIXES and not file.name.startswith(".")


def read_file(file: Path) -> bytes:
    """Reads a file.

    Raises:
        MistakeError: there is no such file.
        DamagedImageError: the disk or its permissions do not give it.
    """
    try:
        return file.read_bytes()
    except FileNotFoundError as error:
        raise MistakeError(f"no such file: {file}") from error
    except IsADirectoryError as error:
        raise MistakeError(f"{file} is a folder, not an image") from error
    except OSError as error:
        raise DamagedImageError(f"{file} cannot be read: {error.strerror or error}") from error


def open_image(file: Path | io.BytesIO) -> Image.Image:
    """Opens an image in one of ``FORMATS``; its pixels are not decoded yet."""
    return Image.open(file, formats=FORMATS)


def read_image(file: str | Path) -> Image.Image:
    """Decodes an image file to RGB, upright.

    Args:
        file: one of ``FORMATS``; of an animation the first frame.

    Raises:
        MistakeError: there is no such file.
        DamagedImageError: it cannot be decoded.
    """
    return decode_image(read_file(Path(file)), str(file))


def decode_image(encoded: bytes, where: str) -> Image.Image:
    """Decodes the bytes of an image file to RGB, upright.

    Args:
        encoded: one of ``FORMATS``; of an animation the first frame.
        where: what a person calls the file.

    Raises:
        DamagedImageError: they cannot be decoded.
    """
    decoded = _decoded(encoded, where)
    return decoded if isinstance(decoded, Image.Image) else Image.fromarray(decoded)


def decode_pixels(encoded: bytes, where: str) -> UInt8[ndarray, "h w 3"]:
    """Decodes the bytes of an image file to RGB, upright: the pixels of ``decode_image``.

    Args:
        encoded: one of ``FORMATS``; of an animation the first frame.
        where: what a person calls the file.

    Raises:
        DamagedImageError: they cannot be decoded.
    """
    return np.asarray(_decoded(encoded, where))


def _decoded(encoded: bytes, where: str) -> Image.Image | UInt8[ndarray, "h w 3"]:
    try:
        with open_image(io.BytesIO(encoded)) as image:
            pixels = decode_plain(encoded, image)
            if pixels is not None:
                return pixels
            image.load()
            if image.format == "PPM" and image.mode == "I":  # 16 bits a pixel, which Pillow holds as 32
                return to_rgb(Image.fromarray(np.asarray(image).astype(np.uint16)))
            upright = ImageOps.exif_transpose(image)
            return to_rgb(upright)
    except MemoryError:
        raise
    except Exception as error:  # decoders of damaged files raise whatever they run into
        reason = str(error) or type(error).__name__
        if not encoded:
            reason = "it is empty"
        elif isinstance(error, UnidentifiedImageError):
            reason = f"cannot identify its format: none of {', '.join(FORMATS)}"
        raise DamagedImageError(f"{where} cannot be read as an image: {reason}") from error


def to_rgb(image: Image.Image) -> Image.Image:
    """Turns grey, palette, CMYK, 16-bit and transparent images into 8-bit RGB.

    Choice: transparent pixels are laid over white; 16-bit grey is scaled to 8 bits.

    Raises:
        DamagedImageError: 32-bit pixels, whose range nothing states.
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


def rescaled_size(size: tuple[int, int], scale: int) -> tuple[int, int]:
    """Computes the size of an image after isotropic rescaling.

    Args:
        size: width and height, pixels.
        scale: length of the shorter side afterwards.

    Returns:
        Width and height; the longer side is rounded to the nearest pixel.
    """
    width, height = size
    if width <= height:
        return scale, max(scale, round(height * scale / width))
    return max(scale, round(width * scale / height)), scale


def too_long(size: tuple[int, int], scale: int) -> str | None:
    """Says why an image cannot be rescaled: it would have more than ``MOST_PIXELS``; None where it can.

    Args:
        size: width and height, pixels.
        scale: length of the shorter side afterwards.
    """
    width, height = rescaled_size(size, scale)
    if width * height <= MOST_PIXELS:
        return None
    return f"{size[0]}x{size[1]} becomes {width}x{height} at scale {scale}, more than {MOST_PIXELS:,} pixels"


def rescale(image: Image.Image, scale: int) -> Image.Image:
    """Rescales an image isotropically so that its shorter side has a length: never a squash.

    Choice: bilinear with antialiasing.

    Args:
        image: RGB.
        scale: length of the shorter side afterwards, pixels.

    Paper: section 3.1.
    """
    return image.resize(rescaled_size(image.size, scale), Image.Resampling.BILINEAR)


def size_of(pixels: UInt8[ndarray, "h w 3"]) -> tuple[int, int]:
    """Width and height of an image."""
    return pixels.shape[1], pixels.shape[0]


def rescaled(pixels: UInt8[ndarray, "h w 3"], scale: int, multiple: int = 1) -> UInt8[ndarray, "y x 3"]:
    """Rescales an image as ``rescale`` does, its sides trimmed about the centre to multiples of a number of pixels.

    Args:
        pixels: RGB.
        scale: length of the shorter side, pixels, before the trimming.
        multiple: what the sides shall be multiples of.

    Paper: section 3.1.
    """
    width, height = size = rescaled_size(size_of(pixels), scale)
    return resample(pixels, size, centred(size, width // multiple * multiple, height // multiple * multiple))


def rescaled_centre(pixels: UInt8[ndarray, "h w 3"], scale: int, crop: int) -> UInt8[ndarray, "c c 3"]:
    """Rescales an image as ``rescale`` does and cuts its middle out; nothing else is computed.

    Args:
        pixels: RGB.
        scale: length of the shorter side of the whole, pixels.
        crop: side of what is cut out, pixels.

    Paper: section 3.1.
    """
    size = rescaled_size(size_of(pixels), scale)
    return resample(pixels, size, centred(size, crop, crop))


def centred(size: tuple[int, int], width: int, height: int) -> tuple[int, int, int, int]:
    """Says where the middle of an image lies: left, top, width, height; what is odd remains right and below."""
    return (size[0] - width) // 2, (size[1] - height) // 2, width, height


def centre_crop(image: Image.Image, width: int, height: int) -> Image.Image:
    """Cuts the middle out of an image; an odd remainder leaves the extra pixel at the right and the bottom."""
    left, top, _, _ = centred(image.size, width, height)
    return image.crop((left, top, left + width, top + height))


def trim(image: Image.Image, multiple: int) -> Image.Image:
    """Trims both sides to a multiple, about the centre.

    Choice: pooling drops what a size has beyond a multiple of 32; dropped about the centre it costs no shift.
    """
    return centre_crop(image, image.width // multiple * multiple, image.height // multiple * multiple)
