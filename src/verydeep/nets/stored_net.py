"""Model files as they lie on the disk: read, checked and mapped by NumPy, without PyTorch."""

import json
import mmap
import os
import weakref
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float32
from numpy import ndarray
from pydantic import ValidationError
from safetensors import SafetensorError, safe_open

from verydeep.download import digest_of
from verydeep.errors import UsageError, UserError
from verydeep.files import check_utf8
from verydeep.nets.architecture import layers, tensor_shapes
from verydeep.nets.described import DescribedNet
from verydeep.nets.model_card import ModelCard
from verydeep.progress import Progress, ignore_progress

MODEL_FILE = "model.safetensors"
"""Name of the model file in a run folder."""

CHECKPOINT_FILE = "checkpoint.safetensors"
"""Name of the checkpoint in a run folder: a model file that also holds the state of training."""

PREVIOUS_CHECKPOINT_FILE = "checkpoint-previous.safetensors"
"""Name of the checkpoint before that one."""

STATE_PREFIX = "training."
"""Of the tensors of a training in a checkpoint."""

METADATA_KEY = "verydeep"
"""Of the card among the metadata."""

_WEIGHTS = ("F32", "BF16", "F16")
_TYPES = {  # by safetensors' names; NumPy has no bfloat16
    **{"F64": np.float64, "F32": np.float32, "F16": np.float16, "BF16": np.uint16, "BOOL": np.bool_},
    **{"I64": np.int64, "I32": np.int32, "I16": np.int16, "I8": np.int8, "U8": np.uint8},
}
_OTHER_SUFFIXES = (".pth", ".pt", ".bin", ".ckpt", ".tar", ".h5", ".keras", ".onnx", ".caffemodel", ".mat")
_INPUT_NAMES = ("mean", "divisor")
_TIMM_HEAD = {"fc6": "pre_logits.fc1", "fc7": "pre_logits.fc2", "fc8": "head.fc"}
_BATCH_NORM_EPS = 1e-5
_FEWEST_MAPPED = 2**20
"""Bytes of the smallest tensor that is mapped: each keeps a file open."""


