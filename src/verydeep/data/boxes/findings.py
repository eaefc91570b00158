"""The faults of annotations: their kinds, and what is done about them."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

BOX_KINDS: dict[str, tuple[str, str]] = {
    "annotation": ("fatal", "annotations that cannot be read: a broken XML or JSON, a bad line of YOLO, unsafe XML"),
    "missing-image": ("fatal", "annotations whose image is not there, or is there for two annotations"),
    "image-size": (
        "fatal, note",
        "annotations that state another size than the image has; a note where they state none (0 x 0), which is read "
        "from the image",
    ),
    "not-a-number": ("fatal", "boxes with NaN, infinity, or text in the place of a number"),
    "box-no-area": ("fatal", "boxes without width or height"),
    "box-swapped": ("fatal", "boxes whose right edge is left of their left one, or bottom above top"),
    "box-outside": ("fatal", "boxes that leave the image by more than a twentieth of its side"),
    "unknown-class": ("fatal", "boxes of a class that is not named, or that the training split does not have"),
    "class-spelling": ("fatal", "classes whose names differ by case only; the rarer spelling is refused"),
    "box-clipped": (
        "note",
        "boxes that leave the image by a twentieth of its side or 2 pixels at most, cut at its edge",
    ),
    "box-turned": ("note", "boxes drawn on the image as it is stored, turned with it as its EXIF says"),
    "image-name": ("note", "images that were found under another name than their annotation states"),
    "not-a-box": ("warning", "crowds, masks without a box, points and lines: left out"),
    "no-boxes": ("note", "images without a box or an annotation: left out"),
}
"""What can be found of boxes, by its kind: the severities it may have, and what it means."""

LEAVE_OUT = "leave it out with --damaged skip"
"""What can be done about all that is refused."""


@dataclass(frozen=True)
class BoxFinding:
    """A fault of an annotation, and what was done about it.

    Attributes:
        kind: a key of ``BOX_KINDS``, or ``damaged`` for an image that cannot be read.
        file: the annotation or the image, relative to the data set.
        fault: what is wrong, in words that follow the name of the file.
        done: what was done: clipped, turned, left out.
        remedy: what a person can do where it is refused; empty where it was mended or means nothing for the others.
    """

    kind: str
    file: str
    fault: str
    done: str
    remedy: str = ""

    def __post_init__(self) -> None:
        assert self.kind in BOX_KINDS or self.kind == "damaged"

    @property
    def is_refused(self) -> bool:
        return bool(self.remedy)

    def as_record(self) -> dict[str, str]:
        return {"kind": self.kind, "file": self.file, "fault": self.fault, "done": self.done}


def refused(kind: str, file: str, fault: str, remedy: str) -> BoxFinding:
    """A fault that ends the reading, unless what has it is to be left out."""
    return BoxFinding(kind, file, fault, "left out", remedy)


_OF_IMAGES = frozenset({"damaged", "missing-image", "image-name", "no-boxes"})
_OF_FILES = frozenset({"annotation", "image-size"})
_MENDED = {
    "image-size": "without a size, read from the image",
    "image-name": "found under another name",
    "box-turned": "of images that EXIF turns",
    "not-a-box": "that are none left out",
}


def grouped(found: Sequence[BoxFinding]) -> list[list[BoxFinding]]:
    """The faults of each kind together, those that are refused and those that are not apart."""
    groups: dict[tuple[str, bool], list[BoxFinding]] = defaultdict(list)
    for one in found:
        groups[one.kind, one.is_refused].append(one)
    return list(groups.values())


def describe_group(faults: Sequence[BoxFinding], refused: str = "left out") -> str:
    """Describes faults of one kind in one line; ``refused`` is what becomes of what is refused."""
    first = faults[0]
    noun = "image" if first.kind in _OF_IMAGES else "annotation" if first.kind in _OF_FILES else "box"
    number = f"{len(faults):,} {noun if len(faults) == 1 else noun + ('es' if noun == 'box' else 's')}"
    done = refused if first.is_refused else _MENDED.get(first.kind, first.done)
    return f"{number} {done}; the first, {first.file}: {first.fault}"


def describe_findings(found: Sequence[BoxFinding]) -> list[str]:
    """Describes what was mended or left out of a data set that is open, in a line for each kind of fault."""
    return [describe_group(faults) for faults in grouped(found)]
