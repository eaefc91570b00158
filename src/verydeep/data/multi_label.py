"""Images that show several classes each, in the layout of the Pascal VOC: only the transfer of features takes them.

Paper: appendix B.
"""

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Int8
from numpy import ndarray

from verydeep.data.dataset import fingerprint
from verydeep.data.image_set import ImageSet
from verydeep.data.named import find_named, open_multi_label_folder
from verydeep.data.sources import FolderSource
from verydeep.errors import UserError

_LISTS = Path("ImageSets", "Main")
_WHERE = ("", "VOC20[0-9][0-9]", "VOCdevkit/VOC20[0-9][0-9]", "*/VOCdevkit/VOC20[0-9][0-9]")
"""Where the folder of a year lies below the one that is given; the last is as ``verydeep fetch`` unpacks it."""


@dataclass(frozen=True, kw_only=True)
class MultiLabelImages:
    """The images of one split, each with a target for every class."""

    images: ImageSet
    "Their labels mean nothing: all are 0."
    targets: Int8[ndarray, "n k"]
    "1 where an image shows a class, -1 where not, 0 where that counts as neither (VOC: difficult)."

    def __len__(self) -> int:
        return len(self.images)

    def subset(self, indices: Sequence[int], split: str | None = None) -> "MultiLabelImages":
        return MultiLabelImages(images=self.images.subset(indices, split), targets=self.targets[list(indices)])


@dataclass(frozen=True, kw_only=True)
class MultiLabelSet:
    """A data set whose images show several classes each."""

    name: str
    train: MultiLabelImages
    val: MultiLabelImages
    test: MultiLabelImages | None
    fingerprint: str
    mirror: bool = True

    @property
    def classes(self) -> tuple[str, ...]:
        return self.train.images.classes

    @property
    def splits(self) -> dict[str, MultiLabelImages]:
        named = {"train": self.train, "val": self.val, "test": self.test}
        return {split: images for split, images in named.items() if images is not None}


def open_multi_label(data: str | Path) -> MultiLabelSet | None:
    """Opens data in the layout of the Pascal VOC, a folder or a name; returns None where they are no such data.

    Raises:
        UserError: the lists contradict each other, or the set is not on this machine.
    """
    path = Path(data)
    if path.is_dir():
        return read_voc(path) if _roots(path) else None
    row = find_named(str(data))
    if row is None or not row.multi_label:
        return None
    folder = open_multi_label_folder(row)
    found = read_voc(folder, row.name)
    counts = {split: len(images) for split, images in found.splits.items()}
    if counts != row.counts:
        raise UserError(f"{folder} holds {counts} images instead of {row.counts}: say verydeep fetch {row.name} again")
    return found


def read_voc(folder: Path, name: str | None = None) -> MultiLabelSet:
    """Reads the classification lists ``ImageSets/Main/CLASS_{train,val,test}.txt`` beside ``JPEGImages``.

    Args:
        folder: of a year, such as VOCdevkit/VOC2007, or one that holds it; training and test images may lie in
            folders of their own.
        name: of the set; by default that of the year's folder.

    Raises:
        UserError: there are several years, no lists of train and val, or lists that differ in their images.
    """
    roots = _roots(folder)
    if not roots:
        raise UserError(f"{folder} holds no {_LISTS}/CLASS_train.txt: give a folder of the Pascal VOC, such as VOC2007")
    years = sorted({root.resolve().name for root in roots})
    if len(years) > 1:
        raise UserError(f"{folder} holds {' and '.join(years)}: give the folder of one of them")
    classes = tuple(sorted({_class_of(file) for root in roots for file in (root / _LISTS).glob("*_train.txt")}))
    splits: dict[str, MultiLabelImages] = {}
    for split in ("train", "val", "test"):
        lists = [root for root in roots if (root / _LISTS / f"{classes[0]}_{split}.txt").is_file()] if classes else []
        if lists:
            splits[split] = _read_split(lists[0], split, classes)
    if missing := [split for split in ("train", "val") if split not in splits]:
        raise UserError(f"{folder} holds no {_LISTS}/CLASS_{missing[0]}.txt: unpack the images for training there")
    return MultiLabelSet(
        name=name or years[0].lower(),
        train=splits["train"],
        val=splits["val"],
        test=splits.get("test"),
        fingerprint=_fingerprint(splits.values()),
    )


def _roots(folder: Path) -> list[Path]:
    for pattern in _WHERE:
        found = sorted(folder.glob(pattern)) if pattern else [folder]
        if roots := [root for root in found if any((root / _LISTS).glob("*_*.txt")) and (root / "JPEGImages").is_dir()]:
            return roots
    return []


def _class_of(file: Path) -> str:
    return file.stem.rpartition("_")[0]


def _read_split(root: Path, split: str, classes: tuple[str, ...]) -> MultiLabelImages:
    ids: list[str] = []
    columns = []
    for name in classes:
        file = root / _LISTS / f"{name}_{split}.txt"
        if not file.is_file():
            raise UserError(f"there is no {file}: unpack the set again")
        rows = [
            line.split() for line in file.read_text(encoding="ascii", errors="replace").splitlines() if line.strip()
        ]
        if bad := next((row for row in rows if len(row) != 2 or row[1] not in ("-1", "0", "1")), None):
            raise UserError(f"{file}: {' '.join(bad)!r} is not an image and -1, 0 or 1")
        listed = [row[0] for row in rows]
        if ids and listed != ids:
            raise UserError(f"{file} lists other images than {classes[0]}_{split}.txt: unpack the set again")
        ids = listed
        columns.append([int(row[1]) for row in rows])
    if not ids:
        raise UserError(f"{root / _LISTS} lists no images for {split}: unpack the set again")
    images = ImageSet(
        split=split,
        classes=classes,
        names=[f"JPEGImages/{one}.jpg" for one in ids],
        labels=np.zeros(len(ids), dtype=np.int64),
        source=FolderSource(root),
    )
    return MultiLabelImages(images=images, targets=np.array(columns, dtype=np.int8).T.copy())


def _fingerprint(splits: Iterable[MultiLabelImages]) -> str:
    digest = hashlib.sha256()
    for one in splits:
        digest.update(fingerprint(one.images).encode() + one.targets.tobytes())
    return digest.hexdigest()


def describe_multi_label(data: MultiLabelSet) -> str:
    """Describes a data set in one line."""
    counts = ", ".join(f"{len(images):,} {split}" for split, images in data.splits.items())
    shown = (data.train.targets > 0).sum(1).mean()
    return f"{data.name}: {len(data.classes)} classes, several an image, {counts} images ({shown:.2f} classes each)"
