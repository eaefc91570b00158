"""Results of tests: posteriors of which images and nets, the error rates that follow, and their file.

A file of saved posteriors is one safetensors file: ``posteriors`` (n,k float32) and ``labels`` (n int64). The names of
the images, the classes, the net, the protocol and the data set are one JSON string in its metadata. Error rates, fusion
and comparisons follow from such files alone.
"""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from jaxtyping import Float
from numpy import ndarray
from pydantic import BaseModel, ConfigDict, ValidationError
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from verydeep.errors import UserError
from verydeep.files import atomic_write, check_output_file, parse_json
from verydeep.testing.metrics import class_errors, interval95, top_error

_METADATA_KEY = "verydeep_posteriors"

_FEWEST_ANSWERS = 10
"""Images whose answers may be alike before that means anything."""


@dataclass(frozen=True, kw_only=True)
class Member:
    """What was tested, and how: one net by one protocol."""

    model: str  # its file or folder; empty for a net without one
    architecture: str
    protocol: str
    test_scales: tuple[int, ...]  # Q, pixels
    selected_on: str | None = None  # split that the weights were selected on, where that is known
    precision: str = "fp32"  # of the computation
    map_positions: tuple[float, ...] = ()  # mean over the images, at each test scale; empty where it is not known
    share_seen: tuple[float, ...] = ()  # of a rescaled image, likewise

    @property
    def title(self) -> str:
        """Such as ``runs/hands (D), multi-scale at 224,256,288``."""
        net = f"{self.model} ({self.architecture})" if self.model else self.architecture
        lower = "" if self.precision == "fp32" else f" in {self.precision}"
        return f"{net}, {self.protocol} at {','.join(map(str, self.test_scales))}{lower}"


@dataclass(frozen=True, kw_only=True)
class LabelledImages:
    """Which images something was measured on."""

    labels: ndarray = field(repr=False)  # index of the true class of each image, int64
    names: Sequence[str] = field(repr=False)
    classes: tuple[str, ...] = field(repr=False)
    split: str
    data: str = ""  # name of the data set; empty where only its images were given
    fingerprint: str = field(default="", repr=False)  # of the data set
    skipped: Sequence[str] = ()  # damaged images left out

    @property
    def title(self) -> str:
        return f"DATA ({self.data})"


