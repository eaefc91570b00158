"""The model file: one safetensors file that describes itself."""

import json
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from pydantic import ValidationError
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from verydeep.errors import UsageError, UserError
from verydeep.files import atomic_write
from verydeep.nets.architecture import find_architecture, layers
from verydeep.nets.model_card import ModelCard, make_card
from verydeep.nets.net import VeryDeep, empty_net
from verydeep.nets.shipped import SHIPPED, shipped_file
from verydeep.weights.published import find_published

MODEL_FILE = "model.safetensors"
"""Name of the model file in a run folder."""

CHECKPOINT_FILE = "checkpoint.safetensors"
"""Name of the checkpoint in a run folder: a model file that also holds the state of training."""

PREVIOUS_CHECKPOINT_FILE = "checkpoint-previous.safetensors"
"""Name of the checkpoint before that one."""

STORED: dict[str, torch.dtype] = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
"""Precisions in which weights can be stored."""

_DTYPES = {"F32": "fp32", "BF16": "bf16", "F16": "fp16"}
_METADATA_KEY = "verydeep"
_STATE_PREFIX = "training."
_INPUT_NAMES = ("mean", "divisor")
_TIMM_HEAD = {"fc6": "pre_logits.fc1", "fc7": "pre_logits.fc2", "fc8": "head.fc"}


def save(
    net: VeryDeep,
    file: str | Path,
    *,
    card: ModelCard | None = None,
    precision: str = "fp32",
    state: dict[str, Tensor] | None = None,
    progress: dict[str, Any] | None = None,
) -> None:
    """Writes a model file, whole or not at all.

    Args:
        net: the net.
        file: such as ``hands.safetensors``.
        card: what it says of itself, by default what the net knows.
        precision: of the weights: fp32, or bf16 or fp16 in half the bytes. Biases, statistics of batch norm, mean and
            divisor stay fp32.
        state: tensors of the training, for a checkpoint.
        progress: numbers of the training, for a checkpoint.

    Raises:
        UserError: the file cannot be written, because the disk is full for instance; or a weight is too large for
            fp16.
        UsageError: an unknown precision.
    """
    dtype = _find_precision(precision)
    tensors = {name: _stored(name, tensor.detach(), dtype) for name, tensor in net.state_dict().items()}
    tensors |= {_STATE_PREFIX + name: tensor.contiguous() for name, tensor in (state or {}).items()}
    described = (card or make_card(net)).model_copy(update={"precision": precision, "names": "verydeep"})
    metadata = {"format": "pt", _METADATA_KEY: described.model_dump_json()}
    if progress is not None:
        metadata["progress"] = json.dumps(progress)
    try:
        with atomic_write(Path(file)) as temporary:
            save_file(tensors, temporary, metadata)
    except (OSError, SafetensorError) as error:
        raise UserError(f"{file} cannot be written: {format_error(error)}") from error


def _find_precision(name: str) -> torch.dtype:
    if name not in STORED:
        raise UsageError(f"unknown precision {name!r}: choose one of {', '.join(STORED)}")
    return STORED[name]


def _stored(name: str, tensor: Tensor, dtype: torch.dtype) -> Tensor:
    """A tensor as it is written: what has one dimension costs nothing, and rounding it costs most."""
    if not tensor.is_floating_point():
        return tensor.contiguous()
    rounded = tensor.to(dtype if tensor.ndim > 1 else torch.float32)
    if dtype == torch.float16 and rounded.isinf().any() and not tensor.isinf().any():
        raise UserError(f"{name} has a weight of {tensor.abs().max():.3g}, too large for fp16: store it as bf16")
    return rounded.contiguous()


def format_error(error: OSError | SafetensorError) -> str:
    """Says in words why a file could not be written."""
    reason = (error.strerror if isinstance(error, OSError) else None) or str(error)
    return reason.removeprefix("Error while serializing: ").removeprefix("I/O error: ")


