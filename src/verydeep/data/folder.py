"""A folder of images: listed leniently, opened strictly as a data set."""

import glob
import os
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from verydeep.data.dataset import VALIDATION_SHARE, DataSet, hold_out, hold_out_test, make_data_set
from verydeep.data.image_set import ImageSet
from verydeep.data.sources import FolderSource
from verydeep.errors import UserError
from verydeep.images.decode import is_image_file

SPLIT_NAMES = {"train": ("train",), "val": ("val", "validation", "valid"), "test": ("test",)}
"""Names of the folders of each split."""

CLOTHES = Path(__file__).parents[1] / "shipped" / "clothes"
"""The built-in photographs, with split folders; benchmarks/clothes.py chose them."""

UNLABELLED = "unlabelled"
"""Name of the one split of images that have no classes, or only one."""

_IGNORED_FOLDERS = frozenset({"__MACOSX", "__pycache__"})
_NOT_READ = frozenset({
    ".heic", ".heif", ".avif", ".jfif", ".jp2", ".jxl", ".svg", ".psd", ".dng", ".cr2", ".nef", ".arw",
})  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class FolderListing:
    """The files and folders in a folder, whether or not they make a data set; names are relative to it."""

    root: Path
    folders: Mapping[str, Sequence[Path]]
    "The folders of each split; the root itself where there are no split folders."
    images: Mapping[str, Mapping[str, Sequence[str]]]
    "The image files of each class folder of each split; some may have none."
    loose: Sequence[str]
    "Image files that lie where class folders should be."
    unread: Sequence[str]
    "Image files of formats that are not read."
    beside: Sequence[str]
    "Folders beside those of the splits."

    @property
    def has_split_folders(self) -> bool:
        return all(self.root not in folders for folders in self.folders.values())

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the folders that hold images, of all splits, in natural order."""
        found = {name for classes in self.images.values() for name, files in classes.items() if files}
        return tuple(sorted(found, key=natural_key))

    @property
    def folder_names(self) -> dict[str, str]:
        """Name of the folder of each split; empty where there are no split folders."""
        named = {split: folders[0].name if self.has_split_folders else "" for split, folders in self.folders.items()}
        return {split: named.get(split, named.get("train", "")) for split in SPLIT_NAMES}

    def image_sets(self) -> dict[str, ImageSet]:
        """Returns the images of each split, those held out too; one unlabelled set where there are no classes."""
        classes = self.classes
        if not classes or (len(classes) < 2 and not self.has_split_folders):
            inside = [name for files in self.images.values() for names in files.values() for name in names]
            return {UNLABELLED: self._image_set(UNLABELLED, (UNLABELLED,), {UNLABELLED: [*inside, *self.loose]})}
        sets = {split: self._image_set(split, classes, files) for split, files in self.images.items()}
        if not self.has_split_folders:
            sets = hold_out_test(sets["train"])
        if "train" in sets and "val" not in sets:
            sets["train"], sets["val"] = hold_out(sets["train"], VALIDATION_SHARE, "val")
        return {split: sets[split] for split in SPLIT_NAMES if split in sets}

    def labelled(self, split: str, known: tuple[str, ...] | None = None) -> ImageSet:
        """Returns the images of a split; raises UserError where its class folders do not make one.

        The classes are its folders, or those ``known`` from the training split.
        """
        (folder,), files = self.folders[split], self.images[split]
        if not files:
            raise UserError(f"{folder} has no class folders: put the images of each class into a folder of its name")
        classes = known or tuple(files)
        for name in files:
            if any("\ud800" <= character <= "\udfff" for character in name):  # bytes that are no UTF-8
                raise UserError(f"{folder}: the class folder {name!a} has a name that is no UTF-8: rename it")
            if name not in classes:
                raise UserError(
                    f"class {name!r} of {folder} is not among the classes of train/: add it there or remove it"
                )
        if len(classes) < 2:
            raise UserError(f"{folder} has one class, {classes[0]!r}: a classifier needs at least two class folders")
        for name in classes:
            if not files.get(name, known):
                raise UserError(f"class {name!r} has no images in {folder / name}: add some or remove the folder")
        return self._image_set(split, classes, files)

    def _image_set(self, split: str, classes: tuple[str, ...], files: Mapping[str, Sequence[str]]) -> ImageSet:
        return label_files(self.root, split, classes, [files.get(name, ()) for name in classes])


def list_folder(root: Path) -> FolderListing:
    """Lists what lies in a folder, with split folders or without, with classes or without."""
    found = {split: [root / name for name in names if (root / name).is_dir()] for split, names in SPLIT_NAMES.items()}
    folders = {split: inside for split, inside in found.items() if inside}
    roots = [folder for inside in folders.values() for folder in inside]
    folders = folders or {"train": [root]}
    unread: list[str] = []

    def readable(files: Sequence[Path]) -> list[str]:
        names: list[str] = []
        for file in files:
            (names if is_image_file(file) else unread).append(file.relative_to(root).as_posix())
        return names

    return FolderListing(
        root=root,
        folders=folders,
        images={
            split: {name: readable(files) for name, files in _class_files(inside).items()}
            for split, inside in folders.items()
        },
        loose=[name for folder in [root, *roots] for name in readable(_loose_files(folder))],
        unread=unread,
        beside=[name for name in class_folders(root) if root / name not in roots] if roots else [],
    )


def open_folder(root: Path) -> DataSet:
    """Opens class folders, or train/ val/ test/ with class folders in them."""
    listing = list_folder(root)
    name = root.resolve().name or "data"
    for folders in listing.folders.values():
        if len(folders) > 1:
            both = " and ".join(f"{folder.name}/" for folder in folders)
            raise UserError(f"{root} has both {both}: keep one of them, they mean the same split")
    if "train" not in listing.folders:
        (found,) = next(iter(listing.folders.values()))
        raise UserError(f"{root} has {found.name}/ but no train/: the classes come from the training split")
    splits = {"train": listing.labelled("train")}
    if not listing.has_split_folders:
        return make_data_set(name, str(root), hold_out_test(splits["train"]))
    for split in listing.folders:
        splits[split] = listing.labelled(split, splits["train"].classes if split != "train" else None)
    validation = f"the folder {listing.folder_names['val']}/" if "val" in splits else ""
    return make_data_set(name, str(root), splits, validation)


def label_files(root: Path, split: str, classes: tuple[str, ...], files: Sequence[Sequence[str]]) -> ImageSet:
    """Makes a labelled split of the files of each class, by their names relative to a folder."""
    return ImageSet(
        split=split,
        classes=classes,
        names=[name for of_class in files for name in of_class],
        labels=np.repeat(np.arange(len(classes)), [len(of_class) for of_class in files]),
        source=FolderSource(root),
    )


def class_folders(folder: Path) -> list[str]:
    """Names of the folders that may be classes, in natural order: not hidden, nor left behind by a system."""
    names = [entry.name for entry in os.scandir(folder) if entry.is_dir()]
    return sorted((name for name in names if name[0] != "." and name not in _IGNORED_FOLDERS), key=natural_key)


def image_files(folder: Path, accept: Callable[[Path], bool] = is_image_file) -> list[Path]:
    """Lists the image files of a folder and of the folders in it that are not ignored, in natural order."""
    files: list[Path] = []
    for where, inner, names in os.walk(folder):
        inner[:] = sorted(name for name in inner if not name.startswith(".") and name not in _IGNORED_FOLDERS)
        files += [path for name in names if accept(path := Path(where) / name)]
    return sorted(files, key=lambda file: natural_key(file.as_posix()))


def natural_key(name: str) -> tuple[tuple[int, int, str], ...]:
    """Sorts names as people do: 2 before 10."""
    parts = re.split(r"(\d+)", name)
    return tuple((0, int(part), part) if part.isdecimal() else (1, 0, part.casefold()) for part in parts if part)


def _is_picture(file: Path) -> bool:
    return is_image_file(file) or (file.suffix.lower() in _NOT_READ and not file.name.startswith("."))


def _class_files(folders: Sequence[Path]) -> dict[str, list[Path]]:
    classes: dict[str, list[Path]] = {}
    for folder in folders:
        for name in class_folders(folder):
            classes.setdefault(name, []).extend(image_files(folder / name, _is_picture))
    return classes


def _loose_files(folder: Path) -> list[Path]:
    files = [Path(entry.path) for entry in os.scandir(folder) if not entry.is_dir()]
    return sorted(filter(_is_picture, files), key=lambda file: natural_key(file.name))


def find_images(arguments: Iterable[str]) -> list[Path]:
    """Finds the image files that files, folders and patterns name; ``clothes`` names its test images."""
    found: list[Path] = []
    for argument in arguments:
        path = Path(argument)
        if argument == "clothes" and not path.exists():
            path = CLOTHES / "test"
        if path.is_dir():
            inside = image_files(path)
            if not inside:
                raise UserError(f"no images in {path}")
            found += inside
        elif path.exists() or not glob.has_magic(argument):
            found.append(path)
        else:
            matches = sorted(glob.glob(argument, recursive=True), key=natural_key)  # noqa: PTH207 - also absolute patterns
            if not matches:
                raise UserError(f"no files match {argument!r}")
            found += [Path(match) for match in matches]
    return found
