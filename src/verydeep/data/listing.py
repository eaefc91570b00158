"""Lists the images of a folder that need not make a data set."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from verydeep.data.datasets import (
    SPLIT_NAMES,
    TEST_SHARE,
    VALIDATION_SHARE,
    hold_out,
    image_files,
    is_class_folder,
    natural_key,
)
from verydeep.data.image_set import ImageSet
from verydeep.data.images import is_image_file
from verydeep.data.stores import FolderStore

UNLABELLED = "unlabelled"
"""Name of the one split of images that have no classes, or only one."""

_NOT_READ = frozenset({
    ".heic", ".heif", ".avif", ".jfif", ".jp2", ".jxl", ".svg", ".psd", ".dng", ".cr2", ".nef", ".arw",
})  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Listing:
    """What lies in a folder; all names are relative to it.

    Attributes:
        root: the folder.
        places: the folders of each split; the root itself where there are no split folders.
        images: the image files of each class folder of each split; some may have none.
        loose: image files that lie where class folders should be.
        unread: image files of formats that are not read.
        beside: folders beside those of the splits.
    """

    root: Path
    places: Mapping[str, Sequence[Path]]
    images: Mapping[str, Mapping[str, Sequence[str]]]
    loose: Sequence[str]
    unread: Sequence[str]
    beside: Sequence[str]

    @property
    def has_split_folders(self) -> bool:
        """Whether there are folders of splits."""
        return all(self.root not in folders for folders in self.places.values())

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the folders that hold images, of all splits, in natural order."""
        found = {name for classes in self.images.values() for name, files in classes.items() if files}
        return tuple(sorted(found, key=natural_key))

    @property
    def folder_names(self) -> dict[str, str]:
        """What the folder of each split is called; empty where there are no split folders."""
        named = {split: folders[0].name if self.has_split_folders else "" for split, folders in self.places.items()}
        return {split: named.get(split, named.get("train", "")) for split in SPLIT_NAMES}

    def image_sets(self) -> dict[str, ImageSet]:
        """Makes the images of each split and sets aside what ``open_data`` would; without classes it is one set."""
        classes = self.classes
        if not classes or (len(classes) < 2 and not self.has_split_folders):
            inside = [name for files in self.images.values() for names in files.values() for name in names]
            return {UNLABELLED: self._image_set(UNLABELLED, (UNLABELLED,), {UNLABELLED: [*inside, *self.loose]})}
        sets = {split: self._image_set(split, classes, files) for split, files in self.images.items()}
        if not self.has_split_folders:
            sets["train"], sets["test"] = hold_out(sets["train"], TEST_SHARE, "test")
        if "train" in sets and "val" not in sets:
            sets["train"], sets["val"] = hold_out(sets["train"], VALIDATION_SHARE, "val")
        return {split: sets[split] for split in SPLIT_NAMES if split in sets}

    def _image_set(self, split: str, classes: tuple[str, ...], files: Mapping[str, Sequence[str]]) -> ImageSet:
        labels = [label for label, name in enumerate(classes) for _ in files.get(name, ())]
        return ImageSet(
            split=split,
            classes=classes,
            names=[file for name in classes for file in files.get(name, ())],
            labels=np.array(labels, dtype=np.int64),
            store=FolderStore(self.root),
        )


def list_folder(root: Path) -> Listing:
    """Lists what lies in a folder, with split folders or without, with classes or without."""
    found = {split: [root / name for name in names if (root / name).is_dir()] for split, names in SPLIT_NAMES.items()}
    places = {split: folders for split, folders in found.items() if folders}
    roots = [folder for folders in places.values() for folder in folders]
    places = places or {"train": [root]}
    files = {split: _classes(folders) for split, folders in places.items()}
    loose = [file for folder in [root, *roots] for file in _loose_files(folder)]
    every = [file for classes in files.values() for inside in classes.values() for file in inside] + loose

    def names(files: Sequence[Path]) -> list[str]:
        return [file.relative_to(root).as_posix() for file in files if is_image_file(file)]

    return Listing(
        root=root,
        places=places,
        images={split: {name: names(inside) for name, inside in classes.items()} for split, classes in files.items()},
        loose=names(loose),
        unread=[file.relative_to(root).as_posix() for file in every if not is_image_file(file)],
        beside=[name for name in _folders(root) if root / name not in roots] if roots else [],
    )


def _folders(folder: Path) -> list[str]:
    return sorted((entry.name for entry in os.scandir(folder) if is_class_folder(entry)), key=natural_key)


def _is_picture(file: Path) -> bool:
    return is_image_file(file) or (file.suffix.lower() in _NOT_READ and not file.name.startswith("."))


def _classes(folders: Sequence[Path]) -> dict[str, list[Path]]:
    classes: dict[str, list[Path]] = {}
    for folder in folders:
        for name in _folders(folder):
            classes.setdefault(name, []).extend(image_files(folder / name, _is_picture))
    return classes


def _loose_files(folder: Path) -> list[Path]:
    files = [Path(entry.path) for entry in os.scandir(folder) if not entry.is_dir()]
    return sorted(filter(_is_picture, files), key=lambda file: natural_key(file.name))
