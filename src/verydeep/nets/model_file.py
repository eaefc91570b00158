"""Model files: one safetensors file that describes itself, saved, loaded and checked."""

import json
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from pydantic import ValidationError
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from verydeep.download import digest_of
from verydeep.errors import UsageError, UserError
from verydeep.files import atomic_write, check_utf8
from verydeep.nets.architecture import layers
from verydeep.nets.model_card import ModelCard, make_card
from verydeep.nets.net import VeryDeep, empty_net
from verydeep.nets.plain_weights import plain_weights, unshared, unwrapped
from verydeep.progress import Progress, ignore_progress

MODEL_FILE = "model.safetensors"
"""Name of the model file in a run folder."""

CHECKPOINT_FILE = "checkpoint.safetensors"
"""Name of the checkpoint in a run folder: a model file that also holds the state of training."""

PREVIOUS_CHECKPOINT_FILE = "checkpoint-previous.safetensors"
"""Name of the checkpoint before that one."""

STORED: dict[str, torch.dtype] = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
"""Precisions in which weights can be stored."""

_DTYPES = {"F32": "fp32", "BF16": "bf16", "F16": "fp16"}
_OTHER_SUFFIXES = (".pth", ".pt", ".bin", ".ckpt", ".tar", ".h5", ".keras", ".onnx", ".caffemodel", ".mat")
_METADATA_KEY = "verydeep"
_STATE_PREFIX = "training."
_INPUT_NAMES = ("mean", "divisor")
_TIMM_HEAD = {"fc6": "pre_logits.fc1", "fc7": "pre_logits.fc2", "fc8": "head.fc"}


def save(
    net: nn.Module,
    file: str | Path,
    *,
    card: ModelCard | None = None,
    precision: str = "fp32",
    state: dict[str, Tensor] | None = None,
    progress: dict[str, Any] | None = None,
) -> None:
    """Writes a model file, completely or not at all.

    Args:
        net: the net; also one in torch.compile, DataParallel, DistributedDataParallel or AveragedModel. Pruned and
            parametrised weights are saved as they are computed with.
        file: such as ``hands.safetensors``.
        card: what the file says of itself; by default what the net knows.
        precision: of the weights: fp32, or bf16 or fp16 in half the bytes. Biases, statistics of batch norm, mean and
            divisor stay fp32.
        state: tensors of the training, for a checkpoint.
        progress: numbers of the training, for a checkpoint.

    Raises:
        UserError: the file cannot be written, for instance because the disk is full; a weight is too large for fp16;
            or the net has a layer that no model file holds.
        UsageError: an unknown precision, or no net of this package.
    """
    dtype, net = _find_precision(precision), unwrapped(net)
    check_utf8(file, "give another")
    tensors = {name: _converted(name, tensor, dtype) for name, tensor in plain_weights(net).items()}
    tensors |= {_STATE_PREFIX + name: tensor.contiguous() for name, tensor in (state or {}).items()}
    tensors = unshared(tensors)
    described = (card or make_card(net)).model_copy(update={"precision": precision, "names": "verydeep"})
    metadata = {"format": "pt", _METADATA_KEY: described.model_dump_json()}
    if progress is not None:
        metadata["progress"] = json.dumps(progress)
    try:
        with atomic_write(Path(file)) as temporary:
            save_file(tensors, temporary, metadata)
            _sort_metadata(temporary)
    except (OSError, SafetensorError) as error:
        raise UserError(f"{file} cannot be written: {format_error(error)}") from error


def _sort_metadata(file: Path) -> None:
    """Sorts the strings of a header, which safetensors writes in an order of chance: equal nets give equal bytes."""
    with file.open("rb+") as opened:
        size = int.from_bytes(opened.read(8), "little")
        header = json.loads(opened.read(size))
        header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
        written = json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode().ljust(size)
        assert len(written) == size  # the same JSON in another order
        opened.seek(8)
        opened.write(written)


def _find_precision(name: str) -> torch.dtype:
    if name not in STORED:
        raise UsageError(f"unknown precision {name!r}: choose one of {', '.join(STORED)}")
    return STORED[name]


def _converted(name: str, tensor: Tensor, dtype: torch.dtype) -> Tensor:
    """Converts a tensor for the file; what has one dimension stays fp32: it is small, and rounding it costs most."""
    if not tensor.is_floating_point():
        return tensor.contiguous()
    rounded = tensor.to(dtype if tensor.ndim > 1 else torch.float32)
    if dtype == torch.float16 and rounded.isinf().any() and not tensor.isinf().any():
        raise UserError(f"{name} has a weight of {tensor.abs().max():.3g}, too large for fp16: store it as bf16")
    return rounded.contiguous()


def format_error(error: OSError | SafetensorError) -> str:
    """Formats the error of a file that could not be written for the user."""
    reason = (error.strerror if isinstance(error, OSError) else None) or str(error)
    return reason.removeprefix("Error while serializing: ").removeprefix("I/O error: ")


