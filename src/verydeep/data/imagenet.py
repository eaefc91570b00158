"""ImageNet (ILSVRC-2012): its archives, as their owners give them, become a folder for each class.

torchvision can do this too. Its way leaves a folder that looks whole when it is interrupted, and stores what it read
from the development kit by ``torch.save``.
"""

import tarfile
from io import BytesIO
from pathlib import Path, PurePosixPath
from typing import IO

from verydeep.class_names import read_class_names
from verydeep.data.download import extract_members
from verydeep.data.image_set import Progress
from verydeep.data.layouts import Splits, class_folders, list_images

TRAIN_ARCHIVE, VAL_ARCHIVE = "ILSVRC2012_img_train.tar", "ILSVRC2012_img_val.tar"
DEVKIT_ARCHIVE = "ILSVRC2012_devkit_t12.tar.gz"


def unpack_train(archive: Path, into: Path, progress: Progress) -> None:
    """Unpacks the training images: an archive of archives, one for each class and named after it."""
    size = archive.stat().st_size
    with archive.open("rb") as file, tarfile.open(fileobj=file) as outer:
        for member in outer:
            inner = outer.extractfile(member)
            if inner is None:  # a folder's own entry
                continue
            with tarfile.open(fileobj=inner) as tar:
                folder = into / "train" / PurePosixPath(member.name).stem
                extract_members(tar, folder, progress, f"unpacking {archive.name}", file.tell, size)


def unpack_val(archive: Path, into: Path, progress: Progress) -> None:
    """Unpacks the validation images, each into the folder of its class; the development kit lies beside them."""
    classes = validation_classes(archive.with_name(DEVKIT_ARCHIVE))
    size = archive.stat().st_size
    with archive.open("rb") as file, tarfile.open(fileobj=file) as tar:
        for member in tar:
            if not member.isfile():
                continue
            name = PurePosixPath(member.name)
            number = int(name.stem.rpartition("_")[2])  # ILSVRC2012_val_00000001.JPEG is the first line of the truth
            tar.extract(member.replace(name=name.name), into / "val" / classes[number - 1], filter="data")
            progress(f"unpacking {archive.name}, MB", file.tell() // 10**6, max(1, size // 10**6))


def validation_classes(devkit: Path) -> list[str]:
    """Reads the WordNet identifier of each validation image from the development kit.

    Args:
        devkit: the archive; its list of classes is in MATLAB's format and needs no unpickling.
    """
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
    identifiers = class_folders(folder / "train")
    classes = class_names(identifiers)
    return {
        split: list_images(folder, split, classes, [folder / split / identifier for identifier in identifiers])
        for split in ("train", "val")
    }


def class_names(identifiers: tuple[str, ...]) -> tuple[str, ...]:
    """Names the thousand classes: the first synonym of each, and where two have the same, what tells them apart.

    Args:
        identifiers: WordNet identifiers, sorted. Other than a thousand of them keep their identifiers as names.
    """
    names = read_class_names("imagenet")
    return names if len(names) == len(identifiers) else identifiers