class ModelFile:
    """A model file whose header has been read and checked; its tensors stay on the disk.

    Attributes:
        path: of the file.
        names: of its tensors.
        metadata: the strings of the header.
        card: what the file says of itself.
        geometry: the numbers that fix the shapes of its net.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        check_utf8(path)
        try:
            with safe_open(path, framework="np") as opened:  # checks that all tensors lie in the file, one by one
                self.metadata: dict[str, str] = opened.metadata() or {}
                self.names = list(opened.keys())
            self._descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_BINARY", 0))
        except (SafetensorError, OSError) as error:
            remedy = "give a file that verydeep wrote"
            if path.suffix in _OTHER_SUFFIXES:
                remedy += f"; verydeep weights import {path} --out {path.with_suffix('.safetensors')} makes one of it"
            raise UserError(f"{path} is no model file, or is damaged or cut short ({error}): {remedy}") from error
        weakref.finalize(self, os.close, self._descriptor)  # tensors that were mapped stay
        with mmap.mmap(self._descriptor, 0, access=mmap.ACCESS_READ) as content:
            self._begin = 8 + int.from_bytes(content[:8], "little")
            self._header = json.loads(content[8 : self._begin])
        if METADATA_KEY not in self.metadata:
            raise UserError(
                f"{path} is a safetensors file of another program: it has no {METADATA_KEY} metadata; "
                "verydeep weights import makes a model file of it"
            )
        try:
            self.card = ModelCard.model_validate_json(self.metadata[METADATA_KEY])
            self.geometry = self.card.geometry
        except ValidationError as error:
            problem = error.errors()[0]
            field = ".".join(str(part) for part in problem["loc"]) or "classes"
            raise UserError(f"{path}: its card is not readable at {field}: {problem['msg']}") from error
        except UsageError as error:
            raise UserError(f"{path}: its card is of no net ({error})") from error

    def dtype(self, name: str) -> str:
        """The type of a tensor by safetensors' name, such as F32 or BF16."""
        return str(self._header[name]["dtype"])

    def array(self, name: str) -> ndarray:
        """Maps a tensor from the file, or reads a small one; bfloat16 as the upper halves of float32, uint16.

        Its memory is given back with it: that of weights that a backend has laid out anew.

        Raises:
            UserError: it is of a type that NumPy has not.
        """
        if (kind := _TYPES.get(self.dtype(name))) is None:
            raise UserError(f"{self.path}: tensor {name} is of type {self.dtype(name)}, which no model file has")
        shape = self._header[name]["shape"]
        start, stop = (self._begin + offset for offset in self._header[name]["data_offsets"])
        first = start - start % mmap.ALLOCATIONGRANULARITY
        if start == stop:
            return np.empty(shape, kind)
        # private: what somebody writes to a weight stays in memory
        mapped = mmap.mmap(self._descriptor, stop - first, access=mmap.ACCESS_COPY, offset=first)
        array: ndarray = np.ndarray(shape, kind, mapped, start - first)
        return array if stop - start >= _FEWEST_MAPPED and array.flags.aligned else array.copy()

    def float32(self, name: str) -> Float32[ndarray, "..."]:
        """Maps a tensor from the file, converted where it is stored in another precision."""
        array = self.array(name)
        if self.dtype(name) == "BF16":
            wide: ndarray = array.astype(np.uint32) << 16
            return wide.view(np.float32)
        return array.astype(np.float32, copy=False)

    def net_tensors(self, *, features_only: bool = False) -> dict[str, str]:
        """Finds the tensors of the net, and reads none: for each of our names that in the file.

        Args:
            features_only: those of the convolutions alone.

        Raises:
            UserError: a name, a shape or a type is not one of the net's; or mean or divisor are not what the card says.
        """
        card, title = self.card, self.geometry.title
        known = _names_in_file(card, tensor_shapes(self.geometry, features_only=card.features_only))
        shapes = tensor_shapes(self.geometry, features_only=features_only or card.features_only)
        wanted = {ours: theirs for ours, theirs in known.items() if ours in shapes}
        found = {name for name in self.names if not name.startswith(STATE_PREFIX)}
        for name in sorted((found - set(known.values())) | (set(wanted.values()) - found)):
            state = "missing" if name in wanted.values() else "not one"
            raise UserError(f"{self.path}: tensor {name} is {state} of {title}")
        for ours, name in wanted.items():
            shape, expected = tuple(self._header[name]["shape"]), shapes[ours]
            if name == "head.fc.weight":
                expected = (expected[0], expected[1] * expected[2] * expected[3])
            if shape != expected:
                raise UserError(f"{self.path}: tensor {name} of {title} has the shape {shape}, not {expected}")
            if not ours.endswith("num_batches_tracked") and self.dtype(name) not in _WEIGHTS:
                raise UserError(
                    f"{self.path}: tensor {name} is of type {self.dtype(name)}: weights are F32, BF16 or F16"
                )
        for name in _INPUT_NAMES:
            said = getattr(card, name)
            if name in wanted and (stored := self.float32(name).tolist()) != np.array(said, np.float32).tolist():
                raise UserError(
                    f"{self.path}: its {name} is {stored}, and its card says {list(said)}: one of them was changed, so "
                    "it would compute other scores than it says; fetch or train it again"
                )
        return wanted


class StoredNet(DescribedNet):
    """The net of a model file, its weights mapped by NumPy: what the kernel computes, and nobody changes.

    Args:
        file: of the net.

    Attributes:
        file: the model file.

    Raises:
        UserError: a tensor does not fit its architecture.
    """

    def __init__(self, file: ModelFile) -> None:
        card = file.card
        self.file, self._names = file, file.net_tensors()
        self.geometry, self.features_only = file.geometry, card.features_only
        self.classes, self.mirror, self.train_scale, self.boxes = (
            card.classes,
            card.mirror,
            card.train_scale,
            card.boxes,
        )
        self.mean, self.divisor = np.array(card.mean, np.float32), np.array(card.divisor, np.float32)

    def weights_check(self) -> Callable[[], None]:
        """Returns a function that raises nothing: nobody changes these weights."""
        return lambda: None

    def weights_of(self, layer: str) -> tuple[Float32[ndarray, "k c s s"], Float32[ndarray, "k"]]:
        """Weight and bias of a convolution or a fully connected layer."""
        weight, bias = self._array(layer, "weight"), self._array(layer, "bias")
        return weight if weight.ndim == 4 else weight[:, :, None, None], bias

    def batch_norm_of(self, layer: str) -> tuple[ndarray, ndarray, ndarray, ndarray, float]:
        """Scale, shift, mean and variance of a batch norm, one number per channel each, and what the variance gets."""
        scale, shift, mean, variance = (
            self._array(layer, part) for part in ("weight", "bias", "running_mean", "running_var")
        )
        return scale, shift, mean, variance, _BATCH_NORM_EPS

    def _array(self, layer: str, part: str) -> Float32[ndarray, "..."]:
        return self.file.float32(self._names[f"{layer}.{part}"])


