"""What is wrong with a data set, before it costs a night."""

import io
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from verydeep.data.datasets import DataSet, open_data
from verydeep.data.duplicates import near_duplicate_findings, same_content_findings
from verydeep.data.facts_cache import look_at_all
from verydeep.data.file_facts import FileFacts, read_header
from verydeep.data.file_findings import file_findings
from verydeep.data.findings import Finding, named, worst_first
from verydeep.data.image_set import ImageSet, Progress, count_per_class, ignore_progress, read_ahead
from verydeep.data.images import open_image
from verydeep.data.listing import UNLABELLED, list_folder
from verydeep.data.structure import class_set_findings, odd_names, structure_findings
from verydeep.mistakes import MistakeError

WORTH_A_NOTE, WORTH_A_WARNING = 3, 10
"""How many times larger the largest class is than the smallest, from which on it is said."""

MOST_HEADERS = 10_000
"""Files whose heads the short form reads at most."""


@dataclass(frozen=True, kw_only=True)
class Diagnosis:
    """What the doctor found in a data set.

    Attributes:
        data: the folder or name that was looked at.
        splits: number of images of each split.
        classes: names of the classes.
        findings: the worst first.
    """

    data: str
    splits: Mapping[str, int]
    classes: Sequence[str]
    findings: Sequence[Finding]

    @property
    def num_images(self) -> int:
        """Images of all splits."""
        return sum(self.splits.values())

    @property
    def is_fatal(self) -> bool:
        """Whether something keeps a training from beginning, or makes its errors mean nothing."""
        return any(finding.severity == "fatal" for finding in self.findings)

    def as_record(self) -> dict[str, Any]:
        """The diagnosis, for JSON."""
        return {
            "data": self.data,
            "num_images": self.num_images,
            "splits": dict(self.splits),
            "classes": list(self.classes),
            "findings": [finding.as_record() for finding in self.findings],
        }


def examine(data: str | Path, progress: Progress = ignore_progress) -> Diagnosis:
    """Looks at every file of a data set and says what is wrong with it.

    A folder is listed leniently: what ``open_data`` would refuse is found and said, and the rest is looked at all the
    same. Facts about files are kept in the user's cache folder, so that a second look takes seconds.

    Args:
        data: a folder, or a built-in name.
        progress: told how far it is.

    Raises:
        MistakeError: there is no such data set, or no image in it.
    """
    with warnings.catch_warnings():  # of Pillow, about large files and odd tags: what matters becomes a finding
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        warnings.simplefilter("ignore", UserWarning)
        return _examine(data, progress)


def _examine(data: str | Path, progress: Progress) -> Diagnosis:
    root = Path(data)
    if not root.is_dir():
        opened = open_data(data)
        return _diagnosis(str(data), _splits(opened), examine_quickly(opened))
    listing = list_folder(root)
    if not listing.classes and not listing.loose:
        raise MistakeError(f"no images in {root}: give a folder of class folders")
    sets = listing.image_sets()
    own = [split for split in sets if not listing.has_split_folders or split not in listing.places]
    facts = look_at_all(root, [name for images in sets.values() for name in images.names], progress)
    findings = [
        *structure_findings(listing),
        *class_set_findings(sets, own, listing.folder_names),
        *file_findings(facts),
        *same_content_findings(sets, facts),
        *near_duplicate_findings(root, sets, facts, own, progress),
        *imbalance_findings(sets.get("train")),
    ]
    if UNLABELLED not in sets and not any(finding.severity == "fatal" for finding in findings):
        findings += _refusal(root)
    return _diagnosis(str(data), sets, findings)


def examine_quickly(data: DataSet) -> list[Finding]:
    """Says what can be known of an opened data set without decoding its images: the short form, before a training.

    Args:
        data: the data set.

    Returns:
        The worst first, of: classes that a split lacks, class folders that look like none, imbalance, and what the
        heads of up to 10,000 files of train say.
    """
    sets = _splits(data)
    findings = class_set_findings(sets, list(sets), dict.fromkeys(sets, ""))
    odd = odd_names(data.classes)
    if odd:
        findings.append(
            Finding(
                kind="no-class-folder",
                severity="warning",
                message=f"{named([f'{name}/' for name in odd])} among the classes, but named like no class",
                remedy="move or remove it unless it is one",
                files=odd,
            )
        )
    findings += imbalance_findings(data.train)
    findings += file_findings(_headers(data.train))
    return worst_first(findings)


def _splits(data: DataSet) -> dict[str, ImageSet]:
    return {images.split: images for images in (data.train, data.val, data.test) if images is not None}


def _headers(images: ImageSet) -> dict[str, FileFacts]:
    """Reads the heads of files, spread evenly over a large set; none of images in memory or behind a network."""
    is_cheap = not images.decoded and images.store.parallel_reads == 1
    chosen = range(0, len(images), -(-len(images) // MOST_HEADERS)) if is_cheap else []

    def read(index: int) -> FileFacts | None:
        try:
            with open_image(io.BytesIO(images.store.read(images.names[index]))) as image:
                return FileFacts(size=0, modified=0, **read_header(image))
        except Exception:  # damaged: the training looks at every file itself, and says so
            return None

    found = zip(chosen, read_ahead(read, chosen), strict=True)
    return {images.names[index]: facts for index, facts in found if facts is not None}


def imbalance_findings(images: ImageSet | None) -> list[Finding]:
    """Says when the largest class of a training split has several times as many images as the smallest.

    The finding gives the weight of each class that makes all classes count alike: n / (k x its images).
    """
    if images is None:
        return []
    counts = {name: count for name, count in zip(images.classes, count_per_class(images), strict=True) if count}
    if len(counts) < 2 or max(counts.values()) < WORTH_A_NOTE * min(counts.values()):
        return []
    largest, smallest = max(counts, key=lambda name: counts[name]), min(counts, key=lambda name: counts[name])
    ratio = counts[largest] / counts[smallest]
    return [
        Finding(
            kind="imbalance",
            severity="warning" if ratio >= WORTH_A_WARNING else "note",
            message=f"{largest} has {counts[largest]:,} training images and {smallest} {counts[smallest]:,}: "
            f"{ratio:.1f} times as many",
            remedy="train with --set balance=loss (weights in the loss) or --set balance=sampling",
            files=[],
            details={
                "ratio": round(ratio, 3),
                "class_counts": counts,
                "class_weights": {
                    name: round(len(images) / (len(counts) * count), 4) for name, count in counts.items()
                },
            },
        )
    ]


def _refusal(root: Path) -> list[Finding]:
    """Asks ``open_data`` as the last authority on whether a folder can be trained on."""
    try:
        open_data(root)
    except MistakeError as mistake:
        message, _, remedy = str(mistake).rpartition(": ")
        return [Finding(kind="refused", severity="fatal", message=message or remedy, remedy=remedy)]
    return []


def _diagnosis(data: str, sets: Mapping[str, ImageSet], findings: Sequence[Finding]) -> Diagnosis:
    first = next(iter(sets.values()))
    return Diagnosis(
        data=data,
        splits={split: len(images) for split, images in sets.items()},
        classes=() if first.split == UNLABELLED else first.classes,
        findings=worst_first(findings),
    )
