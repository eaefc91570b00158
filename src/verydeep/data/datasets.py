"""A name or a folder becomes a labelled data set with its splits."""

import hashlib
import os
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from verydeep.data.image_set import ImageSet, count_per_class
from verydeep.data.images import is_image_file
from verydeep.mistakes import MistakeError

SPLIT_NAMES = {"train": ("train",), "val": ("val", "validation", "valid"), "test": ("test",)}
"""Names of the folders of each split."""

TEST_SHARE, VALIDATION_SHARE = 0.2, 0.1
"""What is set aside, as fractions, where a folder has no such split."""

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
        """Names of the classes, of the training split, in natural order."""
        return self.train.classes

    def split(self, name: str | None = None) -> ImageSet:
        """Gives a split by name; by default test where there is one, else val.

        Raises:
            MistakeError: the data set has no such split.
        """
        if name is None:
            return self.test or self.val
        images = {"train": self.train, "val": self.val, "test": self.test}.get(name)
        if images is None:
            available = "train, val" + (", test" if self.test else "")
            raise MistakeError(f"{self.name} has no split {name!r}: it has {available}")
        return images


def natural_key(name: str) -> tuple[tuple[int, int, str], ...]:
    """Sorts names as people do: 2 before 10."""
    parts = re.split(r"(\d+)", name)
    return tuple((0, int(part), part) if part.isdecimal() else (1, 0, part.casefold()) for part in parts if part)


def open_data(data: str | Path) -> DataSet:
    """Opens a data set.

    Args:
        data: a built-in name, or a folder: class folders, or train/ val/ test/ with class folders in them.

    Raises:
        MistakeError: there is no such data set, or its folders do not make one.
    """
    path = Path(data)
    if str(data) in BUILT_IN and not path.is_dir():
        return BUILT_IN[str(data)]()
    if path.is_file():
        raise MistakeError(
            f"{path} is a file: give a folder of class folders, or a built-in name ({', '.join(BUILT_IN)})"
        )
    if not path.is_dir():
        raise MistakeError(
            f"no data {str(data)!r}: give a folder of class folders, or a built-in name ({', '.join(BUILT_IN)})"
        )
    return _open_folder(path)


def _open_folder(root: Path) -> DataSet:
    folders = {split: _split_folder(root, names) for split, names in SPLIT_NAMES.items()}
    if folders["train"] is None:
        found = next((folder for folder in folders.values() if folder), None)
        if found is not None:
            raise MistakeError(f"{root} has {found.name}/ but no train/: the classes come from the training split")
        test: ImageSet | None
        pool, test = hold_out(_read_classes(root, root, "train"), TEST_SHARE, "test")
    else:
        pool = _read_classes(root, folders["train"], "train")
        test = _read_classes(root, folders["test"], "test", pool.classes) if folders["test"] else None
    if folders["train"] is not None and folders["val"] is not None:
        val = _read_classes(root, folders["val"], "val", pool.classes)
        train, validation = pool, f"the folder {folders['val'].name}/"
    else:
        train, val = hold_out(pool, VALIDATION_SHARE, "val")
        validation = "a stratified tenth of the training images, held out by their names"
    for images in (train, val):
        if not len(images):
            raise MistakeError(
                f"{root}: too few images to set some aside for {images.split}: add images to its classes"
            )
    return DataSet(
        name=root.resolve().name or "data",
        train=train,
        val=val,
        test=test,
        mirror=True,
        validation=validation,
        fingerprint=_fingerprint(
            [train, val, *([test] if test else [])], lambda images, i: images.file(i).stat().st_size
        ),
    )


def _split_folder(root: Path, names: Sequence[str]) -> Path | None:
    found = [root / name for name in names if (root / name).is_dir()]
    if len(found) > 1:
        both = " and ".join(f"{folder.name}/" for folder in found)
        raise MistakeError(f"{root} has both {both}: keep one of them, they mean the same split")
    return found[0] if found else None


def _read_classes(root: Path, folder: Path, split: str, known: tuple[str, ...] | None = None) -> ImageSet:
    """Lists the images of class folders; the classes are theirs, or those known from the training split."""
    found = sorted((entry.name for entry in os.scandir(folder) if is_class_folder(entry)), key=natural_key)
    if not found:
        raise MistakeError(f"{folder} has no class folders: put the images of each class into a folder of its name")
    classes = known or tuple(found)
    for name in found:
        if name not in classes:
            raise MistakeError(
                f"class {name!r} of {folder} is not among the classes of train/: add it there or remove it"
            )
    if len(classes) < 2:
        raise MistakeError(f"{folder} has one class, {classes[0]!r}: a classifier needs at least two class folders")
    names: list[str] = []
    labels: list[int] = []
    for label, name in enumerate(classes):
        files = image_files(folder / name) if name in found else []
        if not files and (known is None or name in found):
            raise MistakeError(f"class {name!r} has no images in {folder / name}: add some or remove the folder")
        names += [file.relative_to(root).as_posix() for file in files]
        labels += [label] * len(files)
    return ImageSet(split=split, classes=classes, names=names, labels=np.array(labels, dtype=np.int64), root=root)


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


def _fingerprint(splits: Sequence[ImageSet], size: Callable[[ImageSet, int], int]) -> str:
    digest = hashlib.sha256()
    for images in splits:
        for index, name in enumerate(images.names):
            digest.update(_encoded(f"{images.split}\t{name}\t{images.labels[index]}\t{size(images, index)}\n"))
    return digest.hexdigest()


def _encoded(text: str) -> bytes:
    """Encodes text with a file's name in it, also where the name is no Unicode."""
    return text.encode(errors="surrogateescape")


def _digits() -> DataSet:
    """Scikit-learn's handwritten digits: 1,797 images of 8x8 from UCI, split like a folder without splits."""
    from sklearn.datasets import load_digits

    bunch = load_digits()
    grey = np.rint(bunch.images * (255 / 16)).astype(np.uint8)
    images = ImageSet(
        split="train",
        classes=tuple(str(name) for name in bunch.target_names),
        names=[f"{index:04d}.png" for index in range(len(grey))],
        labels=bunch.target.astype(np.int64),
        root=Path("digits"),
        decoded={index: Image.fromarray(array).convert("RGB") for index, array in enumerate(grey)},
    )
    pool, test = hold_out(images, TEST_SHARE, "test")
    train, val = hold_out(pool, VALIDATION_SHARE, "val")
    return DataSet(
        name="digits",
        train=train,
        val=val,
        test=test,
        mirror=False,
        validation="a stratified tenth of the training images, held out by their names",
        fingerprint=_fingerprint([train, val, test], lambda images, i: _pixel_sum(images.decoded[i])),
    )


def _pixel_sum(image: Image.Image) -> int:
    """Sum of the pixel values: stands for the file size of an image that has no file."""
    return int(np.asarray(image, dtype=np.int64).sum())


BUILT_IN: dict[str, Callable[[], DataSet]] = {"digits": _digits}
"""The built-in data sets by name."""


def describe(data: DataSet) -> str:
    """Says in one line what a data set holds."""
    counts = ", ".join(f"{len(images):,} {images.split}" for images in (data.train, data.val, data.test) if images)
    smallest, largest = min(count_per_class(data.train)), max(count_per_class(data.train))
    each = f"{smallest}" if smallest == largest else f"{smallest} to {largest}"
    return f"{data.name}: {len(data.classes)} classes, {counts} images ({each} training images a class)"
