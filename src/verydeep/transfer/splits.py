"""The images that a transfer fits on and measures on: the data's own splits, or the paper's, drawn anew.

Paper: appendix B.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Final

import numpy as np
from jaxtyping import Int, Int8
from numpy import ndarray
from PIL import Image

from verydeep.data.dataset import DataSet, hold_out_test, make_data_set
from verydeep.data.image_set import ImageSet
from verydeep.data.layouts import read_caltech101, read_caltech256
from verydeep.data.multi_label import MultiLabelSet, open_multi_label
from verydeep.data.open import note_passed_over, open_data
from verydeep.errors import UserError
from verydeep.progress import Progress, ignore_progress
from verydeep.transfer.metrics import one_against_rest
from verydeep.transfer.options import TransferOptions

_CALTECH: Final = {
    "101_ObjectCategories": ("caltech101", read_caltech101),
    "256_ObjectCategories": ("caltech256", read_caltech256),
}


@dataclass(frozen=True, kw_only=True)
class TransferData:
    """Images in a row, each with a target for every class.

    Attributes:
        name: of the data set.
        sets: the images, of each of the data's own splits.
        targets: n,k over all sets: 1 where an image shows a class, -1 where not, 0 where that counts as neither.
        classes: names of the classes.
        multi_label: an image may show several classes.
        mirror: whether a mirrored image still shows the same.
        validation: where the validation images come from.
        fingerprint: hash of names, labels and sizes.
        skipped: names of damaged images that were left out.
    """

    name: str
    sets: Sequence[ImageSet] = field(repr=False)
    targets: Int8[ndarray, "n k"] = field(repr=False)
    classes: tuple[str, ...]
    multi_label: bool
    mirror: bool
    validation: str
    fingerprint: str
    skipped: Sequence[str] = ()

    @property
    def names(self) -> list[str]:
        return list(chain.from_iterable(images.names for images in self.sets))

    @property
    def labels(self) -> Int[ndarray, "n"]:
        """Index of the class of each image, where it shows one."""
        labels: ndarray = self.targets.argmax(1)
        return labels

    def read(self, index: int) -> Image.Image:
        """Decodes an image."""
        for images in self.sets:
            if index < len(images):
                return images.read(index)
            index -= len(images)
        raise IndexError(index)

    def of_split(self, *names: str) -> Int[ndarray, "m"]:
        """Indices of the images of some of the data's own splits."""
        ends = np.cumsum([0, *(len(images) for images in self.sets)])
        parts = [np.arange(ends[n], ends[n + 1]) for n, images in enumerate(self.sets) if images.split in names]
        return np.concatenate(parts) if parts else np.arange(0)


@dataclass(frozen=True, kw_only=True)
class Split:
    """Images to fit on and images to measure on, by their indices."""

    train: Int[ndarray, "n"] = field(repr=False)
    test: Int[ndarray, "m"] = field(repr=False)
    measured_on: str
    "val or test."
    seed: int
    "That the split was drawn with; of the folds too."


def open_for_transfer(
    data: str | Path,
    options: TransferOptions,
    progress: Progress = ignore_progress,
    note: Callable[[str], None] | None = None,
) -> TransferData:
    """Opens the images that a transfer needs, with their targets; ``note`` is called with what a folder holds besides.

    Raises:
        UserError: there are no such data, their classes are fewer than two, or they have no such split.
    """
    opened = open_multi_label(data) or _open_caltech(Path(data)) or open_data(data, progress)
    if isinstance(opened, DataSet):
        note_passed_over(opened, note)
    measured = options.split or ("val" if opened.test is None else "test")
    if measured == "test" and opened.test is None:
        raise UserError(f"{opened.name} has no test images: validation images are never called test; leave --split out")
    if len(opened.classes) < 2:
        raise UserError(f"{data} has one class, {''.join(opened.classes)}: a classifier needs at least two")
    wanted = ["train", "val", "test"] if options.per_class is not None or measured == "test" else ["train", "val"]
    if isinstance(opened, MultiLabelSet):
        if options.per_class is not None:
            raise UserError(f"{opened.name} has several classes an image: --per-class is for one; leave it out")
        several = [images for split, images in opened.splits.items() if split in wanted]
        sets, targets = [one.images for one in several], [one.targets for one in several]
        validation = "the validation images that were published"
    else:
        sets = [images for split, images in opened.splits.items() if split in wanted]
        targets = [one_against_rest(images.labels, len(opened.classes)) for images in sets]
        validation = opened.validation
    skipped: list[str] = []
    if options.damaged == "skip":
        sets, targets, skipped = _without_damaged(sets, targets)
    return TransferData(
        name=opened.name,
        sets=sets,
        targets=np.concatenate(targets),
        classes=opened.classes,
        multi_label=isinstance(opened, MultiLabelSet),
        mirror=opened.mirror,
        validation=validation,
        fingerprint=opened.fingerprint,
        skipped=skipped,
    )


def _open_caltech(path: Path) -> DataSet | None:
    """Opens Caltech's layouts by their folders' names, also where they were not fetched."""
    for folder, (name, read) in _CALTECH.items():
        root = path.parent if path.name == folder else path
        if path.is_dir() and (root / folder).is_dir():
            return make_data_set(name, str(path), hold_out_test(read(root)["train"]))
    return None


def _without_damaged(
    sets: Sequence[ImageSet], targets: Sequence[ndarray]
) -> tuple[list[ImageSet], list[ndarray], list[str]]:
    kept, kept_targets, skipped = [], [], []
    for images, wanted in zip(sets, targets, strict=True):
        checked, names = images.checked(skip_damaged=True)
        left_out = set(names)
        kept.append(checked)
        kept_targets.append(wanted[[name not in left_out for name in images.names]])
        skipped += names
    return kept, kept_targets, skipped


def make_splits(data: TransferData, options: TransferOptions) -> list[Split]:
    """Says which images are fitted on and which are measured on.

    Choice: with the data's own splits, a classifier measured on test is fitted on train and val, as C is chosen by
    cross-validation within the images it is fitted on; one measured on val is fitted on train. Splits drawn anew are of
    all images; those left over by both numbers are not used.

    Raises:
        UserError: a class has too few images.
    """
    if options.per_class is None:
        measured = "test" if any(images.split == "test" for images in data.sets) else "val"
        of_fit = ("train", "val") if measured == "test" else ("train",)
        return [
            Split(train=data.of_split(*of_fit), test=data.of_split(measured), measured_on=measured, seed=options.seed)
        ]
    _check_counts(data, options.per_class)
    return [
        _draw(data.labels, options.per_class, options.test_per_class, options.seed + n) for n in range(options.splits)
    ]


def _check_counts(data: TransferData, per_class: int) -> None:
    counts = np.bincount(data.labels, minlength=len(data.classes))
    fewest = int(counts.argmin())
    if counts[fewest] <= per_class:
        raise UserError(
            f"{data.classes[fewest]} has {counts[fewest]:,} images, and --per-class {per_class} leaves none to measure "
            f"on: give {counts[fewest] - 1} at most, or leave the class out"
        )


def _draw(labels: Int[ndarray, "n"], per_class: int, test_per_class: int | None, seed: int) -> Split:
    generator = np.random.default_rng(seed)
    train, test = [], []
    for label in range(int(labels.max()) + 1):
        members = generator.permutation(np.flatnonzero(labels == label))
        train.append(members[:per_class])
        test.append(members[per_class:][:test_per_class])
    return Split(
        train=np.sort(np.concatenate(train)), test=np.sort(np.concatenate(test)), measured_on="test", seed=seed
    )
