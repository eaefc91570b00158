"""A data set: its splits, what is held out, its fingerprint.

Paper: section 4.
"""

import hashlib
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate

import numpy as np
from numpy import ndarray

from verydeep.data.image_set import ImageSet, count_per_class
from verydeep.data.sources import PixelSource
from verydeep.errors import UsageError, UserError
from verydeep.files import as_text

TEST_SHARE, VALIDATION_SHARE = 0.2, 0.1
"""Shares of the images set aside where there is no such split."""

HELD_OUT = "a stratified tenth of the training images, held out by their names"
NO_VALIDATION = "none: the images held out for it are trained on too, and errors given for train are of these"
"""Where the validation images come from, where there are no others."""


@dataclass(frozen=True, kw_only=True)
class DataSet:
    """A data set with its splits.

    Attributes:
        name: short name, for run folders and tables.
        train: images to train on.
        val: images to choose by: learning rate, checkpoint, recipe. Never the test images.
        test: images to report on, where there are some.
        mirror: whether a mirrored image still shows its class.
        validation: where the validation images come from, in words.
        fingerprint: hash of names, sizes and splits.
        held_out: names of the splits that were set aside here, as the source has no such splits.
        passed_over: what of its folder is no part of it, in words, each with the remedy.
    """

    name: str
    train: ImageSet
    val: ImageSet
    test: ImageSet | None
    mirror: bool
    validation: str
    fingerprint: str
    held_out: tuple[str, ...] = ()
    passed_over: tuple[tuple[str, str], ...] = ()

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes, of the training split: of folders in natural order, else in that of the source."""
        return self.train.classes

    @property
    def splits(self) -> dict[str, ImageSet]:
        """The images of each split that there is."""
        named = {"train": self.train, "val": self.val, "test": self.test}
        return {split: images for split, images in named.items() if images is not None and images.split == split}

    def split(self, name: str | None = None) -> ImageSet:
        """Returns a split by name, or the images of ``all``; by default test where there is one, else val.

        Raises:
            UserError: the data set has no such split; UsageError where none has.
        """
        if name is None:
            return self.test or self.val
        if name == "all":
            return join(list(self.splits.values()), "all")
        images = {"train": self.train, "val": self.val, "test": self.test}.get(name)
        if images is None:
            available = "train, val" + (", test" if self.test else "")
            kind = UserError if name in ("train", "val", "test") else UsageError
            raise kind(f"{self.name} has no split {name!r}: it has {available}")
        return images


def make_data_set(
    name: str,
    where: str,
    splits: Mapping[str, ImageSet],
    validation: str = "",
    *,
    mirror: bool = True,
    known_fingerprint: str | None = None,
    held_out: tuple[str, ...] = (),
    passed_over: tuple[tuple[str, str], ...] = (),
) -> DataSet:
    """Makes a data set of its splits; a tenth of train becomes val where there is none.

    ``where`` is what a person calls its folder or address; ``held_out`` names the splits that were set aside already.
    """
    train, val, test = splits["train"], splits.get("val"), splits.get("test")
    if val is None:
        train, val = hold_out(train, VALIDATION_SHARE, "val")
        validation = HELD_OUT
        held_out += ("val",)
    for images in (train, val):
        if not len(images):
            raise UserError(f"{where}: too few images to set some aside for {images.split}: add images to its classes")
    return DataSet(
        name=as_text(name),
        train=train,
        val=val,
        test=test,
        mirror=mirror,
        validation=validation,
        fingerprint=known_fingerprint or fingerprint(train, val, test),
        held_out=held_out,
        passed_over=passed_over,
    )


def hold_out_test(images: ImageSet) -> dict[str, ImageSet]:
    """Splits images that have no splits yet: a fifth of each class becomes the test split."""
    train, test = hold_out(images, TEST_SHARE, "test")
    return {"train": train, "test": test}


def hold_out(images: ImageSet, share: float, split: str) -> tuple[ImageSet, ImageSet]:
    """Sets a stratified share aside, chosen by a hash of each image's name; returns the rest, and what is set aside.

    The choice depends on nothing but the names: not on the order of the listing, nor on the version of a library. Each
    class gives at least one image where it has two.
    """
    held_out: set[int] = set()
    for label in range(len(images.classes)):
        members = np.flatnonzero(images.labels == label).tolist()
        count = min(max(1, round(share * len(members))), len(members) - 1) if members else 0
        members.sort(key=lambda index: hashlib.sha256(_encoded(f"{split} {images.names[index]}")).digest())
        held_out.update(members[:count])
    rest = [index for index in range(len(images)) if index not in held_out]
    return images.subset(rest), images.subset(sorted(held_out), split)


def hold_out_groups(images: ImageSet, groups: Sequence[str], share: float, split: str) -> tuple[ImageSet, ImageSet]:
    """Like ``hold_out``, with the images of a group on one side; ``groups`` has the group of each image.

    Groups are taken in the order of a hash of their names while they bring the classes nearer to their share. Then a
    class that has none set aside gives the group that fits best. At least one image of each class stays.
    """
    members: dict[str, list[int]] = {}
    for index, group in enumerate(groups):
        members.setdefault(group, []).append(index)
    sizes = {group: Counter(images.labels[inside].tolist()) for group, inside in members.items()}
    left = count_per_class(images)
    missing = [min(max(1, round(share * count)), count - 1) if count else 0 for count in left]
    is_without = [count > 0 for count in missing]

    def harm(group: str) -> int:
        """By how much the classes would be farther from their shares with this group set aside."""
        if any(left[label] <= count for label, count in sizes[group].items()):
            return sys.maxsize
        return sum(abs(missing[label] - count) - abs(missing[label]) for label, count in sizes[group].items())

    held_out: list[int] = []

    def take(group: str) -> None:
        held_out.extend(members[group])
        for label, count in sizes[group].items():
            left[label] -= count
            missing[label] -= count
            is_without[label] = False

    order = sorted(members, key=lambda group: hashlib.sha256(_encoded(f"{split} {group}")).digest())
    rest = []
    for group in order:
        if harm(group) < 0:
            take(group)
        else:
            rest.append(group)
    for label in range(len(left)):
        fitting = [group for group in rest if is_without[label] and label in sizes[group] and harm(group) < sys.maxsize]
        if fitting:
            take(min(fitting, key=harm))  # it may be taken once: its classes have images set aside from here on
    chosen = set(held_out)
    return (
        images.subset([index for index in range(len(images)) if index not in chosen]),
        images.subset(sorted(chosen), split),
    )


def train_on_all(data: DataSet) -> DataSet:
    """Adds the validation images to the training images, for a net whose recipe is settled already.

    ``val`` then holds the same images as a part of the training split: their error says that a training works, and
    nothing about new images.
    """
    train, val = data.train, data.val
    if train.source != val.source or set(train.names) & set(val.names):
        raise UserError(
            f"{data.name} has validation images of its own, apart from its training images: --no-validation is for "
            "those that were held out of the training images"
        )
    joined = join([train, val], train.split)
    return replace(
        data,
        train=joined,
        val=replace(val, split=train.split),
        validation=NO_VALIDATION,
        fingerprint=fingerprint(joined, data.test),
    )


def join(sets: Sequence[ImageSet], split: str) -> ImageSet:
    """Joins the images of several sets, one after the other; raises UserError where they come from several sources."""
    first = sets[0]
    if any(images.source != first.source for images in sets):
        raise UserError("the splits come from several sources: give one of them by its name")
    decoded: dict[int, ndarray] = {}
    for start, images in zip(accumulate(map(len, sets), initial=0), sets, strict=False):
        decoded |= {start + index: image for index, image in images.decoded.items()}
    return replace(
        first,
        split=split,
        names=[name for images in sets for name in images.names],
        labels=np.concatenate([images.labels for images in sets]),
        decoded=decoded,
    )


def fingerprint(*splits: ImageSet | None) -> str:
    """Hashes the names, labels and sizes of images; for those held in memory, their sum stands for the file size.

    Of images without files only names and labels count: random transforms may change them at each reading.
    """
    digest = hashlib.sha256()
    for images in filter(None, splits):
        for index, name in enumerate(images.names):
            held = images.decoded.get(index)
            if held is not None:
                size = int(held.sum(dtype=np.int64))
            else:
                size = 0 if isinstance(images.source, PixelSource) else images.source.size(name)
            digest.update(_encoded(f"{images.split}\t{name}\t{images.labels[index]}\t{size}\n"))
    return digest.hexdigest()


def _encoded(text: str) -> bytes:
    """Encodes text with the name of a file in it, also where that is no Unicode."""
    return text.encode(errors="surrogateescape")


def describe(data: DataSet) -> str:
    """Describes a data set in one line."""
    counts = ", ".join(f"{len(images):,} {split}" for split, images in data.splits.items())
    smallest, largest = min(count_per_class(data.train)), max(count_per_class(data.train))
    each = f"{smallest}" if smallest == largest else f"{smallest} to {largest}"
    return f"{data.name}: {len(data.classes)} classes, {counts} images ({each} training images a class)"
