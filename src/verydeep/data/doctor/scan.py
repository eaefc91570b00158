"""Facts about image files: size, mode, hashes, damage."""

import hashlib
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageOps

from verydeep.data.sources import read_ahead
from verydeep.errors import UserError
from verydeep.images.decode import (
    ORIENTATION,
    ManyPixelsError,
    decode_pixels,
    many_bits,
    open_image,
    read_file,
    to_rgb,
)
from verydeep.images.jpeg import JPEG_FORMATS, corruption, too_many_scans
from verydeep.progress import Progress, ignore_progress

_SIDE = 32  # pixels of the picture that is hashed
_COSINES = np.cos(np.pi / (2 * _SIDE) * np.outer(np.arange(16), 2 * np.arange(_SIDE) + 1))  # DCT-II, lowest 16
_FLAT = 2  # grey levels between the darkest and the brightest pixel of a picture that shows nothing


@dataclass(frozen=True, kw_only=True, slots=True)
class FileFacts:
    """Facts about one image file, 0 or empty where damage hides them; width and height in pixels as stored."""

    size: int
    digest: str = ""
    "SHA-256 of the content."
    width: int = 0
    height: int = 0
    mode: str = ""
    "Pillow's name for the pixels."
    sixteen_bits: bool = False
    orientation: int = 1
    "EXIF's, 1 for upright."
    perceptual_hash: str = ""
    "Of the upright picture, 256 bits in hexadecimal; empty too where it shows nothing."
    damage: str = ""
    "Why it cannot be decoded."
    too_large: bool = False
    "Whether it has more pixels than are decoded."
    corruption: str = ""
    "What libjpeg says where it calls a JPEG corrupt that is decoded all the same."

    @property
    def shorter_side(self) -> int:
        return min(self.width, self.height)

    @property
    def num_pixels(self) -> int:
        return self.width * self.height


def scan(root: Path, names: Sequence[str], progress: Progress = ignore_progress) -> dict[str, FileFacts]:
    """Reads the facts of files by their names relative to a folder, in as many threads as there are cores."""
    facts: dict[str, FileFacts] = {}
    for name, found in zip(names, read_ahead(lambda name: scan_file(root / name), names), strict=True):
        facts[name] = found
        progress("looking at the images", len(facts), len(names))
    return facts


def scan_file(file: Path) -> FileFacts:
    """Decodes an image file and returns the facts about it; never raises for a damaged one."""
    try:
        content = read_file(file)
    except UserError as error:
        return FileFacts(size=0, damage=str(error).removeprefix(f"{file} cannot be read: "))
    facts: dict[str, Any] = {"size": len(content), "digest": hashlib.sha256(content).hexdigest()}
    try:
        with open_image(io.BytesIO(content)) as image:
            facts |= read_header(image)
            is_jpeg = image.format in JPEG_FORMATS
            if is_jpeg and (why := too_many_scans(content, image.width * image.height)):
                return FileFacts(**facts, damage=why)
            facts["perceptual_hash"] = _perceptual_hash(image)
    except ManyPixelsError as error:
        return FileFacts(**facts, damage=str(error), too_large=True)
    except Exception as error:  # decoders of damaged files raise whatever they run into
        return FileFacts(**facts, damage=_damage(file, content, error))
    return FileFacts(**facts, corruption=(is_jpeg and corruption(content)) or "")


def read_header(image: Image.Image) -> dict[str, Any]:
    """Reads the header of an open file, before its pixels are decoded, into fields of ``FileFacts``."""
    sixteen_bits = many_bits(image)  # first: reading EXIF may decode the pixels
    orientation = image.getexif().get(ORIENTATION, 1)
    return {
        "width": image.width,
        "height": image.height,
        "mode": image.mode,
        "sixteen_bits": sixteen_bits,
        "orientation": orientation if orientation in range(1, 9) else 1,
    }


def _damage(file: Path, content: bytes, error: Exception) -> str:
    """Why a file cannot be read, in the words of the training that would stop at it."""
    try:
        decode_pixels(content, str(file))
    except UserError as refusal:
        return str(refusal).partition(" cannot be read as an image: ")[2] or str(refusal)
    return str(error) or type(error).__name__


def _perceptual_hash(image: Image.Image) -> str:
    """A bit for each of the 16 x 16 lowest spatial frequencies, rows first: whether it is above their median.

    Choice: JPEG is decoded at the smallest eighth of its size that leaves 96 pixels a side.
    """
    image.draft(None, (96, 96))
    image.load()
    grey = to_rgb(ImageOps.exif_transpose(image), image).convert("L")
    darkest, brightest = grey.getextrema()
    if brightest - darkest < _FLAT:  # type: ignore[operator]  # a grey image has one pair of numbers
        return ""
    pixels = np.asarray(grey.resize((_SIDE, _SIDE), Image.Resampling.LANCZOS), np.float64)
    lowest = _COSINES @ pixels @ _COSINES.T
    return np.packbits(lowest > np.median(lowest)).tobytes().hex()
