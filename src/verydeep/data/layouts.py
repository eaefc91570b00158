"""Readers of the layouts that data sets are published in. Nothing is unpickled.

Each takes the folder of a data set and returns its images by split: ``train``, and ``val`` and ``test`` where they
exist.
"""

import os
import tarfile
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path, PurePosixPath
from typing import IO

import numpy as np
from numpy import ndarray

from verydeep.class_names import read_class_names
from verydeep.data.archives import tar_members
from verydeep.data.folder import label_files
from verydeep.data.image_set import ImageSet, array_images
from verydeep.data.listing import class_folders
from verydeep.data.sources import FolderSource
from verydeep.images.decode import is_image_file
from verydeep.progress import Progress

Splits = dict[str, ImageSet]

IMAGENET_TRAIN, IMAGENET_VAL = "ILSVRC2012_img_train.tar", "ILSVRC2012_img_val.tar"
IMAGENET_DEVKIT = "ILSVRC2012_devkit_t12.tar.gz"

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
    splits = {}
    for split, files in (("train", train), ("test", [test])):
        arrays: dict[str, ndarray] = {}
        labels: list[ndarray] = []
        for file_name in files:
            records = np.frombuffer(contents[file_name], dtype=np.uint8).reshape(-1, label_bytes + _CIFAR_PIXELS)
            labels.append(records[:, label_bytes - 1].astype(np.int64))
            planes = records[:, label_bytes:].reshape(-1, 3, 32, 32)
            for index, pixels in enumerate(np.ascontiguousarray(planes.transpose(0, 2, 3, 1))):
                arrays[f"{PurePosixPath(file_name).stem}/{index:05d}.png"] = pixels
        splits[split] = array_images(split, classes, np.concatenate(labels), str(folder), arrays)
    return splits


def read_imagenette(folder: Path) -> Splits:
    """Reads imagenette. Its folder ``val`` holds what people report on: it is the test split."""
    root = folder / "imagenette2"
    identifiers = _sorted_folders(root / "train")
    classes = tuple(IMAGENETTE_CLASSES[identifier] for identifier in identifiers)
    return {
        split: _list_images(folder, split, classes, root / name, identifiers)
        for split, name in (("train", "train"), ("test", "val"))
    }


def read_flowers(folder: Path) -> Splits:
    """Reads the 102 flowers: two lists in MATLAB's format beside one folder of images."""
    from scipy.io import loadmat

    ids = loadmat(folder / "setid.mat")
    labels = loadmat(folder / "imagelabels.mat")["labels"].ravel().astype(np.int64) - 1
    classes = read_class_names("flowers102")[: labels.max() + 1]
    splits = {}
    for split, key in (("train", "trnid"), ("val", "valid"), ("test", "tstid")):
        numbers = ids[key].ravel()
        splits[split] = ImageSet(
            split=split,
            classes=classes,
            names=[f"jpg/image_{number:05d}.jpg" for number in numbers.tolist()],
            labels=labels[numbers - 1],
            source=FolderSource(folder),
        )
    return splits


def read_pets(folder: Path) -> Splits:
    """Reads the Oxford-IIIT pets: lists of images, classes counted from 1, beside one folder of images."""
    lists = {
        split: [line.split() for line in (folder / "annotations" / file).read_text(encoding="ascii").splitlines()]
        for split, file in (("train", "trainval.txt"), ("test", "test.txt"))
    }
    breeds = {int(row[1]): row[0].rpartition("_")[0] for row in lists["train"]}
    classes = tuple(breeds[label].replace("_", " ").title() for label in range(1, len(breeds) + 1))
    source = FolderSource(folder)
    splits = {}
    for split, rows in lists.items():
        names = [f"images/{name}.jpg" for name, *_ in rows]
        labels = np.array([int(label) - 1 for _, label, *_ in rows], dtype=np.int64)
        splits[split] = ImageSet(split=split, classes=classes, names=names, labels=labels, source=source)
    return splits