def find_model_file(model: str | Path) -> Path:
    """Finds the file of a MODEL: a model file, a run folder that holds one, or a name.

    Published weights are fetched and made a model file when they are first asked for.

    Raises:
        UserError: there is none, or published weights cannot be had.
    """
    path = Path(model)
    if path.is_file():
        return path
    if path.is_dir():
        for name in (MODEL_FILE, CHECKPOINT_FILE, PREVIOUS_CHECKPOINT_FILE):
            if (path / name).is_file():
                return path / name
        raise UserError(f"{path} holds no {MODEL_FILE}: give the run folder of a training that has begun")
    if str(model) == SHIPPED:
        return shipped_file()
    if row := find_published(str(model)):
        from verydeep.weights.resolve import fetch_weights  # which writes model files

        return fetch_weights(row.name)
    begin = f"no model {str(model)!r}"
    with suppress(UsageError):
        begin = f"{model} is an architecture, {find_architecture(str(model))[0].title}, and no weights"
    raise UserError(
        f"{begin}: give a model file (.safetensors), a run folder made by train, or a published name "
        "(verydeep weights list)"
    )


def unfinished(model: str | Path) -> str | None:
    """Says that a model is what a training that has not ended had at last; None where it is not."""
    path = Path(model)
    if path.is_dir() and find_model_file(path).name != MODEL_FILE:
        return f"the training in {path} has not ended: this is its net so far"
    return None


class Opened:
    """A model file with its header read and checked, the tensors still on the disk.

    Attributes:
        file: the file.
        tensors: gives each tensor, mapped from the file.
        metadata: the strings of its header.
        card: what it says of itself.

    Raises:
        UserError: it is no model file, or damaged.
    """

    def __init__(self, file: Path) -> None:
        self.file = file
        try:
            self.tensors = safe_open(file, framework="pt")
            self.metadata: dict[str, str] = self.tensors.metadata() or {}
        except (SafetensorError, OSError) as error:
            raise UserError(
                f"{file} is no model file, or is damaged or cut short ({error}): give a file that verydeep wrote"
            ) from error
        if _METADATA_KEY not in self.metadata:
            raise UserError(
                f"{file} is a safetensors file of another program: it has no {_METADATA_KEY} metadata; "
                "verydeep weights import makes a model file of it"
            )
        try:
            self.card = ModelCard.model_validate_json(self.metadata[_METADATA_KEY])
            self.geometry = self.card.geometry
        except ValidationError as error:
            problem = error.errors()[0]
            field = ".".join(str(part) for part in problem["loc"]) or "classes"
            raise UserError(f"{file}: its card is not readable at {field}: {problem['msg']}") from error
        except UsageError as error:
            raise UserError(f"{file}: its card is of no net ({error})") from error

    def names(self) -> set[str]:
        """Names of the tensors of the net."""
        return {name for name in self.tensors.keys() if not name.startswith(_STATE_PREFIX)}  # noqa: SIM118 - no mapping

    def check(self, expected: dict[str, Tensor], known: set[str]) -> None:
        """Checks names, shapes and types of the tensors, and reads none.

        Args:
            expected: tensors to be read, by name; only their shapes and types count.
            known: names that may be there.

        Raises:
            UserError: one is missing, is too many, or does not fit.
        """
        found, title = self.names(), self.geometry.title
        for name in sorted((found - known) | (expected.keys() - found)):
            state = "missing" if name in expected else "not one"
            raise UserError(f"{self.file}: tensor {name} is {state} of {title}")
        for name, like in expected.items():
            stored = self.tensors.get_slice(name)
            shape, dtype = tuple(stored.get_shape()), stored.get_dtype()
            if shape != like.shape:
                shapes = f"{shape}, not {tuple(like.shape)}"
                raise UserError(f"{self.file}: tensor {name} of {title} has the shape {shapes}")
            if like.is_floating_point() and dtype not in _DTYPES:
                raise UserError(f"{self.file}: tensor {name} is of type {dtype}: weights are F32, BF16 or F16")


def read_card(model: str | Path) -> ModelCard:
    """Reads what a model file says of itself, and no weights.

    Raises:
        UserError: there is no such file, or it is no model file.
    """
    return Opened(find_model_file(model)).card