class ModelFile:
    """A model file whose header has been read and checked; its tensors stay on the disk.

    Attributes:
        path: of the file.
        tensors: safetensors' reader, which maps a tensor from the file when it is asked for.
        metadata: the strings of the header.
        card: what the file says of itself.
        geometry: the numbers that fix the shapes of its net.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        check_utf8(path)
        try:
            self.tensors = safe_open(path, framework="pt")
            self.metadata: dict[str, str] = self.tensors.metadata() or {}
        except (SafetensorError, OSError) as error:
            remedy = "give a file that verydeep wrote"
            if path.suffix in _OTHER_SUFFIXES:
                remedy += f"; verydeep weights import {path} --out {path.with_suffix('.safetensors')} makes one of it"
            raise UserError(f"{path} is no model file, or is damaged or cut short ({error}): {remedy}") from error
        if _METADATA_KEY not in self.metadata:
            raise UserError(
                f"{path} is a safetensors file of another program: it has no {_METADATA_KEY} metadata; "
                "verydeep weights import makes a model file of it"
            )
        try:
            self.card = ModelCard.model_validate_json(self.metadata[_METADATA_KEY])
            self.geometry = self.card.geometry
        except ValidationError as error:
            problem = error.errors()[0]
            field = ".".join(str(part) for part in problem["loc"]) or "classes"
            raise UserError(f"{path}: its card is not readable at {field}: {problem['msg']}") from error
        except UsageError as error:
            raise UserError(f"{path}: its card is of no net ({error})") from error

    def check_tensors(self, expected: dict[str, Tensor], known: set[str]) -> None:
        """Checks the names, shapes and types of the tensors of the net, and reads none.

        Args:
            expected: tensors that must be there, by name; only their shapes and types count.
            known: names that may be there.
        """
        title = self.geometry.title
        found = {name for name in self.tensors.keys() if not name.startswith(_STATE_PREFIX)}  # noqa: SIM118 - no mapping
        for name in sorted((found - known) | (expected.keys() - found)):
            state = "missing" if name in expected else "not one"
            raise UserError(f"{self.path}: tensor {name} is {state} of {title}")
        for name, like in expected.items():
            stored = self.tensors.get_slice(name)
            shape, dtype = tuple(stored.get_shape()), stored.get_dtype()
            if shape != like.shape:
                shapes = f"{shape}, not {tuple(like.shape)}"
                raise UserError(f"{self.path}: tensor {name} of {title} has the shape {shapes}")
            if like.is_floating_point() and dtype not in _DTYPES:
                raise UserError(f"{self.path}: tensor {name} is of type {dtype}: weights are F32, BF16 or F16")


def load_file(file: Path, *, features_only: bool = False, precision: str = "fp32") -> VeryDeep:
    """Loads the net of a model file, in evaluation mode, as ``verydeep.load`` does."""
    dtype = _find_precision(precision)
    return _load(ModelFile(file), features_only, dtype)


def _load(file: ModelFile, features_only: bool = False, dtype: torch.dtype = torch.float32) -> VeryDeep:
    card = file.card
    net = empty_net(card.geometry, features_only=features_only or card.features_only)
    complete = net if net.features_only == card.features_only else empty_net(card.geometry)
    expected = net.state_dict()
    known = _names_in_file(card, complete.state_dict())
    stored = {name: known[name] for name in expected if name in known}
    file.check_tensors(
        {
            theirs: expected[name].flatten(1) if theirs == "head.fc.weight" else expected[name]
            for name, theirs in stored.items()
        },
        set(known.values()),
    )
    weights = {"mean": torch.tensor(card.mean), "divisor": torch.tensor(card.divisor)}
    for name, theirs in stored.items():
        like, tensor = expected[name], file.tensors.get_tensor(theirs)
        converts = like.is_floating_point() and name not in _INPUT_NAMES
        weights[name] = tensor.reshape(like.shape).to(dtype if converts else like.dtype)
    for name in _INPUT_NAMES:
        if weights[name].tolist() != torch.tensor(said := getattr(card, name)).tolist():
            raise UserError(
                f"{file.path}: its {name} is {weights[name].tolist()}, and its card says {list(said)}: one of them "
                "was changed, so it would compute other scores than it says; fetch or train it again"
            )
    net.load_state_dict(weights, assign=True)
    net.classes, net.mirror, net.train_scale = card.classes, card.mirror, card.train_scale
    net.boxes, net.input_is_set = card.boxes, True
    return net.eval()


def _names_in_file(card: ModelCard, ours: Iterable[str]) -> dict[str, str]:
    """Maps our names to those in the file: 0.1 wrote timm's into folders for the hub, which are read until 0.3."""
    if card.names == "verydeep":
        return {name: name for name in ours}
    theirs = {layer.name: f"features.{number}" for number, layer in enumerate(layers(card.geometry))} | _TIMM_HEAD
    split = {name: name.rpartition(".") for name in ours if name not in _INPUT_NAMES}
    return {name: f"{theirs[layer]}.{part}" for name, (layer, _, part) in split.items()}


def load_checkpoint(path: Path) -> tuple[VeryDeep, dict[str, Tensor], dict[str, Any]]:
    """Loads a checkpoint: the net, the tensors and the numbers of its training."""
    file = ModelFile(path)
    progress = _progress(file)
    state = {
        name.removeprefix(_STATE_PREFIX): file.tensors.get_tensor(name)
        for name in file.tensors.keys()  # noqa: SIM118 - no mapping
        if name.startswith(_STATE_PREFIX)
    }
    return _load(file), state, progress


def read_progress(path: Path) -> dict[str, Any]:
    """Reads the numbers of the training from a checkpoint, and no weights."""
    return _progress(ModelFile(path))


def _progress(file: ModelFile) -> dict[str, Any]:
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
    """Loads the net of a model file, then reads every number and computes the hash of the file."""
    file = ModelFile(path)
    _load(file)
    not_finite = {}
    names = sorted(file.tensors.keys())
    for done, name in enumerate(names, start=1):
        tensor = file.tensors.get_tensor(name)
        if tensor.is_floating_point() and (count := tensor.numel() - int(tensor.isfinite().sum())):
            not_finite[name] = count
        progress("checking tensors", done, len(names))
    return ModelFileCheck(
        file=path,
        sha256=digest_of(path, "sha256", f"hashing {path.name}", progress),
        num_bytes=path.stat().st_size,
        num_tensors=len(names),
        not_finite=not_finite,
    )
