"""Published weights by name: one row each. To add weights is to add a row here.

Hashes, sizes and error rates are those that the publisher gives, and where a publisher gives none there is none.
"""

from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any, Final
from urllib.parse import urlsplit

from verydeep.download import Digest
from verydeep.errors import UsageError
from verydeep.files import cache_folder
from verydeep.paper import constants
from verydeep.paper.tables import JITTERED, TABLE_4

_MIB = 2**20


@dataclass(frozen=True, kw_only=True)
class PublishedErrors:
    """Error rates on the validation images of ILSVRC-2012, as somebody publishes them: fractions."""

    top1_error: float
    top5_error: float
    protocol: str  # the name of ours that comes nearest
    measured: str  # in words

    def as_record(self) -> dict[str, Any]:
        """The figures, for JSON and for a model card."""
        return vars(self) | {"split": "val", "data": "imagenet"}


@dataclass(frozen=True, kw_only=True)
class PublishedWeights:
    """Weights that somebody publishes."""

    name: str
    aliases: tuple[str, ...] = ()
    publisher: str
    architecture: str
    batch_norm: bool = False
    features_only: bool = False  # whether the file has no fully connected layers that mean anything
    url: str
    size: int  # bytes, about
    digest: Digest | None
    digest_source: str  # who gives it and where, in words
    sha256: str | None = None  # in full, as others have measured it; where nobody has, the first fetch pins it
    licence: str  # as its source states it
    errors: PublishedErrors | None
    selected_on: str | None = None  # the split that had a say in the weights, where that is known
    train_scale: tuple[int, int] = (constants.TRAIN_SCALE, constants.TRAIN_SCALE)

    @property
    def file_name(self) -> str:
        """Name of the file in the cache while it is in the form of its publisher."""
        return f"{self.name}-{PurePosixPath(urlsplit(self.url).path).name}"

    @property
    def file(self) -> Path:
        """Where its model file lies or will lie."""
        return weights_folder() / f"{self.name}.safetensors"

    @property
    def is_here(self) -> bool:
        """Whether it was fetched and made a model file."""
        return self.file.is_file()

    def as_record(self) -> dict[str, Any]:
        """What is known of it, for JSON."""
        kept = ("name", "publisher", "architecture", "batch_norm", "features_only", "url", "licence")
        measured = ("top1_error", "top5_error", "protocol", "measured")
        return {
            **{key: getattr(self, key) for key in kept},
            "aliases": list(self.aliases),
            "bytes": self.size,
            "hash": None if self.digest is None else vars(self.digest),
            "hash_source": self.digest_source,
            **{key: self.errors and getattr(self.errors, key) for key in measured},
            "here": self.is_here,
            "file": str(self.file),
        }


def weights_folder() -> Path:
    """The folder of published weights, in the folder for what can be fetched again."""
    return cache_folder() / "weights"


_OXFORD_LICENCE = "Creative Commons Attribution (https://www.robots.ox.ac.uk/~vgg/research/very_deep/)"
_TORCHVISION_LICENCE = (
    "BSD-3-Clause for torchvision, which says that its weights may have terms derived from their data: ImageNet's are "
    "non-commercial research and education"
)
_TORCHVISION_MEASURED = "central crop of 224 at Q = 256, as torchvision publishes it"
_IN_FULL: Final = {  # as five projects have them that check these files
    "vgg16-397923af.pth": "397923af8e79cdbb6a7127f12361acd7a2f83e06b05044ddf496e83de57a5bf0",
    "vgg19-dcbb9e9d.pth": "dcbb9e9dad569fff7a846263a77324fc34978fea2bfb039c012d710e1776ae44",
}
_LAYERS: Final = {"A": 11, "B": 13, "D": 16, "E": 19}


def _torchvision(
    architecture: str, file: str, mebibytes: float, top1_accuracy: float, top5_accuracy: float
) -> PublishedWeights:
    """A file of torchvision: its name carries the first eight digits of its sha256, which torch.hub checks."""
    batch_norm = "_bn-" in file
    label = architecture + ("-bn" if batch_norm else "")
    return PublishedWeights(
        name=f"imagenet-{label}",
        aliases=(f"torchvision-{label}",),
        publisher="torchvision",
        architecture=architecture,
        batch_norm=batch_norm,
        url=f"https://download.pytorch.org/models/{file}",
        size=round(mebibytes * _MIB),
        digest=Digest("sha256", file.removesuffix(".pth").rpartition("-")[2]),
        digest_source="torchvision, in the name of the file",
        sha256=_IN_FULL.get(file),
        licence=_TORCHVISION_LICENCE,
        errors=PublishedErrors(
            top1_error=round(1 - top1_accuracy / 100, 5),
            top5_error=round(1 - top5_accuracy / 100, 5),
            protocol="centre",
            measured=_TORCHVISION_MEASURED,
        ),
    )


_TORCHVISION = (
    _torchvision("A", "vgg11-8a719046.pth", 506.84, 69.020, 88.628),
    _torchvision("B", "vgg13-19584684.pth", 507.545, 69.928, 89.246),
    _torchvision("D", "vgg16-397923af.pth", 527.796, 71.592, 90.382),
    _torchvision("E", "vgg19-dcbb9e9d.pth", 548.051, 72.376, 90.876),
    _torchvision("A", "vgg11_bn-6002323d.pth", 506.881, 70.370, 89.810),
    _torchvision("B", "vgg13_bn-abd245e5.pth", 507.59, 71.586, 90.374),
    _torchvision("D", "vgg16_bn-6c64b313.pth", 527.866, 73.360, 91.516),
    _torchvision("E", "vgg19_bn-c79401a0.pth", 548.143, 74.218, 91.842),
)