@dataclass(frozen=True, kw_only=True)
class Result(LabelledImages):
    """Posteriors of labelled images, and the error rates that follow from them."""

    posteriors: Float[ndarray, "n k"] = field(repr=False)  # of several members their mean
    members: tuple[Member, ...]  # several where they are fused
    seconds: float

    @property
    def title(self) -> str:
        return " + ".join(member.title for member in self.members)

    @property
    def architecture(self) -> str | list[str]:
        """A list of names when fused."""
        names = [member.architecture for member in self.members]
        return names[0] if len(names) == 1 else names

    @property
    def protocol(self) -> str:
        """Name of the protocol; of members that differ in it their names, joined."""
        return " + ".join(dict.fromkeys(member.protocol for member in self.members))

    @property
    def precision(self) -> str:
        """Precision of the computation; of members that differ in it their names, joined."""
        return " + ".join(dict.fromkeys(member.precision for member in self.members))

    @property
    def test_scales(self) -> tuple[int, ...]:
        """Test scales Q, pixels: of all members."""
        if len(self.members) == 1:
            return self.members[0].test_scales
        return tuple(sorted({scale for member in self.members for scale in member.test_scales}))

    @property
    def selected_on(self) -> str | None:
        """The split that the weights were selected on; of several, the split measured on where it is one of them."""
        splits = [member.selected_on for member in self.members if member.selected_on is not None]
        return self.split if self.split in splits else splits[0] if splits else None

    @property
    def top1_error(self) -> float:
        """Share of images whose most likely class is wrong."""
        error = top_error(self.posteriors, self.labels, 1)
        assert error is not None
        return error

    @property
    def top5_error(self) -> float | None:
        """Share of images whose class is not among the five most likely; None with fewer than five classes."""
        return top_error(self.posteriors, self.labels, 5)

    @property
    def only_answer(self) -> str | None:
        """The class that every image is taken for, where the images have several classes and are ten at least."""
        answers = self.posteriors.argmax(1)
        if len(answers) < _FEWEST_ANSWERS or (answers != answers[0]).any() or (self.labels == self.labels[0]).all():
            return None
        return self.classes[int(answers[0])]

    @property
    def warning(self) -> str | None:
        """What a reader of the error must know: that the net has one answer for everything."""
        if self.only_answer is None:
            return None
        return (
            f"the net answers {self.only_answer!r} for every one of the {len(self.labels):,} {self.split} images: it "
            "tells no two classes apart, whatever its error"
        )

    def __repr__(self) -> str:
        """The errors and what they were measured on."""
        names = ("top1_error", "top5_error", "split", "protocol", "test_scales", "architecture", "data")
        facts = [f"{name}={getattr(self, name)!r}" for name in names] + [f"num_images={len(self.labels)}"]
        return f"Result({', '.join(facts)})"

    def class_errors(self) -> dict[str, float | None]:
        """Top-1 error of the images of each class; None for a class without images."""
        return dict(zip(self.classes, class_errors(self.posteriors, self.labels), strict=True))

    def class_counts(self) -> dict[str, int]:
        counts = np.bincount(self.labels, minlength=len(self.classes)).tolist()
        return dict(zip(self.classes, counts, strict=True))

    def as_record(self) -> dict[str, Any]:
        models = [member.model for member in self.members]
        return {
            "model": models[0] if len(models) == 1 else models,
            "architecture": self.architecture,
            "protocol": self.protocol,
            "test_scales": list(self.test_scales),
            "precision": self.precision,
            "data": self.data,
            "split": self.split,
            "selected_on": self.selected_on,
            "num_images": len(self.labels),
            "top1_error": self.top1_error,
            "top5_error": self.top5_error,
            "interval95": list(interval95(self.top1_error, len(self.labels))),
            "seconds": self.seconds,
            "skipped": list(self.skipped),
        }


def fuse(results: Sequence[Result]) -> Result:
    """Fuses results on the same images: the mean of their posteriors.

    Paper: section 4.4.
    """
    first, *others = results
    for other in others:
        check_alike(first, other)
    if not others:
        return first
    mean = np.stack([result.posteriors for result in results]).mean(0, dtype=np.float64)
    return replace(
        first,
        posteriors=mean.astype(np.float32),
        members=tuple(member for result in results for member in result.members),
        seconds=sum(result.seconds for result in results),
    )


def check_alike(first: LabelledImages, other: LabelledImages) -> None:
    problem = None
    if first.classes != other.classes:
        problem = f"have different classes: {_difference(first.classes, other.classes)}"
    elif first.data and other.data and first.data != other.data:
        problem = f"are of different data, {first.data} and {other.data}"
    elif first.split != other.split:
        problem = f"are of different splits, {first.split} and {other.split}"
    elif list(first.names) != list(other.names):
        problem = f"are of different images of {first.split}: {_difference(first.names, other.names)}"
    elif first.fingerprint and other.fingerprint and first.fingerprint != other.fingerprint:
        problem = f"are of {first.data} before and after its files changed"
    elif (first.labels != other.labels).any():
        problem = f"have different labels, as of {first.names[int((first.labels != other.labels).argmax())]}"
    if problem:
        raise UserError(f"{first.title} and {other.title} {problem}: evaluate both on the same images")


def _difference(first: Sequence[str], other: Sequence[str]) -> str:
    if len(first) != len(other):
        return f"{len(first):,} and {len(other):,}"
    ours, theirs = next(pair for pair in zip(first, other, strict=True) if pair[0] != pair[1])
    return f"{ours!r} where the other has {theirs!r}"


