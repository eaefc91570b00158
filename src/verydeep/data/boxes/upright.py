"""The size of an image, as stored and upright, and boxes that are turned with it as EXIF says."""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float64
from numpy import ndarray
from PIL import Image

from verydeep.data.sources import read_ahead
from verydeep.errors import UserError
from verydeep.images.decode import ORIENTATION, decode_pixels, open_image, read_file
from verydeep.progress import Progress, ignore_progress

_ENDS = {"JPEG": b"\xff\xd9", "PNG": b"IEND"}
_TAIL = 1024


@dataclass(frozen=True, slots=True)
class ImageFacts:
    """Width and height of an image file as stored, its EXIF orientation, and why it cannot be read."""

    stored: tuple[int, int] = (0, 0)
    orientation: int = 1
    damage: str = ""

    @property
    def upright(self) -> tuple[int, int]:
        return self.stored if self.orientation < 5 else self.stored[::-1]


def look_at_images(files: Sequence[Path], progress: Progress = ignore_progress) -> list[ImageFacts]:
    """Reads the headers of image files; a file that seems cut short is decoded."""
    found = []
    with warnings.catch_warnings():  # of Pillow, about large files and odd tags
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        warnings.simplefilter("ignore", UserWarning)
        for facts in read_ahead(_look, files):
            found.append(facts)
            progress("looking at the images", len(found), len(files))
    return found


def _look(file: Path) -> ImageFacts:
    facts, kind = ImageFacts(), ""
    try:
        if file.is_file():  # neither a folder nor a pipe
            with open_image(file) as image:
                orientation = image.getexif().get(ORIENTATION, 1)
                facts = ImageFacts(image.size, orientation if orientation in range(1, 9) else 1)
                kind = image.format or ""
    except Exception:  # decoders of damaged files raise whatever they run into; decoding says what is wrong
        facts = ImageFacts()
    if facts.stored == (0, 0) or not _is_whole(file, kind):
        try:
            height, width, _ = decode_pixels(read_file(file), str(file)).shape
        except UserError as error:
            return ImageFacts(damage=str(error).removeprefix(f"{file} "))
        facts = facts if min(facts.stored) else ImageFacts((width, height))
    return facts


def _is_whole(file: Path, kind: str) -> bool:
    """Whether a file ends as its format does, where that is known."""
    if kind not in _ENDS:
        return True
    with file.open("rb") as opened:
        opened.seek(max(0, file.stat().st_size - _TAIL))
        return _ENDS[kind] in opened.read()


def turn(corners: Float64[ndarray, "m 4"], stored: tuple[int, int], orientation: int) -> Float64[ndarray, "m 4"]:
    """Turns boxes on an image as it is stored into boxes on the upright image, by an EXIF orientation of 1 to 8."""
    width, height = stored
    left, top, right, bottom = corners.T
    if orientation in (2, 3, 7, 8):  # what is at the left edge as stored comes to the far side
        left, right = width - right, width - left
    if orientation in (3, 4, 6, 7):
        top, bottom = height - bottom, height - top
    if orientation >= 5:
        left, top, right, bottom = top, left, bottom, right
    return np.stack([left, top, right, bottom], axis=1)
