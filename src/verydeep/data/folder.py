"""A folder of images: listed leniently, opened strictly as a data set."""

import glob
import os
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, takewhile
from pathlib import Path

import numpy as np

from verydeep.data.dataset import VALIDATION_SHARE, DataSet, hold_out, hold_out_test, join, make_data_set
from verydeep.data.image_set import ImageSet
from verydeep.data.listing import Listing, class_folders, composed, list_file, list_files, list_images, natural_key
from verydeep.data.sources import FolderSource
from verydeep.errors import UserError

SPLIT_NAMES = {"train": ("train",), "val": ("val", "validation", "valid"), "test": ("test",)}
"""Names of the folders of each split."""

CLOTHES = Path(__file__).parents[1] / "shipped" / "clothes"
"""The built-in photographs, with split folders; benchmarks/clothes.py chose them."""

UNLABELLED = "unlabelled"
"""Name of the one split of images that have no classes, or only one."""

NAME_THE_SPLITS = "name the folders of the splits train/, val/ and test/, or give the folder of one split alone"
MAKE_CLASSES = "make a folder for each class, with its images in it, and move or remove these"

_ADDRESS = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://")
_PARTS_OF_DATA_SETS = frozenset({
    "jpegimages", "annotations", "imagesets", "segmentationclass", "segmentationobject", "images", "image", "imgs",
    "img", "masks", "labels", "thumbnails", "bboxes", "bounding_boxes",
})  # fmt: skip
_TRAIN_WORDS = frozenset({"train", "training", "trainset"})
_SPLIT_WORDS = _TRAIN_WORDS | {
    "val", "valid", "validation", "dev", "test", "testing", "testset", "eval", "evaluation", "holdout",
}  # fmt: skip
_WORDS_BESIDE = frozenset({"set", "data", "dataset", "image", "images", "img", "imgs", "photos", "pictures", "split"})


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
    unlabelled: Sequence[str]
    "The images of a test/ without class folders beside a train/ that has them."
    merged: Sequence[str]
    "Classes of two folders whose names differ in their Unicode form only."
    others: str
    "Files that are no images, in words."

    @property
    def has_split_folders(self) -> bool:
        return all(self.root not in folders for folders in self.folders.values())

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the folders that hold images, of all splits, in natural order."""
        found = {name for classes in self.images.values() for name, files in classes.items() if files}
        return tuple(sorted(found, key=natural_key))

    @property
    def passed_over(self) -> list[tuple[str, str]]:
        """What of the folder a data set leaves out, in words, and the remedy."""
        found = []
        for names, what, remedy in (
            (self.unread, "of formats that are not read", _remedy(self.unread[0]) if self.unread else ""),
            (self.loose, "outside the class folders", "move them into the folders of their classes"),
            (self.unlabelled, "of test/ without class folders", "verydeep predict names their classes"),
        ):
            if names:
                found.append((f"passed over {len(names):,} images {what}, such as {names[0]}", remedy))
        if self.others:
            found.append((f"passed over {self.others}", "give images among them the ending of their format"))
        found += [(f"{name}/ beside train/ is passed over", NAME_THE_SPLITS) for name in split_names(self.beside)]
        found += [
            (f"two folders {name}, whose names differ only in their Unicode form, are one class", "rename one of them")
            for name in self.merged
        ]
        return found

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

    def labelled(self, split: str, known: tuple[str, ...] | None = None, title: str | None = None) -> ImageSet:
        """Returns the images of a split; raises UserError where its class folders do not make one.

        The classes are its folders, or those ``known`` from the training split or a net; ``title`` is what the set
        calls its split.
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
                inside = f"{(folder / name).relative_to(self.root).as_posix()}/"
                if unread := [file for file in self.unread if file.startswith(inside)]:
                    raise UserError(
                        f"class {name!r} has no images in {folder / name} but {len(unread):,} of a format that is not "
                        f"read, such as {Path(unread[0]).name}: {_remedy(unread[0])}"
                    )
                raise UserError(f"class {name!r} has no images in {folder / name}: add some or remove the folder")
        return self._image_set(title or split, classes, files)

    def _image_set(self, split: str, classes: tuple[str, ...], files: Mapping[str, Sequence[str]]) -> ImageSet:
        return label_files(self.root, split, classes, [files.get(name, ()) for name in classes])