class _Card(BaseModel):
    model_config = ConfigDict(extra="ignore")

    format_version: Literal[1] = 1
    names: list[Any]  # a file's name need not be Unicode, which pydantic would refuse
    classes: tuple[str, ...]
    members: tuple[Member, ...]
    split: str
    data: str
    fingerprint: str
    seconds: float
    skipped: list[Any]


def is_saved_posteriors(file: str | Path) -> bool:
    path = Path(file)
    try:
        return path.is_file() and _METADATA_KEY in _read_metadata(path)
    except (SafetensorError, OSError):
        return False


def _read_metadata(file: Path) -> dict[str, str]:
    with safe_open(file, framework="np") as opened:
        metadata: dict[str, str] | None = opened.metadata()
    return metadata or {}


def check_writable(file: Path) -> None:
    """Checks, before a long test, that its posteriors can be written, and that they overwrite nothing else."""
    check_output_file(file, "--save", "posteriors.safetensors", any_ending=True)
    if file.exists() and not is_saved_posteriors(file):
        raise UserError(f"--save {file} is there already and holds no posteriors: give another name")


def save_posteriors(result: Result, file: str | Path) -> None:
    card = {"format_version": 1, "members": [asdict(member) for member in result.members]} | {
        name: getattr(result, name)
        for name in ("names", "classes", "split", "data", "fingerprint", "seconds", "skipped")
    }
    tensors: dict[str, ndarray] = {
        "posteriors": np.ascontiguousarray(result.posteriors, dtype=np.float32),
        "labels": np.ascontiguousarray(result.labels, dtype=np.int64),
    }
    try:
        with atomic_write(Path(file)) as temporary:
            save_file(tensors, temporary, metadata={_METADATA_KEY: json.dumps(card)})
    except (OSError, SafetensorError) as error:
        raise UserError(f"{file} cannot be written: {getattr(error, 'strerror', None) or error}") from error


def load_posteriors(file: str | Path) -> Result:
    path = Path(file)
    if not path.is_file():
        raise UserError(f"no such file: {path}")
    try:
        metadata = _read_metadata(path)
        if _METADATA_KEY not in metadata:
            raise UserError(f"{path} holds no posteriors: give a file that evaluate --save wrote")
        card = _Card.model_validate(parse_json(metadata[_METADATA_KEY]))
        with safe_open(path, framework="np") as opened:
            posteriors, labels = opened.get_tensor("posteriors"), opened.get_tensor("labels")
    except ValidationError as error:
        problem = error.errors()[0]
        field = ".".join(map(str, problem["loc"]))
        raise UserError(f"{path}: its description cannot be read at {field}: {problem['msg']}") from error
    except UserError:
        raise
    except (SafetensorError, OSError, ValueError, TypeError) as error:
        raise UserError(f"{path} is damaged or cut short ({error}): evaluate again") from error
    _check(path, card, posteriors, labels)
    described = {name: value for name, value in card if name != "format_version"}
    return Result(posteriors=posteriors, labels=labels, **described)


def _check(path: Path, card: _Card, posteriors: ndarray, labels: ndarray) -> None:
    shape = (len(card.names), len(card.classes))
    reason = None
    if posteriors.shape != shape or posteriors.dtype != np.float32:
        reason = f"posteriors are {posteriors.dtype} of shape {posteriors.shape}, not float32 of {shape}"
    elif labels.shape != shape[:1] or labels.dtype != np.int64:
        reason = f"labels are {labels.dtype} of shape {labels.shape}, not int64 of {shape[:1]}"
    elif not np.isfinite(posteriors).all():
        reason = "a posterior is NaN or infinite"
    elif not len(labels) or not card.members:
        reason = "it holds nothing"
    elif labels.min() < 0 or labels.max() >= shape[1]:
        reason = f"a label is not in 0..{shape[1] - 1}"
    if reason:
        raise UserError(f"{path} is damaged: {reason}: evaluate again")