def read_caltech101(folder: Path) -> Splits:
    """Reads Caltech-101 with its background class, as the paper's 102 classes.

    Paper: appendix B.
    """
    images = folder / "101_ObjectCategories"
    classes = _sorted_folders(images)
    return {"train": _list_images(folder, "train", classes, images, classes)}


def read_caltech256(folder: Path) -> Splits:
    """Reads Caltech-256 with its clutter class; ``001.ak47`` is the class ak47.

    Paper: appendix B.
    """
    images = folder / "256_ObjectCategories"
    numbered = _sorted_folders(images)
    classes = tuple(name.partition(".")[2] for name in numbered)
    return {"train": _list_images(folder, "train", classes, images, numbered)}


def _sorted_folders(folder: Path) -> tuple[str, ...]:
    """The names of the class folders in a folder, sorted by their bytes as torchvision does."""
    return tuple(sorted(class_folders(folder)))


def _list_images(
    root: Path, split: str, classes: tuple[str, ...], folder: Path, class_names: Sequence[str]
) -> ImageSet:
    """Lists the images that lie in one folder for each class, not those deeper down; a missing folder has none."""
    files: list[list[str]] = []
    for name in class_names:
        inside = folder / name
        entries = os.scandir(inside) if inside.is_dir() else ()
        images = sorted(entry.name for entry in entries if is_image_file(Path(entry.name)) and entry.is_file())
        files.append([f"{inside.relative_to(root).as_posix()}/{image}" for image in images])
    return label_files(root, split, classes, files)


def unpack_imagenet_train(archive: Path, into: Path, progress: Progress) -> None:
    """Unpacks the training images: an archive of archives, one for each class and named after it."""
    with archive.open("rb") as file:
        for outer, member in tar_members(file, archive.stat().st_size, archive.name, progress):
            if inner := outer.extractfile(member):  # not a folder's own entry
                with tarfile.open(fileobj=inner) as tar:
                    tar.extractall(into / "train" / PurePosixPath(member.name).stem, filter="data")


def unpack_imagenet_val(archive: Path, into: Path, progress: Progress) -> None:
    """Unpacks the validation images, each into the folder of its class; the development kit lies beside them."""
    classes = _validation_classes(archive.with_name(IMAGENET_DEVKIT))
    with archive.open("rb") as file:
        for tar, member in tar_members(file, archive.stat().st_size, archive.name, progress):
            if member.isfile():
                name = PurePosixPath(member.name)
                number = int(name.stem.rpartition("_")[2])  # ILSVRC2012_val_00000001.JPEG: the first line of the truth
                tar.extract(member.replace(name=name.name), into / "val" / classes[number - 1], filter="data")


def _validation_classes(devkit: Path) -> list[str]:
    """Reads the WordNet identifier of each validation image from the archive of the development kit."""
    from scipy.io import loadmat

    with tarfile.open(devkit) as tar:
        root = "ILSVRC2012_devkit_t12/data"
        synsets = loadmat(BytesIO(_content(tar, f"{root}/meta.mat")), squeeze_me=True)["synsets"]
        truth = _content(tar, f"{root}/ILSVRC2012_validation_ground_truth.txt")
    identifiers = {
        int(number): str(name) for number, name in zip(synsets["ILSVRC2012_ID"], synsets["WNID"], strict=True)
    }
    return [identifiers[int(number)] for number in truth.split()]


def _content(tar: tarfile.TarFile, name: str) -> bytes:
    member: IO[bytes] | None = tar.extractfile(name)
    assert member is not None
    return member.read()


def read_imagenet(folder: Path) -> Splits:
    """Reads ImageNet. The classes are in the order of their WordNet identifiers, as in every published net.

    Choice: the validation images are the validation split, as in the paper; there is no test split with labels.
    """
    identifiers = _sorted_folders(folder / "train")
    classes = imagenet_classes(identifiers)
    return {split: _list_images(folder, split, classes, folder / split, identifiers) for split in ("train", "val")}


def imagenet_classes(identifiers: tuple[str, ...]) -> tuple[str, ...]:
    """Names the thousand classes; other than a thousand identifiers are their own names."""
    names = read_class_names("imagenet")
    return names if len(names) == len(identifiers) else identifiers