def _names_in_file(card: ModelCard, ours: Iterable[str]) -> dict[str, str]:
    """Maps our names to those in the file: 0.1 wrote timm's into folders for the hub, which are read until 0.3."""
    if card.names == "verydeep":
        return {name: name for name in ours}
    theirs = {layer.name: f"features.{number}" for number, layer in enumerate(layers(card.geometry))} | _TIMM_HEAD
    split = {name: name.rpartition(".") for name in ours if name not in _INPUT_NAMES}
    return {name: f"{theirs[layer]}.{part}" for name, (layer, _, part) in split.items()}


def format_error(error: OSError | SafetensorError) -> str:
    """Formats the error of a file that could not be written for the user."""
    reason = (error.strerror if isinstance(error, OSError) else None) or str(error)
    return reason.removeprefix("Error while serializing: ").removeprefix("I/O error: ")


def read_progress(path: Path) -> dict[str, Any]:
    """Reads the numbers of the training from a checkpoint, and no weights."""
    return progress_of(ModelFile(path))


def progress_of(file: ModelFile) -> dict[str, Any]:
    """Reads the numbers of the training from an opened checkpoint."""
    if "progress" not in file.metadata:
        raise UserError(f"{file.path} is a model file and no checkpoint: training cannot go on from it")
    with suppress(ValueError, RecursionError):
        progress = json.loads(file.metadata["progress"])
        if isinstance(progress, dict):
            return progress
    raise UserError(f"{file.path}: what it says of the progress of its training is damaged: train anew")


@dataclass(frozen=True, kw_only=True)
class ModelFileCheck:
    """Result of reading every number of a model file, which ``load`` does not do.

    Attributes:
        file: the file.
        sha256: of its bytes.
        num_bytes: its size.
        num_tensors: tensors it holds, those of a training too.
        not_finite: how many numbers are NaN or infinite, by the name of their tensor.
    """

    file: Path
    sha256: str
    num_bytes: int
    num_tensors: int
    not_finite: dict[str, int]

    def as_record(self) -> dict[str, Any]:
        """The findings, for JSON."""
        return vars(self) | {"file": str(self.file)}

    def refuse_not_finite(self) -> None:
        """Raises UserError where a number is not finite."""
        for name, count in self.not_finite.items():
            others = f" and {len(self.not_finite) - 1} more tensors have them" if len(self.not_finite) > 1 else ""
            raise UserError(
                f"{self.file}: tensor {name} has NaN or infinity in {count:,} of its numbers{others}: fetch or train "
                "it again"
            )


def check_model(path: Path, progress: Progress = ignore_progress) -> ModelFileCheck:
    """Checks the tensors of a model file, then reads every number and computes the hash of the file."""
    file = ModelFile(path)
    file.net_tensors()
    not_finite = {}
    names = sorted(file.names)
    for done, name in enumerate(names, start=1):
        array = file.array(name)
        is_finite = (array & 0x7F80) != 0x7F80 if file.dtype(name) == "BF16" else np.isfinite(array)
        if count := array.size - int(np.count_nonzero(is_finite)):
            not_finite[name] = count
        progress("checking tensors", done, len(names))
    return ModelFileCheck(
        file=path,
        sha256=digest_of(path, "sha256", f"hashing {path.name}", progress),
        num_bytes=path.stat().st_size,
        num_tensors=len(names),
        not_finite=not_finite,
    )
