"""Data sets that have a name: one row for each public one, fetched only when asked; and the built-in ones.

Paper: section 4, appendix B.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from verydeep.data import layouts
from verydeep.data.archives import (
    Archive,
    Unpack,
    data_folder,
    obtain,
    unpack_tar,
    unpack_tar_in_zip,
    unpack_tar_into,
)
from verydeep.data.dataset import DataSet, hold_out_test, make_data_set
from verydeep.data.folder import CLOTHES, open_folder
from verydeep.data.image_set import array_images
from verydeep.data.layouts import Splits
from verydeep.data.shapes import SHAPES, shapes_data_set
from verydeep.errors import UsageError, UserError
from verydeep.files import format_bytes
from verydeep.progress import Progress, ignore_progress


@dataclass(frozen=True, kw_only=True)
class NamedSet:
    """A public data set."""

    name: str
    homepage: str
    licence: str
    "As its source states it."
    archives: tuple[Archive, ...]
    num_classes: int
    counts: dict[str, int]
    "Number of images of each split that is published."
    read: Callable[[Path], Splits] | None
    "None where an image shows several classes: ``multi_label.open_multi_label`` reads the set."
    mirror: bool = True
    "Whether a mirrored image still shows its class."

    @property
    def folder(self) -> Path:
        return data_folder() / self.name

    @property
    def multi_label(self) -> bool:
        """Whether an image shows several classes."""
        return self.read is None

    @property
    def size(self) -> int:
        return sum(archive.size for archive in self.archives)

    @property
    def is_free(self) -> bool:
        """Whether anybody can download it."""
        return all(archive.url for archive in self.archives)

    @property
    def is_here(self) -> bool:
        return all(archive.is_done(self.folder) for archive in self.archives)

    def as_record(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "classes": self.num_classes,
            "images": self.counts,
            "bytes": self.size,
            "licence": self.licence,
            "homepage": self.homepage,
            "free": self.is_free,
            "here": self.is_here,
            "folder": str(self.folder),
        }


_CIFAR = "https://www.cs.toronto.edu/~kriz/"
_OXFORD = "https://www.robots.ox.ac.uk/~vgg/data/"
_CALTECH = "https://data.caltech.edu/records/"
_PASCAL = "https://thor.robots.ox.ac.uk/pascal/VOC/"
_FLICKR = "its images are Flickr's: use must follow the terms of flickr.com, see its page"


def _published(address: str, md5: str, size: int, becomes: str | None = None, unpack: Unpack = unpack_tar) -> Archive:
    """An archive that anybody can download; it is unpacked where it becomes a folder."""
    return Archive(
        file=address.rpartition("/")[2],
        url=address,
        md5=md5,
        size=size,
        becomes=becomes,
        unpack=unpack if becomes else None,
    )


_ROWS = (
    NamedSet(
        name="cifar10",
        homepage=f"{_CIFAR}cifar.html",
        licence="none stated; its authors ask to cite Krizhevsky 2009",
        archives=(_published(f"{_CIFAR}cifar-10-binary.tar.gz", "c32a1d4ab5d03f1284b67883e8d87530", 170_052_171),),
        num_classes=10,
        counts={"train": 50_000, "test": 10_000},
        read=layouts.read_cifar10,
    ),
    NamedSet(
        name="cifar100",
        homepage=f"{_CIFAR}cifar.html",
        licence="none stated; its authors ask to cite Krizhevsky 2009",
        archives=(_published(f"{_CIFAR}cifar-100-binary.tar.gz", "03b5dce01913d631647c71ecec9e9cb8", 168_513_733),),
        num_classes=100,
        counts={"train": 50_000, "test": 10_000},
        read=layouts.read_cifar100,
    ),
    NamedSet(
        name="imagenette",
        homepage="https://github.com/fastai/imagenette",
        licence="its images are ImageNet's: non-commercial research and education",
        archives=(
            _published(
                "https://s3.amazonaws.com/fast-ai-imageclas/imagenette2.tgz",
                "fe2fc210e6bb7c5664d602c3cd71e612",
                1_557_161_267,
                "imagenette2",
            ),
        ),
        num_classes=10,
        counts={"train": 9_469, "test": 3_925},
        read=layouts.read_imagenette,
    ),
    NamedSet(
        name="flowers102",
        homepage=f"{_OXFORD}flowers/102/",
        licence="for research, see its page",
        archives=(
            _published(f"{_OXFORD}flowers/102/102flowers.tgz", "52808999861908f626f3c1f4e79d11fa", 344_862_509, "jpg"),
            _published(f"{_OXFORD}flowers/102/imagelabels.mat", "e0620be6f572b9609742df49c70aed4d", 502),
            _published(f"{_OXFORD}flowers/102/setid.mat", "a5357ecc9cb78c4bef273ce3793fc85c", 14_989),
        ),
        num_classes=102,
        counts={"train": 1_020, "val": 1_020, "test": 6_149},
        read=layouts.read_flowers,
    ),
    NamedSet(
        name="oxford-iiit-pet",
        homepage=f"{_OXFORD}pets/",
        licence="CC BY-SA 4.0",
        archives=(
            _published(f"{_OXFORD}pets/data/images.tar.gz", "5c4f3ee8e5d25df40f4fd59a7f44e54c", 791_918_971, "images"),
            _published(
                f"{_OXFORD}pets/data/annotations.tar.gz", "95a8c909bbe2e81eed6a22bccdf3f68f", 19_173_078, "annotations"
            ),
        ),
        num_classes=37,
        counts={"train": 3_680, "test": 3_669},
        read=layouts.read_pets,
    ),
    NamedSet(
        name="caltech101",
        homepage=f"{_CALTECH}mzrjq-6wc02",
        licence="CC BY 4.0",
        archives=(
            _published(
                f"{_CALTECH}mzrjq-6wc02/files/caltech-101.zip",
                "3138e1922a9193bfa496528edbbc45d0",
                137_414_764,
                "101_ObjectCategories",
                unpack_tar_in_zip,
            ),
        ),
        num_classes=102,
        counts={"train": 9_144},
        read=layouts.read_caltech101,
    ),
    NamedSet(
        name="caltech256",
        homepage=f"{_CALTECH}nyy15-4j048",
        licence="for research, see its page",
        archives=(
            _published(
                f"{_CALTECH}nyy15-4j048/files/256_ObjectCategories.tar",
                "67b4f42ca05d46448c6bb8ecd2220f6d",
                1_183_006_720,
                "256_ObjectCategories",
            ),
        ),
        num_classes=257,
        counts={"train": 30_607},
        read=layouts.read_caltech256,
    ),
    NamedSet(
        name="voc2007",
        homepage="https://host.robots.ox.ac.uk/pascal/VOC/voc2007/",
        licence=_FLICKR,
        archives=(
            _published(
                f"{_PASCAL}voc2007/VOCtrainval_06-Nov-2007.tar",
                "c52e279531787c972589f7e41ab4ae64",
                460_032_000,
                "trainval",
                unpack_tar_into("trainval"),
            ),
            _published(
                f"{_PASCAL}voc2007/VOCtest_06-Nov-2007.tar",
                "b6e924de25625d8de591ea690078ad9f",
                451_020_800,
                "test",
                unpack_tar_into("test"),
            ),
        ),
        num_classes=20,
        counts={"train": 2_501, "val": 2_510, "test": 4_952},
        read=None,
    ),
    NamedSet(
        name="voc2012",
        homepage="https://host.robots.ox.ac.uk/pascal/VOC/voc2012/",
        licence=_FLICKR,
        archives=(
            _published(
                f"{_PASCAL}voc2012/VOCtrainval_11-May-2012.tar",
                "6cd6e144f989b92b3379bac3b3de84fd",
                1_999_639_040,
                "trainval",
                unpack_tar_into("trainval"),
            ),
        ),
        num_classes=20,
        counts={"train": 5_717, "val": 5_823},
        read=None,
    ),
    NamedSet(
        name="imagenet",
        homepage="https://image-net.org/download-images",
        licence="non-commercial research and education, on request",
        archives=(
            Archive(
                file=layouts.IMAGENET_TRAIN,
                md5="1d675b47d978889d74fa0da5fadfb00e",
                size=147_897_477_120,
                becomes="train",
                unpack=layouts.unpack_imagenet_train,
            ),
            Archive(
                file=layouts.IMAGENET_VAL,
                md5="29b22e2961454d5413ddabcf34fc5622",
                size=6_744_924_160,
                becomes="val",
                unpack=layouts.unpack_imagenet_val,
            ),
            Archive(
                file=layouts.IMAGENET_DEVKIT,
                md5="fa75699e90414af021442c21a62c3abf",
                size=2_568_145,
                becomes="val",
            ),
        ),
        num_classes=1_000,
        counts={"train": 1_281_167, "val": 50_000},
        read=layouts.read_imagenet,
    ),
)

NAMED: dict[str, NamedSet] = {row.name: row for row in _ROWS}
"""The public data sets by name. To add one is to add a row above."""


def find_named(name: str) -> NamedSet | None:
    """Finds a data set by its name; case, spaces, hyphens and underscores do not count."""
    return next((row for row in NAMED.values() if _plain(row.name) == _plain(name)), None)


def _plain(name: str) -> str:
    return re.sub(r"[-_ ]", "", name).casefold()


def known(name: str) -> NamedSet:
    """Finds a data set that can be fetched; raises UsageError where there is none of that name."""
    if row := find_named(name):
        return row
    what = f"{name} comes with the package" if name in BUILT_IN else f"unknown data set {name!r}"
    raise UsageError(f"{what}: choose one of {', '.join(NAMED)}")


def fetch(name: str, *, progress: Progress = ignore_progress) -> DataSet:
    """Fetches a data set by name: downloads what is missing, checks it, unpacks it and opens it.

    Args:
        name: of a public data set.
        progress: receives the megabytes done and their total.

    Raises:
        UserError: no network, a damaged file, or a set that its owners give only to those who ask.
        UsageError: an unknown name.
    """
    return open_named(fetch_named(name, progress=progress))


def fetch_named(name: str, *, progress: Progress = ignore_progress) -> NamedSet:
    """Fetches a data set by name as ``fetch`` does, and does not open it."""
    row = known(name)
    if any(archive.url is None and archive.is_missing(row.folder) for archive in row.archives):
        raise UserError(_how_to_get(row))
    obtain(row.archives, row.folder, progress)
    return row


def open_named(row: NamedSet) -> DataSet:
    """Opens a data set that was fetched; val and test images that were not published are held out of train."""
    if not row.is_here:
        raise UserError(_how_to_get(row))
    for archive in row.archives:
        if archive.becomes is None:
            archive.check(row.folder)
    if row.read is None:
        raise UserError(
            f"the images of {row.name} show several classes each, and this takes one class an image: verydeep transfer "
            f"MODEL {row.name} fits a classifier for them"
        )
    try:
        splits = row.read(row.folder)
        _check_counts(row, splits)
        if list(splits) == ["train"]:
            splits = hold_out_test(splits["train"])
        validation = "the validation images that were published"
        return make_data_set(row.name, str(row.folder), splits, validation, mirror=row.mirror)
    except UserError:
        raise
    except (OSError, ValueError, LookupError) as error:
        raise UserError(f"{row.name} cannot be read: {error}; {_again(row)}") from error


def open_multi_label_folder(row: NamedSet) -> Path:
    """Returns the folder of a set with several classes an image; raises UserError where it was not fetched."""
    if not row.is_here:
        raise UserError(_how_to_get(row))
    return row.folder


def _how_to_get(row: NamedSet) -> str:
    begin, verb = f"{row.name} is not in {row.folder}", f"verydeep fetch {row.name}"
    missing = [archive for archive in row.archives if archive.is_missing(row.folder)]
    if not missing:
        return f"{begin} as folders yet: {verb} unpacks it"
    if all(archive.url for archive in missing):
        size = format_bytes(sum(archive.size for archive in missing))
        return f"{begin}: {verb} downloads it ({size}; {row.homepage}; licence: {row.licence})"
    files = ", ".join(f"{archive.file} ({format_bytes(archive.size)})" for archive in missing)
    return (
        f"{begin}: it cannot be downloaded freely (licence: {row.licence}): ask for it at {row.homepage}, put {files} "
        f"there and say {verb}; or put its class folders there, train/<wnid>/ and val/<wnid>/"
    )


def _again(row: NamedSet) -> str:
    made = dict.fromkeys(archive.becomes or archive.file for archive in row.archives)
    other = "" if row.is_free else f", or take the folder as it is: give {row.folder} instead of the name"
    return f"remove {' and '.join(made)} there and say verydeep fetch {row.name}{other}"


def _check_counts(row: NamedSet, splits: Splits) -> None:
    counts = {split: len(images) for split, images in splits.items()}
    if counts != row.counts:
        found, wanted = _in_words(counts), _in_words(row.counts)
        raise UserError(f"{row.folder} holds {found} images instead of {wanted}; {_again(row)}")
    num_classes = len(set(splits["train"].classes))
    if num_classes != row.num_classes:
        raise UserError(f"{row.folder} holds {num_classes} classes instead of {row.num_classes}; {_again(row)}")


def _in_words(counts: dict[str, int]) -> str:
    return ", ".join(f"{count:,} {split}" for split, count in counts.items())


def _digits() -> DataSet:
    """Scikit-learn's handwritten digits: 1,797 images of 8x8 from UCI, split like a folder without splits."""
    from sklearn.datasets import load_digits

    bunch = load_digits()
    grey = np.rint(bunch.images * (255 / 16)).astype(np.uint8)
    arrays = {f"{index:04d}.png": np.stack([array] * 3, axis=-1) for index, array in enumerate(grey)}
    classes = tuple(str(name) for name in bunch.target_names)
    images = array_images("train", classes, bunch.target.astype(np.int64), "digits", arrays)
    return make_data_set("digits", "digits", hold_out_test(images), mirror=False)


BUILT_IN: dict[str, Callable[[], DataSet]] = {
    "digits": _digits,
    "clothes": lambda: open_folder(CLOTHES),
    SHAPES: shapes_data_set,
}
"""The data sets that come with the package, by name."""