def load(model: str | Path, *, features_only: bool = False, precision: str = "fp32") -> VeryDeep:
    """Loads a net, in evaluation mode.

    Weights stored in the precision asked for are mapped from the file and read when they are first used.

    Args:
        model: a model file, a run folder or a published name.
        features_only: take the convolutions and leave the fully connected layers on the disk: for features and
            activations up to ``pool5``.
        precision: of the weights in memory, whatever the file stores: fp32, bf16 or fp16.

    Raises:
        UserError: there is no such file, it is no model file, or a tensor does not fit its architecture.
        UsageError: an unknown precision.
    """
    dtype = _find_precision(precision)
    opened = Opened(find_model_file(model))
    card = opened.card
    net = empty_net(card.geometry, features_only=features_only or card.features_only)
    whole = net if net.features_only == card.features_only else empty_net(card.geometry, features_only=False)
    expected = net.state_dict()
    known = _names_in_file(card, whole.state_dict())
    stored = {name: known[name] for name in expected if name in known}
    opened.check(
        {
            theirs: expected[name].flatten(1) if theirs == "head.fc.weight" else expected[name]
            for name, theirs in stored.items()
        },
        set(known.values()),
    )
    weights = {"mean": torch.tensor(card.mean), "divisor": torch.tensor(card.divisor)}
    for name, theirs in stored.items():
        like, tensor = expected[name], opened.tensors.get_tensor(theirs)
        casts = like.is_floating_point() and name not in _INPUT_NAMES
        weights[name] = tensor.reshape(like.shape).to(dtype if casts else like.dtype)
    for name in _INPUT_NAMES:
        if weights[name].tolist() != torch.tensor(said := getattr(card, name)).tolist():
            raise UserError(
                f"{opened.file}: its {name} is {weights[name].tolist()}, and its card says {list(said)}: one of them "
                "was changed, so it would compute other scores than it says; fetch or train it again"
            )
    net.load_state_dict(weights, assign=True)
    net.classes, net.mirror, net.train_scale = card.classes, card.mirror, card.train_scale
    net.input_is_set = True
    return net.eval()


def _names_in_file(card: ModelCard, ours: Iterable[str]) -> dict[str, str]:
    """Our names to those in the file: version 0.1 wrote timm's into folders for the hub, which are read until 0.3."""
    if card.names == "verydeep":
        return {name: name for name in ours}
    theirs = {layer.name: f"features.{number}" for number, layer in enumerate(layers(card.geometry))} | _TIMM_HEAD
    split = {name: name.rpartition(".") for name in ours if name not in _INPUT_NAMES}
    return {name: f"{theirs[layer]}.{part}" for name, (layer, _, part) in split.items()}


def read_progress(file: Path) -> dict[str, Any]:
    """Reads the numbers of the training from a checkpoint, and no weights.

    Raises:
        UserError: as load; or the file is a model file and no checkpoint.
    """
    return _progress(Opened(file), file)


def _progress(opened: Opened, file: Path) -> dict[str, Any]:
    if "progress" not in opened.metadata:
        raise UserError(f"{file} is a model file and no checkpoint: training cannot go on from it")
    with suppress(ValueError, RecursionError):
        progress = json.loads(opened.metadata["progress"])
        if isinstance(progress, dict):
            return progress
    raise UserError(f"{file}: what it says of the progress of its training is damaged: train anew")


def load_checkpoint(file: Path) -> tuple[VeryDeep, dict[str, Tensor], dict[str, Any]]:
    """Loads a checkpoint: the net, the tensors and the numbers of its training.

    Raises:
        UserError: as load; or the file is a model file and no checkpoint.
    """
    opened = Opened(file)
    progress = _progress(opened, file)
    state = {
        name.removeprefix(_STATE_PREFIX): opened.tensors.get_tensor(name)
        for name in opened.tensors.keys()  # noqa: SIM118 - no mapping
        if name.startswith(_STATE_PREFIX)
    }
    return load(file), state, progress
