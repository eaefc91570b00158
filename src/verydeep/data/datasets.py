"""A name or a folder becomes a labelled data set with its splits."""

import hashlib
import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from verydeep.data.image_set import ImageSet, Progress, count_per_class, ignore_progress
from verydeep.data.images import is_image_file
from verydeep.data.stores import FolderStore, PictureStore
from verydeep.errors import UserError

SPLIT_NAMES = {"train": ("train",), "val": ("val", "validation", "valid"), "test": ("test",)}
"""Names of the folders of each split."""

TEST_SHARE, VALIDATION_SHARE = 0.2, 0.1
"""Shares of the images set aside where there is no such split."""

HELD_OUT = "a stratified tenth of the training images, held out by their names"
"""How validation images are found where there are none."""

_IGNORED_FOLDERS = frozenset({"__MACOSX", "__pycache__"})


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
    """

    name: str
    train: ImageSet
    val: ImageSet
    test: ImageSet | None
    mirror: bool
    validation: str
    fingerprint: str

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes, of the training split: of folders in natural order, else in that of the source."""
        return self.train.classes

    def split(self, name: str | None = None) -> ImageSet:
        """Gives a split by name; by default test where there is one, else val.

        Raises:
            UserError: the data set has no such split.
        """
        if name is None:
            return self.test or self.val
        images = {"train": self.train, "val": self.val, "test": self.test}.get(name)
        if images is None:
            available = "train, val" + (", test" if self.test else "")
            raise UserError(f"{self.name} has no split {name!r}: it has {available}")
        return images


def natural_key(name: str) -> tuple[tuple[int, int, str], ...]:
    """Sorts names as people do: 2 before 10."""
    parts = re.split(r"(\d+)", name)
    return tuple((0, int(part), part) if part.isdecimal() else (1, 0, part.casefold()) for part in parts if part)


def open_data(data: str | Path, progress: Progress = ignore_progress) -> DataSet:
    """Opens a data set.

    Args:
        data: a name; a folder: class folders, or train/ val/ test/ with class folders in them; or WebDataset shards:
            the folder or URL of an index, or a pattern such as ``x-{000..009}.tar``.
        progress: told how far the listing of shards without an index is.

    Raises:
        UserError: there is no such data set, or its folders or shards do not make one.
    """
    from verydeep.data.catalogue import NAMED, find_named  # these build on this module
    from verydeep.data.named import open_named
    from verydeep.data.shards import is_shards, open_shards

    path = Path(data)
    if is_shards(str(data)):
        return open_shards(str(data), progress)
    if path.is_dir():
        return _open_folder(path)
    if str(data) in BUILT_IN:
        return BUILT_IN[str(data)]()
    if row := find_named(str(data)):
        return open_named(row)
    what = f"{path} is a file" if path.is_file() else f"no data {str(data)!r}"
    names = ", ".join([*BUILT_IN, *NAMED])
    raise UserError(
        f"{what}: give a folder of class folders, WebDataset shards (x-{{000..009}}.tar), or a name ({names})"
    )


def _open_folder(root: Path) -> DataSet:
    folders = {split: _split_folder(root, names) for split, names in SPLIT_NAMES.items()}
    name = root.resolve().name or "data"
    if folders["train"] is None:
        found = next((folder for folder in folders.values() if folder), None)
        if found is not None:
            raise UserError(f"{root} has {found.name}/ but no train/: the classes come from the training split")
        return make_data_set(name, str(root), hold_out_test(_read_classes(root, root, "train")))
    train = _read_classes(root, folders["train"], "train")
    splits = {"train": train} | {
        split: _read_classes(root, folder, split, train.classes)
        for split, folder in folders.items()
        if folder and split != "train"
    }
    return make_data_set(name, str(root), splits, f"the folder {folders['val'].name}/" if folders["val"] else "")


def hold_out_test(images: ImageSet) -> dict[str, ImageSet]:
    """Splits images that have no splits yet: a fifth of each class becomes the test split."""
    train, test = hold_out(images, TEST_SHARE, "test")
    return {"train": train, "test": test}


def make_data_set(name: str, where: str, splits: Mapping[str, ImageSet], validation: str = "") -> DataSet:
    """Makes a data set of splits whose encoded images lie in stores; a tenth of train becomes val where there is none.

    Args:
        name: short name.
        where: what a person calls its place.
        splits: train, and val and test where they are there.
        validation: where the images of val come from, in words.

    Raises:
        UserError: a split would be empty.
    """
    train, val, test = splits["train"], splits.get("val"), splits.get("test")
    if val is None:
        train, val = hold_out(train, VALIDATION_SHARE, "val")
        validation = HELD_OUT
    for images in (train, val):
        if not len(images):
            raise UserError(f"{where}: too few images to set some aside for {images.split}: add images to its classes")
    return DataSet(
        name=name,
        train=train,
        val=val,
        test=test,
        mirror=True,
        validation=validation,
        fingerprint=fingerprint(train, val, test),
    )


def _split_folder(root: Path, names: Sequence[str]) -> Path | None:
    found = [root / name for name in names if (root / name).is_dir()]
    if len(found) > 1:
        both = " and ".join(f"{folder.name}/" for folder in found)
        raise UserError(f"{root} has both {both}: keep one of them, they mean the same split")
    return found[0] if found else None