def _remedy(unread: str) -> str:
    if Path(unread).suffix.lower() in (".heic", ".heif"):
        return "pip install pillow-heif, or convert them to JPEG"
    return "convert them to JPEG or PNG"


def list_folder(root: Path) -> FolderListing:
    """Lists what lies in a folder, with split folders or without, with classes or without."""
    found = {split: [root / name for name in names if (root / name).is_dir()] for split, names in SPLIT_NAMES.items()}
    folders = {split: inside for split, inside in found.items() if inside}
    roots = [folder for inside in folders.values() for folder in inside]
    folders = folders or {"train": [root]}
    listing = Listing()
    merged: set[str] = set()
    images: dict[str, dict[str, list[str]]] = {}

    def names_of(files: Iterable[Path]) -> list[str]:
        return [file.relative_to(root).as_posix() for file in files]

    for split, inside in folders.items():
        classes = images.setdefault(split, {})
        for folder in inside:
            for name in class_folders(folder):
                if composed(name) in classes and len(inside) == 1:
                    merged.add(composed(name))
                before = len(listing.images)
                list_images(folder / name, listing)
                classes.setdefault(composed(name), []).extend(names_of(listing.images[before:]))
    outside = {folder: list_files(folder, Listing(others=listing.others)) for folder in [root, *roots]}
    loose = {folder: names_of(beside.images) for folder, beside in outside.items()}
    unlabelled: list[str] = []
    if "train" in folders and len(folders.get("test", ())) == 1 and not _is_labelled(images["test"], images["train"]):
        (test,) = folders["test"]
        unlabelled = [*chain.from_iterable(images["test"].values()), *loose[test]]
        if unlabelled:
            del images["test"], folders["test"], loose[test]
    unread = [*listing.unread, *chain.from_iterable(beside.unread for beside in outside.values())]
    return FolderListing(
        root=root,
        folders=folders,
        images=images,
        loose=list(chain.from_iterable(loose.values())),
        unread=names_of(unread),
        beside=[name for name in class_folders(root) if root / name not in roots] if roots else [],
        unlabelled=unlabelled,
        merged=sorted(merged),
        others=Listing(others=listing.others).passed_over,
    )


def _is_labelled(test: Mapping[str, Sequence[str]], train: Mapping[str, Sequence[str]]) -> bool:
    """Whether the folders in test/ are classes: one alone that train/ has not is only around the images."""
    inside = [name for name, files in test.items() if files]
    return len(inside) > 1 or any(name in train for name in inside)


def split_names(names: Sequence[str]) -> list[str]:
    """Picks the names of folders that are those of splits, such as training_set, Testing or "Train Images".

    Where every name has such a word in it, of training and of another split, all are: seg_train and seg_test.
    """
    words = {name: re.findall(r"[^\W\d_]+", re.sub("(?<=[a-z])(?=[A-Z])", " ", name).casefold()) for name in names}
    found = [[word for word in words[name] if word in _SPLIT_WORDS] for name in names]
    if names and all(found) and 0 < sum(bool(_TRAIN_WORDS & {*one}) for one in found) < len(names):
        return list(names)
    return [
        name for name, one in zip(names, found, strict=True) if one and {*words[name]} <= _SPLIT_WORDS | _WORDS_BESIDE
    ]


def odd_names(classes: Sequence[str]) -> list[str]:
    """Picks the names that no class would have, but a split or a part of a data set."""
    splits = split_names(classes)
    return [name for name in classes if name in splits or name.casefold() in _PARTS_OF_DATA_SETS]


def why_no_classes(listing: FolderListing) -> tuple[list[str], str] | None:
    """The folders that keep the others from being classes, and the remedy; None where there are none."""
    odd, splits = odd_names(listing.classes), split_names(listing.classes)
    if not odd or not (splits or len(listing.classes) - len(odd) < 2):
        return None
    return odd, NAME_THE_SPLITS if splits else MAKE_CLASSES


