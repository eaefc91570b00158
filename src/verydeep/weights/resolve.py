"""A MODEL (a model file, a run folder or a name) becomes a model file, and that a net."""

from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from verydeep.errors import UsageError, UserError
from verydeep.nets.architecture import find_architecture
from verydeep.nets.model_card import ModelCard
from verydeep.nets.stored_net import CHECKPOINT_FILE, MODEL_FILE, PREVIOUS_CHECKPOINT_FILE, ModelFile, StoredNet
from verydeep.weights.shipped import SHIPPED, shipped_file

if TYPE_CHECKING:
    from verydeep.nets.net import VeryDeep

TRANSFER_FILE = "model.json"
"""Name of the card of a classifier of descriptors in its folder."""


def is_transfer_folder(model: str | Path) -> bool:
    """Whether a MODEL is a folder with a classifier of descriptors, which is more than one net's file."""
    return (Path(model) / TRANSFER_FILE).is_file()


def find_model_file(model: str | Path) -> Path:
    """Finds the file of a MODEL; published weights are fetched when they are first asked for."""
    path = Path(model)
    if path.is_file():
        return path
    if path.is_dir():
        for name in (MODEL_FILE, CHECKPOINT_FILE, PREVIOUS_CHECKPOINT_FILE):
            if (path / name).is_file():
                return path / name
        if is_transfer_folder(path):
            raise UserError(
                f"{path} is a classifier of descriptors, for predict and evaluate: this needs one net in one file"
            )
        raise UserError(f"{path} holds no {MODEL_FILE}: give the run folder of a training that has begun")
    if str(model) in SHIPPED:
        return shipped_file(str(model))
    from verydeep.weights.fetch import fetch_weights  # with the rows of what is published
    from verydeep.weights.published import find_published

    if row := find_published(str(model)):
        return fetch_weights(row.name)
    begin = f"no model {str(model)!r}"
    with suppress(UsageError):
        begin = f"{model} is an architecture, {find_architecture(str(model))[0].title}, and no weights"
    raise UserError(
        f"{begin}: give a model file (.safetensors), a run folder made by train, or a published name "
        "(verydeep weights list)"
    )


def load(model: str | Path, *, features_only: bool = False, precision: str = "fp32") -> "VeryDeep":
    """Loads a net as a module of PyTorch, in evaluation mode.

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
    from verydeep.nets.model_file import load_file  # which imports torch

    return load_file(find_model_file(model), features_only=features_only, precision=precision)


def open_net(model: str | Path) -> StoredNet:
    """Opens a net to be tested, without PyTorch: its weights are mapped from the file when a backend is made of it.

    Raises:
        UserError: there is no such file, it is no model file, or a tensor does not fit its architecture.
    """
    return StoredNet(ModelFile(find_model_file(model)))


def read_card(model: str | Path) -> ModelCard:
    """Reads what a model file says of itself, and no weights.

    Raises:
        UserError: there is no such file, or it is no model file.
    """
    return ModelFile(find_model_file(model)).card


def unfinished(model: str | Path) -> str | None:
    """Says that a model is what a training that has not ended had at last; None where it is not."""
    path = Path(model)
    if path.is_dir() and not is_transfer_folder(path) and find_model_file(path).name != MODEL_FILE:
        return f"the training in {path} has not ended: this is its net so far"
    return None
