"""The public data sets that have a name: one row each. To add one is to add a row here."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from verydeep.data import imagenet, layouts
from verydeep.data.datasets import BUILT_IN
from verydeep.data.download import Archive, data_folder, unpack_tar, unpack_tar_in_zip
from verydeep.data.layouts import Splits
from verydeep.errors import UsageError


@dataclass(frozen=True, kw_only=True)
class NamedSet:
    """A public data set.

    Attributes:
        name: what people call it.
        homepage: where it comes from.
        licence: as its source states it.
        archives: the files it is published as.
        num_classes: number of classes.
        counts: number of images of each split that is published.
        read: makes labelled images of its folder.
        mirror: whether a mirrored image still shows its class.
    """

    name: str
    homepage: str
    licence: str
    archives: tuple[Archive, ...]
    num_classes: int
    counts: dict[str, int]
    read: Callable[[Path], Splits]
    mirror: bool = True

    @property
    def folder(self) -> Path:
        """Where it lies or will lie."""
        return data_folder() / self.name

    @property
    def size(self) -> int:
        """Bytes of its archives."""
        return sum(archive.size for archive in self.archives)

    @property
    def is_free(self) -> bool:
        """Whether anybody can download it."""
        return all(archive.url for archive in self.archives)

    @property
    def is_here(self) -> bool:
        """Whether it was fetched."""
        return all(archive.is_done(self.folder) for archive in self.archives)

    def as_record(self) -> dict[str, Any]:
        """What is known of it, for JSON."""
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

_ROWS = (
    NamedSet(
        name="cifar10",
        homepage=f"{_CIFAR}cifar.html",
        licence="none stated; its authors ask to cite Krizhevsky 2009",
        archives=(
            Archive(
                file="cifar-10-binary.tar.gz",
                url=f"{_CIFAR}cifar-10-binary.tar.gz",
                md5="c32a1d4ab5d03f1284b67883e8d87530",
                size=170_052_171,
            ),
        ),
        num_classes=10,
        counts={"train": 50_000, "test": 10_000},
        read=layouts.read_cifar10,
    ),
    NamedSet(
        name="cifar100",
        homepage=f"{_CIFAR}cifar.html",
        licence="none stated; its authors ask to cite Krizhevsky 2009",
        archives=(
            Archive(
                file="cifar-100-binary.tar.gz",
                url=f"{_CIFAR}cifar-100-binary.tar.gz",
                md5="03b5dce01913d631647c71ecec9e9cb8",
                size=168_513_733,
            ),
        ),
        num_classes=100,
        counts={"train": 50_000, "test": 10_000},
        read=layouts.read_cifar100,
    ),
    NamedSet(
        name="imagenette",
        homepage="https://github.com/fastai/imagenette",
        licence="its images are ImageNet's: non-commercial research and education",
        archives=(
            Archive(
                file="imagenette2.tgz",
                url="https://s3.amazonaws.com/fast-ai-imageclas/imagenette2.tgz",
                md5="fe2fc210e6bb7c5664d602c3cd71e612",
                size=1_557_161_267,
                becomes="imagenette2",
                unpack=unpack_tar,
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
            Archive(
                file="102flowers.tgz",
                url=f"{_OXFORD}flowers/102/102flowers.tgz",
                md5="52808999861908f626f3c1f4e79d11fa",
                size=344_862_509,
                becomes="jpg",
                unpack=unpack_tar,
            ),
            Archive(
                file="imagelabels.mat",
                url=f"{_OXFORD}flowers/102/imagelabels.mat",
                md5="e0620be6f572b9609742df49c70aed4d",
                size=502,
            ),
            Archive(
                file="setid.mat",
                url=f"{_OXFORD}flowers/102/setid.mat",
                md5="a5357ecc9cb78c4bef273ce3793fc85c",
                size=14_989,
            ),
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
            Archive(
                file="images.tar.gz",
                url=f"{_OXFORD}pets/data/images.tar.gz",
                md5="5c4f3ee8e5d25df40f4fd59a7f44e54c",
                size=791_918_971,
                becomes="images",
                unpack=unpack_tar,
            ),
            Archive(
                file="annotations.tar.gz",
                url=f"{_OXFORD}pets/data/annotations.tar.gz",
                md5="95a8c909bbe2e81eed6a22bccdf3f68f",
                size=19_173_078,
                becomes="annotations",
                unpack=unpack_tar,
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
            Archive(
                file="caltech-101.zip",
                url=f"{_CALTECH}mzrjq-6wc02/files/caltech-101.zip",
                md5="3138e1922a9193bfa496528edbbc45d0",
                size=137_414_764,
                becomes="101_ObjectCategories",
                unpack=unpack_tar_in_zip,
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
            Archive(
                file="256_ObjectCategories.tar",
                url=f"{_CALTECH}nyy15-4j048/files/256_ObjectCategories.tar",
                md5="67b4f42ca05d46448c6bb8ecd2220f6d",
                size=1_183_006_720,
                becomes="256_ObjectCategories",
                unpack=unpack_tar,
            ),
        ),
        num_classes=257,
        counts={"train": 30_607},
        read=layouts.read_caltech256,
    ),
    NamedSet(
        name="imagenet",
        homepage="https://image-net.org/download-images",
        licence="non-commercial research and education, on request",
        archives=(
            Archive(
                file=imagenet.TRAIN_ARCHIVE,
                md5="1d675b47d978889d74fa0da5fadfb00e",
                size=147_897_477_120,
                becomes="train",
                unpack=imagenet.unpack_train,
            ),
            Archive(
                file=imagenet.VAL_ARCHIVE,
                md5="29b22e2961454d5413ddabcf34fc5622",
                size=6_744_924_160,
                becomes="val",
                unpack=imagenet.unpack_val,
            ),
            Archive(
                file=imagenet.DEVKIT_ARCHIVE,
                md5="fa75699e90414af021442c21a62c3abf",
                size=2_568_145,
                becomes="val",
            ),
        ),
        num_classes=1_000,
        counts={"train": 1_281_167, "val": 50_000},
        read=imagenet.read_imagenet,
    ),
)

NAMED: dict[str, NamedSet] = {row.name: row for row in _ROWS}
"""The public data sets by name."""


def _plain(name: str) -> str:
    return re.sub(r"[-_ ]", "", name).casefold()


def find_named(name: str) -> NamedSet | None:
    """Finds a data set by its name; case, spaces, hyphens and underscores do not count."""
    return next((row for row in NAMED.values() if _plain(row.name) == _plain(name)), None)


def known(name: str) -> NamedSet:
    """Finds a data set that can be fetched.

    Raises:
        UsageError: there is none of that name.
    """
    if row := find_named(name):
        return row
    what = f"{name} comes with the package" if name in BUILT_IN else f"unknown data set {name!r}"
    raise UsageError(f"{what}: choose one of {', '.join(NAMED)}")
