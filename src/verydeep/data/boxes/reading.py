"""What a reader of a format returns: the boxes as they stand in its files, before any check."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from verydeep.data.boxes.files import AnnotationError, Images
from verydeep.data.boxes.findings import BoxFinding, refused
from verydeep.data.folder import SPLIT_NAMES
from verydeep.data.listing import composed
from verydeep.errors import printable
from verydeep.progress import Progress

Code = Literal["corners", "xywh", "centre"]
"""The four numbers of a box: left, top, right, bottom; left, top, width, height; or centre x, y, width, height."""

Unit = Literal["pixels", "shares"]
"""Pixels, or shares of the image's width and height."""


@dataclass(frozen=True, slots=True)
class RawBox:
    """One box as it stands in its file: ``place`` is where there, such as object 2 or line 7."""

    label: str
    numbers: tuple[float, float, float, float]
    place: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Annotation:
    """The boxes of one image."""

    file: str
    "The annotation file, for messages."
    image: Path
    "The image; it may not be there."
    boxes: Sequence[RawBox]
    size: tuple[int, int] | None = None
    "Width and height that the annotation states, pixels."
    split: str = ""
    "train, val or test; empty where the data have no splits."
    group: str = ""


@dataclass(kw_only=True)
class Reading:
    """All annotations of a data set in one format."""

    format: str
    root: Path
    "Names of images are relative to it."
    annotations: list[Annotation]
    code: Code = "corners"
    unit: Unit = "pixels"
    from_one: bool = False
    "Whether the format counts pixels from 1, left and top included."
    advice: str = ""
    "What to write where the numbers are found to mean something else."
    classes: tuple[str, ...] = ()
    "The classes that the data declare, in their order."
    findings: list[BoxFinding] = field(default_factory=list)
    validation: str = ""
    "Where the validation images come from, in words."

    def relative(self, file: Path) -> str:
        return relative(file, self.root)


def relative(file: Path, root: Path) -> str:
    """The name of a file relative to a folder, where it lies in it."""
    return file.relative_to(root).as_posix() if file.is_relative_to(root) else file.as_posix()


def class_name(text: str) -> str:
    """The name of a class on one line without space around it, in Unicode's composed form."""
    return composed(" ".join(printable(text).split()))


def number(value: object) -> float:
    """A number of a file, as it is or as text; NaN where it is none."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return float("nan")
    try:
        return float(value)
    except (ValueError, OverflowError):
        return float("nan")


def whole(value: object) -> int:
    """A whole number of a file; 0 where it is none."""
    found = number(value)
    return int(found) if abs(found) < 1e9 else 0


def split_of(name: str) -> str:
    """The split that a file or folder is named after, such as instances_val2017; empty where it is none."""
    words = re.findall(r"[^\W\d_]+", name.casefold())
    found = {split for split, names in SPLIT_NAMES.items() for word in words if word in names}
    return found.pop() if len(found) == 1 else ""


def read_each(
    reading: Reading,
    files: Sequence[Path],
    images: Images,
    read: Callable[[str, Path], Annotation],
    progress: Progress,
) -> None:
    """Reads a file of annotations for each image; finds those that cannot be read, and images that have none."""
    for index, file in enumerate(files):
        name = relative(file, reading.root)
        try:
            reading.annotations.append(read(name, file))
        except AnnotationError as error:
            reading.findings.append(refused("annotation", name, error.fault, error.remedy))
        progress("reading boxes", index + 1, len(files))
    named = {annotation.image for annotation in reading.annotations}
    broken = {Path(one.file).stem for one in reading.findings}
    reading.findings += [
        BoxFinding("no-boxes", relative(image, reading.root), "has no annotation", "left out")
        for image in images.files
        if image not in named and image.stem not in broken
    ]