def _read_classes(root: Path, folder: Path, split: str, known: tuple[str, ...] | None = None) -> ImageSet:
    """Lists the images of class folders; the classes are theirs, or those known from the training split."""
    found = sorted((entry.name for entry in os.scandir(folder) if is_class_folder(entry)), key=natural_key)
    if not found:
        raise UserError(f"{folder} has no class folders: put the images of each class into a folder of its name")
    classes = known or tuple(found)
    for name in found:
        if any("\ud800" <= character <= "\udfff" for character in name):  # bytes that are no UTF-8
            raise UserError(f"{folder}: the class folder {name!a} has a name that is no UTF-8: rename it")
        if name not in classes:
            raise UserError(f"class {name!r} of {folder} is not among the classes of train/: add it there or remove it")
    if len(classes) < 2:
        raise UserError(f"{folder} has one class, {classes[0]!r}: a classifier needs at least two class folders")
    names: list[str] = []
    labels: list[int] = []
    for label, name in enumerate(classes):
        files = image_files(folder / name) if name in found else []
        if not files and (known is None or name in found):
            raise UserError(f"class {name!r} has no images in {folder / name}: add some or remove the folder")
        names += [file.relative_to(root).as_posix() for file in files]
        labels += [label] * len(files)
    return ImageSet(
        split=split, classes=classes, names=names, labels=np.array(labels, dtype=np.int64), store=FolderStore(root)
    )


def is_class_folder(entry: os.DirEntry[str]) -> bool:
    """Whether an entry of a folder may be a class: hidden folders and those that systems leave behind are not."""
    return entry.is_dir() and not entry.name.startswith(".") and entry.name not in _IGNORED_FOLDERS


def image_files(folder: Path, counts: Callable[[Path], bool] = is_image_file) -> list[Path]:
    """Lists the image files of a folder and of the folders in it, in natural order.

    Args:
        folder: hidden folders in it, and those that systems leave behind, are passed over.
        counts: which files count as images.
    """
    files: list[Path] = []
    for where, inner, names in os.walk(folder):
        inner[:] = sorted(name for name in inner if not name.startswith(".") and name not in _IGNORED_FOLDERS)
        files += [path for name in names if counts(path := Path(where) / name)]
    return sorted(files, key=lambda file: natural_key(file.as_posix()))


def hold_out(images: ImageSet, share: float, split: str) -> tuple[ImageSet, ImageSet]:
    """Sets a stratified share aside, chosen by a hash of each image's name.

    The choice depends on nothing but the names: not on the order of the listing, nor on the version of a library. Each
    class gives at least one image where it has two.

    Args:
        images: all of them.
        share: fraction of each class to set aside.
        split: name of the split that is set aside.

    Returns:
        The rest, and the images set aside.
    """
    aside: list[int] = []
    for label in range(len(images.classes)):
        members = np.flatnonzero(images.labels == label).tolist()
        count = min(max(1, round(share * len(members))), len(members) - 1) if members else 0
        members.sort(key=lambda index: hashlib.sha256(_encoded(f"{split} {images.names[index]}")).digest())
        aside += members[:count]
    chosen = set(aside)
    rest = [index for index in range(len(images)) if index not in chosen]
    return images.subset(rest), images.subset(sorted(aside), split)


def fingerprint(*splits: ImageSet | None) -> str:
    """Hashes the names, labels and sizes of images; for those held in memory, their sum stands for the file size."""
    digest = hashlib.sha256()
    for images in filter(None, splits):
        for index, name in enumerate(images.names):
            held = images.decoded.get(index)
            size = images.store.size(name) if held is None else int(held.sum(dtype=np.int64))
            digest.update(_encoded(f"{images.split}\t{name}\t{images.labels[index]}\t{size}\n"))
    return digest.hexdigest()


def _encoded(text: str) -> bytes:
    """Encodes text with a file's name in it, also where the name is no Unicode."""
    return text.encode(errors="surrogateescape")


def _digits() -> DataSet:
    """Scikit-learn's handwritten digits: 1,797 images of 8x8 from UCI, split like a folder without splits."""
    from sklearn.datasets import load_digits

    bunch = load_digits()
    grey = np.rint(bunch.images * (255 / 16)).astype(np.uint8)
    pictures = {f"{index:04d}.png": np.stack([array] * 3, axis=-1) for index, array in enumerate(grey)}
    images = ImageSet(
        split="train",
        classes=tuple(str(name) for name in bunch.target_names),
        names=list(pictures),
        labels=bunch.target.astype(np.int64),
        store=PictureStore("digits", pictures),
        decoded=dict(enumerate(pictures.values())),
    )
    pool, test = hold_out(images, TEST_SHARE, "test")
    train, val = hold_out(pool, VALIDATION_SHARE, "val")
    return DataSet(
        name="digits",
        train=train,
        val=val,
        test=test,
        mirror=False,
        validation=HELD_OUT,
        fingerprint=fingerprint(train, val, test),
    )


BUILT_IN: dict[str, Callable[[], DataSet]] = {"digits": _digits}
"""The data sets that come with the package, by name."""


def describe(data: DataSet) -> str:
    """Says in one line what a data set holds."""
    parts = {images.split: images for images in (data.test, data.val, data.train) if images}
    counts = ", ".join(f"{len(parts[split]):,} {split}" for split in reversed(parts))
    smallest, largest = min(count_per_class(data.train)), max(count_per_class(data.train))
    each = f"{smallest}" if smallest == largest else f"{smallest} to {largest}"
    return f"{data.name}: {len(data.classes)} classes, {counts} images ({each} training images a class)"