def open_folder(root: Path) -> DataSet:
    """Opens class folders, or train/ val/ test/ with class folders in them."""
    listing = list_folder(root)
    name = root.resolve().name or "data"
    for folders in listing.folders.values():
        if len(folders) > 1:
            both = " and ".join(f"{folder.name}/" for folder in folders)
            raise UserError(f"{root} has both {both}: keep one of them, they mean the same split")
    if "train" not in listing.folders:
        (only,) = next(iter(listing.folders.values()))
        raise UserError(f"{root} has {only.name}/ but no train/: the classes come from the training split")
    if found := why_no_classes(listing):
        odd, remedy = found
        names = " and ".join(f"{name}/" for name in odd[:3]) + (" ..." if len(odd) > 3 else "")
        raise UserError(f"{root}: {names} {'look' if len(odd) > 1 else 'looks'} like no class: {remedy}")
    splits, passed_over = {"train": listing.labelled("train")}, tuple(listing.passed_over)
    if not listing.has_split_folders:
        held_out = hold_out_test(splits["train"])
        return make_data_set(name, str(root), held_out, held_out=("test",), passed_over=passed_over)
    for split in listing.folders:
        splits[split] = listing.labelled(split, splits["train"].classes if split != "train" else None)
    validation = f"the folder {listing.folder_names['val']}/" if "val" in splits else ""
    return make_data_set(name, str(root), splits, validation, passed_over=passed_over)


def open_labelled(root: Path, classes: tuple[str, ...], split: str | None = None) -> ImageSet | None:
    """Opens images to test on that make no data set for training: no train/ beside test/, or only some of the classes.

    None where that is another kind of folder, or has all of the classes, or others.

    Args:
        root: class folders, or val/ or test/ without train/.
        classes: all that there may be.
        split: val, test or all; by default test where there is one.
    """
    listing = list_folder(root)
    there = [name for name in SPLIT_NAMES if name in listing.folders]
    if listing.has_split_folders == ("train" in there) or any(len(found) > 1 for found in listing.folders.values()):
        return None
    if not set(listing.classes) <= set(classes) or not listing.classes:
        return None
    if not listing.has_split_folders:
        is_part = set(listing.classes) < set(classes) and split in (None, "all")
        return listing.labelled("train", classes, "all") if is_part else None
    chosen = there if split == "all" else [split or there[-1]]
    if not set(chosen) <= set(there):
        raise UserError(f"{root} has no {chosen[0]}/: it has {', '.join(f'{name}/' for name in there)}")
    return join([listing.labelled(name, classes) for name in chosen], split or chosen[0])


def label_files(root: Path, split: str, classes: tuple[str, ...], files: Sequence[Sequence[str]]) -> ImageSet:
    """Makes a labelled split of the files of each class, by their names relative to a folder."""
    return ImageSet(
        split=split,
        classes=classes,
        names=[name for of_class in files for name in of_class],
        labels=np.repeat(np.arange(len(classes)), [len(of_class) for of_class in files]),
        source=FolderSource(root),
    )


def _fixed_part(pattern: Path) -> Path:
    """The folder above the first part of a pattern that is none; the current one where that is not there."""
    parts = takewhile(lambda part: not glob.has_magic(part), pattern.parts)
    folder = Path(*parts)
    return folder if folder.is_dir() else Path()


def find_images(arguments: Iterable[str], note: Callable[[str], None] | None = None) -> list[Path]:
    """Finds the image files that files, folders and patterns name; ``clothes`` names its test images.

    ``note`` is called with what folders and patterns hold besides.
    """
    found: list[Path] = []
    for argument in arguments:
        if _ADDRESS.match(argument):
            raise UserError(f"{argument} is an address: download the image, then give its file")
        path, inside = Path(argument), Listing()
        if argument == "clothes" and not path.exists():
            path = CLOTHES / "test"
        if path.is_dir():
            list_images(path, inside)
        elif path.exists() or not glob.has_magic(argument):
            found.append(path)
            continue
        else:
            matches = sorted(glob.glob(argument, recursive=True), key=natural_key)  # noqa: PTH207 - also absolute patterns
            if not matches:
                os.scandir(_fixed_part(path)).close()  # raises where it may not be read
                raise UserError(f"no files match {argument!r}")
            for match in map(Path, matches):
                (list_images if match.is_dir() else list_file)(match, inside)
        besides = f": passed over {inside.passed_over}" if inside.passed_over else ""
        if not inside.images:
            raise UserError(f"no images in {path}{besides}")
        if besides and note is not None:
            note(f"{argument}{besides}")
        found += dict.fromkeys(inside.images)
    return found
