"""Examines a data set: all of its files, or quickly before a training."""

import io
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from PIL import Image

from verydeep.data.boxes.check import check
from verydeep.data.boxes.open import has_boxes, make_boxed_set, read_boxes
from verydeep.data.dataset import DataSet
from verydeep.data.doctor.boxes import box_findings
from verydeep.data.doctor.duplicates import duplicate_findings
from verydeep.data.doctor.findings import Finding, named, worst_first
from verydeep.data.doctor.rules import (
    class_set_findings,
    file_findings,
    imbalance_findings,
    structure_findings,
)
from verydeep.data.doctor.scan import FileFacts, read_header, scan
from verydeep.data.folder import UNLABELLED, list_folder, odd_names
from verydeep.data.image_set import ImageSet
from verydeep.data.named import BUILT_IN
from verydeep.data.open import open_data
from verydeep.data.sources import FolderSource, PixelSource, read_ahead
from verydeep.data.table import is_table
from verydeep.errors import UserError
from verydeep.images.decode import open_image
from verydeep.progress import Progress, ignore_progress

MOST_HEADERS = 10_000
"""Files whose headers the short form reads at most."""


@dataclass(frozen=True, kw_only=True)
class Diagnosis:
    """The findings about a data set.

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
    """Examines every file of a data set and reports what is wrong with it.

    A folder is listed leniently: what ``open_data`` would refuse is reported, and the rest is examined all the same.

    Args:
        data: a folder, a CSV, or a built-in name; of data with boxes, the boxes are examined too.
        progress: receives the number done and their total.

    Raises:
        UserError: there is no such data set, or no image in it.
    """
    with warnings.catch_warnings():  # of Pillow, about large files and odd tags: what matters becomes a finding
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        warnings.simplefilter("ignore", UserWarning)
        root = Path(data)
        if has_boxes(data) and str(data) not in BUILT_IN:
            return _examine_boxes(root, str(data), progress)
        if root.is_dir():
            return _examine_folder(root, str(data), progress)
        opened = open_data(data)
        if is_table(root) or str(data) in BUILT_IN:
            return _examine_files(opened, str(data), progress)
        return _diagnosis(str(data), opened.splits, examine_quickly(opened))


def _examine_folder(root: Path, data: str, progress: Progress) -> Diagnosis:
    listing = list_folder(root)
    if not listing.classes and not listing.loose:
        raise UserError(f"no images in {root}: give a folder of class folders")
    sets = listing.image_sets()
    held_out = [split for split in sets if not listing.has_split_folders or split not in listing.folders]
    facts = scan(root, [name for images in sets.values() for name in images.names], progress)
    findings = [
        *structure_findings(listing),
        *class_set_findings(sets, held_out, listing.folder_names),
        *file_findings(facts),
        *duplicate_findings(sets, facts, held_out, progress),
        *imbalance_findings(sets.get("train")),
    ]
    if UNLABELLED not in sets and not any(finding.severity == "fatal" for finding in findings):
        try:
            open_data(root)  # the last authority on whether a folder can be trained on
        except UserError as error:
            message, _, remedy = str(error).rpartition(": ")
            findings.append(Finding("refused", "fatal", message or remedy, remedy))
    return _diagnosis(data, sets, findings)


def _examine_boxes(path: Path, name: str, progress: Progress) -> Diagnosis:
    """Examines boxes, and every image file that has some; what ``open_boxed`` would refuse is reported."""
    findings: list[Finding] = []
    try:
        checked = check(read_boxes(path, progress), progress)
        findings = box_findings(checked.findings)
        found = _examine_files(make_boxed_set(path, checked).as_data_set(), name, progress)
    except UserError as error:
        message, _, remedy = str(error).rpartition(": ")
        findings.append(Finding("refused", "fatal", message or remedy, remedy))
        return Diagnosis(data=name, splits={}, classes=(), findings=worst_first(findings))
    return replace(found, findings=worst_first([*findings, *found.findings]))


def _examine_files(data: DataSet, name: str, progress: Progress) -> Diagnosis:
    """Examines every file of a data set that could be opened; images in memory have no files."""
    sets, source = data.splits, data.train.source
    if not isinstance(source, FolderSource):
        return _diagnosis(name, sets, examine_quickly(data))
    facts = scan(source.root, [name for images in sets.values() for name in images.names], progress)
    findings = [
        *class_set_findings(sets, list(sets), dict.fromkeys(sets, "")),
        *file_findings(facts),
        *duplicate_findings(sets, facts, [], progress),
        *imbalance_findings(data.train),
    ]
    return _diagnosis(name, sets, findings)


def _diagnosis(data: str, sets: Mapping[str, ImageSet], findings: Sequence[Finding]) -> Diagnosis:
    first = next(iter(sets.values()))
    return Diagnosis(
        data=data,
        splits={split: len(images) for split, images in sets.items()},
        classes=() if first.split == UNLABELLED else first.classes,
        findings=worst_first(findings),
    )


def examine_quickly(data: DataSet) -> list[Finding]:
    """Reports what can be known of an opened data set without decoding its images: the short form, before a training.

    Args:
        data: the data set.

    Returns:
        The worst first, of: classes that a split lacks, class folders that look like none, imbalance, and what the
        headers of up to 10,000 files of train say.
    """
    sets = data.splits
    findings = class_set_findings(sets, data.held_out, {split: split for split in sets})
    findings += [Finding("passed-over", "warning", message, remedy) for message, remedy in data.passed_over]
    if odd := odd_names(data.classes):
        message = f"{named([f'{name}/' for name in odd])} among the classes, but named like no class"
        findings.append(Finding("no-class-folder", "warning", message, "move or remove it unless it is one", odd))
    findings += imbalance_findings(data.train)
    findings += file_findings(_headers(data.train))
    return worst_first(findings)


def _headers(images: ImageSet) -> dict[str, FileFacts]:
    """Reads the headers of files, spread evenly over a large set; none of images in memory or behind a network."""
    if images.decoded or images.source.parallel_reads > 1 or isinstance(images.source, PixelSource):
        return {}

    def read(name: str) -> FileFacts | None:
        try:
            with open_image(io.BytesIO(images.source.read(name))) as image:
                return FileFacts(size=0, **read_header(image))
        except Exception:  # damaged: the training looks at every file itself, and says so
            return None

    names = images.names[:: -(-len(images) // MOST_HEADERS)]
    found = zip(names, read_ahead(read, names), strict=True)
    return {name: facts for name, facts in found if facts is not None}
