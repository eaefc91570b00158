"""The images of DATA in a row: those of all its splits or of one, or a folder of images without labels."""

from bisect import bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import accumulate, chain
from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from numpy import ndarray

from verydeep.data.dataset import fingerprint
from verydeep.data.folder import UNLABELLED, list_folder
from verydeep.data.image_set import ImageSet
from verydeep.data.listing import list_images
from verydeep.data.multi_label import MultiLabelSet, open_multi_label
from verydeep.data.open import note_passed_over, open_data
from verydeep.errors import UsageError, UserError
from verydeep.images.decode import is_image_file
from verydeep.progress import Progress, ignore_progress

SPLITS = ("train", "val", "test", "all")


@dataclass(frozen=True, kw_only=True)
class ImageList:
    """Images of several sets in a row, decoded one by one.

    Attributes:
        data: name of the data set.
        sets: the images of each split.
        targets: of each set n,k: 1 where an image shows a class, -1 where not, 0 where that counts as neither; None
            where an image has one class, or none.
        classes: names of the classes; None where the images have no labels.
        mirror: whether a mirrored image still shows the same.
        fingerprint: hash of names, labels and sizes.
    """

    data: str
    sets: Sequence[ImageSet] = field(repr=False)
    targets: Sequence[ndarray] | None = field(default=None, repr=False)
    classes: tuple[str, ...] | None = field(repr=False)
    mirror: bool
    fingerprint: str = field(repr=False)

    def __post_init__(self) -> None:
        """Finds where each set ends."""
        object.__setattr__(self, "_ends", list(accumulate(len(images) for images in self.sets)))

    def __len__(self) -> int:
        return sum(len(images) for images in self.sets)

    @property
    def parallel_reads(self) -> int:
        return max(images.parallel_reads for images in self.sets)

    @property
    def names(self) -> list[str]:
        return list(chain.from_iterable(images.names for images in self.sets))

    @property
    def labels(self) -> ndarray | None:
        """Index of the class of each image, n; or, where it may show several, the targets, n,k."""
        if self.classes is None:
            return None
        return np.concatenate(self.targets or [images.labels for images in self.sets])

    @property
    def splits(self) -> tuple[str, ...]:
        """Name of the split of each set."""
        return tuple(images.split for images in self.sets)

    @property
    def split_numbers(self) -> UInt8[ndarray, "n"]:
        """Of each image, among ``splits``."""
        return np.repeat(np.arange(len(self.sets), dtype=np.uint8), [len(images) for images in self.sets])

    def at(self, index: int) -> tuple[int, int]:
        """The number of the set that holds an image, and its index there."""
        number = bisect_right(self._ends, index)  # type: ignore[attr-defined]
        return number, index - (self._ends[number - 1] if number else 0)  # type: ignore[attr-defined]

    def pixels(self, index: int) -> UInt8[ndarray, "_ _ 3"]:
        number, inside = self.at(index)
        return self.sets[number].pixels(inside)

    def where(self, index: int) -> str:
        number, inside = self.at(index)
        return self.sets[number].where(inside)


def open_images(
    data: str | Path,
    split: str = "all",
    progress: Progress = ignore_progress,
    note: Callable[[str], None] | None = None,
) -> ImageList:
    """Opens all images of DATA, or those of a split.

    Args:
        data: anything that ``open_data`` takes, or a folder of images without class folders.
        split: train, val, test or all.
        progress: receives the number of shards listed, where they have no index.
        note: called with what a folder holds besides.

    Raises:
        UserError: there are no such data, or no such split.
        UsageError: an unknown split.
    """
    if split not in SPLITS:
        raise UsageError(f"--split {split}: choose one of {', '.join(SPLITS)}")
    path = Path(data)
    if path.is_file() and is_image_file(path):
        raise UserError(f"{path} is one image: give a folder of images")
    if several := open_multi_label(data):
        return _multi_label(several, split)
    try:
        found = open_data(data, progress)
    except UserError:
        unlabelled = _unlabelled(path) if path.is_dir() else None
        if unlabelled is None:
            raise
        if split != "all":
            raise UserError(f"{path} has images without labels and no split {split}: leave --split out") from None
        if note is not None and (besides := list_images(path).passed_over):
            note(f"{path}: passed over {besides}")
        return unlabelled
    note_passed_over(found, note)
    sets = list(found.splits.values()) if split == "all" else [found.split(split)]
    return ImageList(
        data=found.name, sets=sets, classes=found.classes, mirror=found.mirror, fingerprint=found.fingerprint
    )


def _multi_label(found: MultiLabelSet, split: str) -> ImageList:
    if split not in (*found.splits, "all"):
        raise UserError(f"{found.name} has no split {split!r}: it has {', '.join(found.splits)}")
    sets = [images for name, images in found.splits.items() if split in (name, "all")]
    return ImageList(
        data=found.name,
        sets=[one.images for one in sets],
        targets=[one.targets for one in sets],
        classes=found.classes,
        mirror=found.mirror,
        fingerprint=found.fingerprint,
    )


def _unlabelled(folder: Path) -> ImageList | None:
    sets = list_folder(folder).image_sets()
    images = sets.get(UNLABELLED)
    if not images:
        return None
    return ImageList(
        data=folder.resolve().name or "data", sets=[images], classes=None, mirror=True, fingerprint=fingerprint(images)
    )