# the fully connected layers of this file are NaN, and its mean is Caffe's: readers/torch.py knows it
_FEATURES = PublishedWeights(
    name="imagenet-D-features",
    publisher="torchvision, from amdegroot/ssd.pytorch, from the authors' Caffe net",
    architecture="D",
    features_only=True,
    url="https://download.pytorch.org/models/vgg16_features-amdegroot-88682ab5.pth",
    size=round(527.802 * _MIB),
    digest=Digest("sha256", "88682ab5"),
    digest_source="torchvision, in the name of the file",
    licence=f"{_OXFORD_LICENCE}; {_TORCHVISION_LICENCE}",
    errors=None,
    selected_on="val",
    train_scale=JITTERED,
)


def _authors(architecture: str, size: int, sha1: str, others: str) -> PublishedWeights:
    """A net of the paper, D or E trained with scale jittering; the hash is what other projects check this file by."""
    layers = _LAYERS[architecture]
    row = next(row for row in TABLE_4 if (row.architecture, row.train_scale) == (architecture, JITTERED))
    scales = ", ".join(str(scale) for scale in row.test_scales)
    return PublishedWeights(
        name=f"authors-{architecture}",
        aliases=(f"oxford-{architecture}", f"VGG_ILSVRC_{layers}_layers"),
        publisher="the authors (Visual Geometry Group, Oxford)",
        architecture=architecture,
        url=f"https://www.robots.ox.ac.uk/~vgg/software/very_deep/caffe/VGG_ILSVRC_{layers}_layers.caffemodel",
        size=size,
        digest=Digest("sha1", sha1),
        digest_source=f"the authors give none; this is the one that {others} check it by",
        licence=_OXFORD_LICENCE,
        errors=PublishedErrors(
            top1_error=row.top1_error,
            top5_error=row.top5_error,
            protocol=row.protocol,
            measured=f"dense, Q = {scales}: the paper's Table 4",
        ),
        selected_on="val",
        train_scale=JITTERED,
    )


_AUTHORS = (
    _authors("D", 553_432_081, "9363e1f6d65f7dba68c4f27a1e62105cdf6c4e24", "OpenCV and MXNet"),
    _authors("E", 574_671_192, "239785e7862442717d831f682bb824055e51e9ba", "MXNet and others"),
)


def _keras(architecture: str, size: int, md5: str, top1: float, top5: float) -> PublishedWeights:
    """Keras's copy of the authors' net; Keras checks it by this hash."""
    layers = _LAYERS[architecture]
    return PublishedWeights(
        name=f"keras-{architecture}",
        aliases=(f"keras-vgg{layers}",),
        publisher="Keras, from the authors' Caffe net",
        architecture=architecture,
        url=f"https://storage.googleapis.com/tensorflow/keras-applications/vgg{layers}/"
        f"vgg{layers}_weights_tf_dim_ordering_tf_kernels.h5",
        size=size,
        digest=Digest("md5", md5),
        digest_source=f"Keras, in keras/src/applications/vgg{layers}.py",
        licence=_OXFORD_LICENCE,
        errors=PublishedErrors(
            top1_error=round(top1 / 100, 5),
            top5_error=round(top5 / 100, 5),
            protocol="centre",
            measured="central crop of 224, as keras-applications publishes it",
        ),
        selected_on="val",
        train_scale=JITTERED,
    )


_KERAS = (
    _keras("D", 553_467_096, "64373286793e3c8b2b4e3219cbf3544b", 28.732, 9.950),
    _keras("E", 574_710_816, "cbe5617147190e668d6c5d5026f83318", 28.744, 10.012),
)


def _timm(row: PublishedWeights) -> PublishedWeights:
    """Timm's copy of a file of torchvision, as safetensors."""
    model = f"vgg{_LAYERS[row.architecture]}" + ("_bn" if row.batch_norm else "") + ".tv_in1k"
    assert row.errors is not None
    return replace(
        row,
        name=row.name.replace("imagenet", "timm"),
        aliases=(f"timm/{model}", model),
        publisher="timm, on the Hugging Face hub, from torchvision",
        url=f"https://huggingface.co/timm/{model}/resolve/main/model.safetensors",
        digest=None,
        digest_source="none published",
        sha256=None,
        errors=replace(row.errors, measured=f"{_TORCHVISION_MEASURED} of the same weights"),
    )


_ROWS = (*_TORCHVISION, _FEATURES, *_AUTHORS, *_KERAS, *map(_timm, _TORCHVISION))

PUBLISHED: Final[dict[str, PublishedWeights]] = {row.name: row for row in _ROWS}
"""The rows by name."""


def find_published(name: str) -> PublishedWeights | None:
    """Finds published weights by any of their names, or gives None; case does not count, and - and _ are the same."""
    wanted = _plain(name)
    return next((row for row in PUBLISHED.values() if wanted in map(_plain, (row.name, *row.aliases))), None)


def known_weights(name: str) -> PublishedWeights:
    """Finds published weights by any of their names, or raises UsageError."""
    row = find_published(name)
    if row is None:
        raise UsageError(f"unknown weights {name!r}: choose one of {', '.join(PUBLISHED)}")
    return row


def _plain(name: str) -> str:
    return name.casefold().replace("_", "-")
