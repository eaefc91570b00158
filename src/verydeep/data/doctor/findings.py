"""The findings of the doctor: their kinds and severities."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from verydeep.data.boxes.findings import BOX_KINDS

Severity = Literal["fatal", "warning", "note"]
SEVERITIES: tuple[Severity, ...] = ("fatal", "warning", "note")
"""The worst first: a training cannot begin or would mean nothing; it would suffer; it is worth knowing."""

KINDS: dict[str, tuple[str, str]] = {
    "damaged": (
        "fatal",
        "files that cannot be decoded, empty ones too, links to nothing, pipes, folders without permission; `reasons` "
        "says why",
    ),
    "strip": ("fatal", "files with one side more than 200 times as long as the other, which cannot be rescaled"),
    "split-folders": (
        "fatal, warning",
        "no `train/`, or two folders for one split; a warning for a folder such as `Testing/` that is passed over",
    ),
    "class-sets": (
        "fatal, warning",
        "classes that one split has and another has not (`missing`, `extra`); fatal where train has not; a warning too "
        "for a class that is too small to be in a split that is held out",
    ),
    "no-class-folder": (
        "fatal, warning",
        "folders in the place of classes that have no images, or are named like a split or a part of a data set "
        "(`Train`, `JPEGImages`, `Annotations`, `labels`); a warning where the others make a data set without them",
    ),
    "too-few-classes": ("fatal", "one class folder only"),
    "no-classes": ("fatal, note", "no class folders: fatal below split folders; else a folder for `predict`, a note"),
    "refused": ("fatal", "anything else that keeps `train` from opening the folder, in its words"),
    "huge": (
        "note, fatal",
        "files with 32 times the pixels of the median and a megapixel or more, or with 50 megapixels; fatal where they "
        "have more than are decoded (100 megapixels, or `--max-pixels`)",
    ),
    "tiny": (
        "warning",
        "files whose shorter side is an eighth of the median or less, or below 32 pixels and half of the median",
    ),
    "corrupt": (
        "warning",
        "JPEG files that libjpeg calls corrupt and that are read as far as they go; `reasons` says what it says",
    ),
    "cmyk": ("warning", "files in the colours of print"),
    "16-bit": ("warning", "files with 16 bits a channel"),
    "label-conflict": ("warning", "files with the same bytes under several classes (`groups`)"),
    "duplicate": ("warning", "files with the same bytes in several splits (`groups`)"),
    "near-duplicate": (
        "warning",
        "different files of two splits that show the same photograph (`splits`, `pairs`): see below",
    ),
    "passed-over": ("warning", "before a training: what of its folder it leaves out"),
    "unlabelled-split": ("note", "images of a `test/` without class folders beside `train/`, for `predict`"),
    "outside-classes": ("warning", "images that lie beside the class folders, and are passed over"),
    "unread-format": (
        "warning",
        "images in formats that are not read (HEIC without pillow-heif, SVG, raw files), and are passed over",
    ),
    "imbalance": (
        "note, warning",
        "the largest class of train has 3 times as many images as the smallest, or more (`ratio`, `class_counts`, "
        "`class_weights`); a warning from 10 times on",
    ),
    "grey": ("note", "files stored in grey"),
    "exif-rotated": ("note", "files that EXIF says are to be turned or mirrored"),
    "duplicate-within-split": ("note", "files with the same bytes in one class and split (`groups`)"),
    **BOX_KINDS,
}
"""What can be found, by its kind: the severities it may have, and what it means."""


@dataclass(frozen=True)
class Finding:
    """Something about a data set that a person should know.

    Attributes:
        kind: a key of ``KINDS``, the same for ever.
        severity: fatal, warning or note.
        message: what was found, in words.
        remedy: what to do about it.
        files: the files or folders, relative to the data set, in the order of their classes.
        details: more of it, by names that JSON knows.
    """

    kind: str
    severity: Severity
    message: str
    remedy: str
    files: Sequence[str] = ()
    details: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        assert self.severity in KINDS[self.kind][0]

    def as_record(self) -> dict[str, Any]:
        """The finding, for JSON."""
        return {
            "kind": self.kind,
            "severity": self.severity,
            "message": self.message,
            "remedy": self.remedy,
            "num_files": len(self.files),
            "files": list(self.files),
            **self.details,
        }


def worst_first(findings: Sequence[Finding]) -> list[Finding]:
    """Sorts findings by their severity; those of one severity stay in their order."""
    return sorted(findings, key=lambda finding: SEVERITIES.index(finding.severity))


def counted(number: int, one: str) -> str:
    """Writes a number with its noun: 1 file, 2 files."""
    return f"{number:,} {one if number == 1 else one + 's'}"


def named(names: Sequence[str], most: int = 5) -> str:
    """Writes a few names, and how many more there are."""
    more = f" and {len(names) - most:,} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more
