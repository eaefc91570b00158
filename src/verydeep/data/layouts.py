"""The layouts that data sets are published in become labelled images. Nothing is unpickled.

Each reader takes the folder of a data set and gives its images by split: ``train``, and ``val`` and ``test`` where
they exist.
"""

import os
import tarfile
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath

import numpy as np
from numpy import ndarray

from verydeep.class_names import read_class_names
from verydeep.data.image_set import ImageSet
from verydeep.data.images import is_image_file
from verydeep.data.stores import FolderStore, PictureStore

Splits = dict[str, ImageSet]

IMAGENETTE_CLASSES = {
    "n01440764": "tench",
    "n02102040": "English springer",
    "n02979186": "cassette player",
    "n03000684": "chain saw",
    "n03028079": "church",
    "n03394916": "French horn",
    "n03417042": "garbage truck",
    "n03425413": "gas pump",
    "n03445777": "golf ball",
    "n03888257": "parachute",
}
"""Names of the classes of imagenette by their WordNet identifiers; ImageNet has the same names."""

_CIFAR_PIXELS = 3 * 32 * 32


def read_cifar10(folder: Path) -> Splits:
    """Reads the binary archive of CIFAR-10: records of a label and an image, plane by plane."""
    train = [f"data_batch_{number}.bin" for number in range(1, 6)]
    return _read_cifar(folder, "cifar-10-binary.tar.gz", "batches.meta.txt", 1, train, "test_batch.bin")


def read_cifar100(folder: Path) -> Splits:
    """Reads the binary archive of CIFAR-100: records of a coarse label, a fine label and an image."""
    return _read_cifar(folder, "cifar-100-binary.tar.gz", "fine_label_names.txt", 2, ["train.bin"], "test.bin")


def _read_cifar(
    folder: Path, archive: str, names_file: str, label_bytes: int, train: Sequence[str], test: str
) -> Splits:
    contents: dict[str, bytes] = {}
    with tarfile.open(folder / archive) as tar:
        for member in tar:  # read while passing by: going back would decompress it all again
            if file := tar.extractfile(member):
                contents[PurePosixPath(member.name).name] = file.read()
    classes = tuple(contents[names_file].decode("ascii").split())
    return {
        "train": _cifar_images(folder, "train", classes, label_bytes, {name: contents[name] for name in train}),
        "test": _cifar_images(folder, "test", classes, label_bytes, {test: contents[test]}),
    }


def _cifar_images(
    folder: Path, split: str, classes: tuple[str, ...], label_bytes: int, batches: Mapping[str, bytes]
) -> ImageSet:
    names: list[str] = []
    labels: list[ndarray] = []
    held: list[ndarray] = []
    for file, content in batches.items():
        records = np.frombuffer(content, dtype=np.uint8).reshape(-1, label_bytes + _CIFAR_PIXELS)
        stem = PurePosixPath(file).stem
        names += [f"{stem}/{index:05d}.png" for index in range(len(records))]
        labels.append(records[:, label_bytes - 1].astype(np.int64))
        planes = records[:, label_bytes:].reshape(-1, 3, 32, 32)
        held += list(np.ascontiguousarray(planes.transpose(0, 2, 3, 1)))
    return ImageSet(
        split=split,
        classes=classes,
        names=names,
        labels=np.concatenate(labels),
        store=PictureStore(str(folder), dict(zip(names, held, strict=True))),
        decoded=dict(enumerate(held)),
    )


def read_imagenette(folder: Path) -> Splits:
    """Reads imagenette. Its folder ``val`` holds what people report on: it is the test split."""
    train, val = folder / "imagenette2" / "train", folder / "imagenette2" / "val"
    identifiers = class_folders(train)
    classes = tuple(IMAGENETTE_CLASSES[identifier] for identifier in identifiers)
    return {
        "train": list_images(folder, "train", classes, [train / identifier for identifier in identifiers]),
        "test": list_images(folder, "test", classes, [val / identifier for identifier in identifiers]),
    }


def read_flowers(folder: Path) -> Splits:
    """Reads the 102 flowers: two lists in MATLAB's format beside one folder of images."""
    from scipy.io import loadmat

    ids = loadmat(folder / "setid.mat")
    labels = loadmat(folder / "imagelabels.mat")["labels"].ravel().astype(np.int64) - 1
    classes = read_class_names("flowers102")[: labels.max() + 1]
    return {
        split: ImageSet(
            split=split,
            classes=classes,
            names=[f"jpg/image_{number:05d}.jpg" for number in ids[key].ravel().tolist()],
            labels=labels[ids[key].ravel() - 1],
            store=FolderStore(folder),
        )
        for split, key in (("train", "trnid"), ("val", "valid"), ("test", "tstid"))
    }


def read_pets(folder: Path) -> Splits:
    """Reads the Oxford-IIIT pets: lists of images, classes counted from 1, beside one folder of images."""
    lists = {
        split: [line.split() for line in (folder / "annotations" / file).read_text(encoding="ascii").splitlines()]
        for split, file in (("train", "trainval.txt"), ("test", "test.txt"))
    }
    breeds = {int(row[1]): row[0].rpartition("_")[0] for row in lists["train"]}
    classes = tuple(breeds[label].replace("_", " ").title() for label in range(1, len(breeds) + 1))
    return {
        split: ImageSet(
            split=split,
            classes=classes,
            names=[f"images/{row[0]}.jpg" for row in rows],
            labels=np.array([int(row[1]) - 1 for row in rows], dtype=np.int64),
            store=FolderStore(folder),
        )
        for split, rows in lists.items()
    }


def read_caltech101(folder: Path) -> Splits:
    """Reads Caltech-101 with its background class, as the paper's 102 classes.

    Paper: appendix B.
    """
    images = folder / "101_ObjectCategories"
    classes = class_folders(images)
    return {"train": list_images(folder, "train", classes, [images / name for name in classes])}


def read_caltech256(folder: Path) -> Splits:
    """Reads Caltech-256 with its clutter class; ``001.ak47`` is the class ak47.

    Paper: appendix B.
    """
    images = folder / "256_ObjectCategories"
    numbered = class_folders(images)
    classes = tuple(name.partition(".")[2] for name in numbered)
    return {"train": list_images(folder, "train", classes, [images / name for name in numbered])}


def class_folders(folder: Path) -> tuple[str, ...]:
    """The names of the folders in a folder, sorted by their bytes as torchvision does."""
    return tuple(sorted(entry.name for entry in os.scandir(folder) if entry.is_dir() and entry.name[0] != "."))


def list_images(root: Path, split: str, classes: tuple[str, ...], folders: Sequence[Path]) -> ImageSet:
    """Lists the images that lie in one folder for each class, not those deeper down.

    Args:
        root: the folder of the data set.
        split: train, val or test.
        classes: their names.
        folders: their folders, in the same order; one that is missing has no images.
    """
    names: list[str] = []
    labels: list[int] = []
    for label, folder in enumerate(folders):
        entries = os.scandir(folder) if folder.is_dir() else ()
        files = sorted(entry.name for entry in entries if is_image_file(Path(entry.name)) and entry.is_file())
        below = folder.relative_to(root).as_posix()
        names += [f"{below}/{file}" for file in files]
        labels += [label] * len(files)
    return ImageSet(
        split=split, classes=classes, names=names, labels=np.array(labels, dtype=np.int64), store=FolderStore(root)
    )
