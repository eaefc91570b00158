"""The model file: one safetensors file that describes itself."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import torch
from pydantic import BaseModel, ConfigDict, ValidationError
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from verydeep.atomic import written_whole
from verydeep.convnets.architecture import find_architecture
from verydeep.convnets.net import VeryDeep
from verydeep.mistakes import MistakeError
from verydeep.records import environment

MODEL_FILE = "model.safetensors"
"""Name of the model file in a run folder."""

CHECKPOINT_FILE = "checkpoint.safetensors"
"""Name of the checkpoint in a run folder: a model file that also holds the state of training."""

PREVIOUS_CHECKPOINT_FILE = "checkpoint-previous.safetensors"
"""Name of the checkpoint before that one."""

_METADATA_KEY = "verydeep"
_STATE_PREFIX = "training."


class DataCard(BaseModel):
    """What a net was trained on.

    Attributes:
        name: name of the data set.
        fingerprint: hash of its file names, sizes and splits.
        num_train: number of training images.
        validation: where the validation images come from.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    fingerprint: str
    num_train: int
    validation: str


class ModelCard(BaseModel):
    """What a model file says of itself.

    Attributes:
        format_version: raised when an older reader would go wrong.
        architecture: the paper's name.
        batch_norm: whether a batch norm follows each convolution.
        num_classes: number of classes.
        crop: side of the training crop, pixels.
        width: factor on the channels.
        classes: names of the classes in the order of the scores, where known.
        mirror: whether a mirrored image still shows its class.
        train_scale: smallest and largest training scale S, pixels.
        mean: subtracted from the pixels, RGB in 0..255.
        divisor: divides them afterwards.
        recipe: all fields of the recipe.
        data: what it was trained on.
        epochs: epochs trained.
        errors: error rates measured when training ended, as fractions, with their split.
        licence: licence of the weights.
        source: where the weights come from.
        environment: the software and machine that made it.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    format_version: Literal[1] = 1
    architecture: str
    batch_norm: bool
    num_classes: int
    crop: int
    width: float
    classes: tuple[str, ...] | None
    mirror: bool
    train_scale: tuple[int, int]
    mean: tuple[float, float, float]
    divisor: tuple[float, float, float]
    recipe: dict[str, Any] | None = None
    data: DataCard | None = None
    epochs: int | None = None
    errors: dict[str, Any] | None = None
    licence: str | None = None
    source: str | None = None
    environment: dict[str, str | int] = {}


def selected_on(recipe: Mapping[str, Any] | None) -> str | None:
    """The split that had a say in the weights, by the fields of the recipe; None where none had."""
    asks = (recipe or {}).get
    return "val" if asks("schedule") == "plateau" or asks("keep") == "best" else None


def make_card(net: VeryDeep, **known: Any) -> ModelCard:  # noqa: ANN401 - the fields of ModelCard
    """Writes the card of a net; what the net itself does not know is given as fields of ModelCard."""
    return ModelCard(
        architecture=net.geometry.architecture.name,
        batch_norm=net.geometry.batch_norm,
        num_classes=net.geometry.num_classes,
        crop=net.geometry.crop,
        width=net.geometry.width,
        classes=net.classes,
        mirror=net.mirror,
        train_scale=net.train_scale,
        mean=tuple(net.mean.tolist()),
        divisor=tuple(net.divisor.tolist()),
        environment=environment(),
        **known,
    )


def save(
    net: VeryDeep,
    file: str | Path,
    *,
    card: ModelCard | None = None,
    state: dict[str, Tensor] | None = None,
    progress: dict[str, Any] | None = None,
) -> None:
    """Writes a model file, whole or not at all.

    Args:
        net: the net.
        file: such as ``hands.safetensors``.
        card: what it says of itself, by default what the net knows.
        state: tensors of the training, for a checkpoint.
        progress: numbers of the training, for a checkpoint.

    Raises:
        MistakeError: the file cannot be written, because the disk is full for instance.
    """
    tensors = {name: tensor.detach().contiguous() for name, tensor in net.state_dict().items()}
    tensors |= {_STATE_PREFIX + name: tensor.contiguous() for name, tensor in (state or {}).items()}
    metadata = {"format": "pt", _METADATA_KEY: (card or make_card(net)).model_dump_json()}
    if progress is not None:
        metadata["progress"] = json.dumps(progress)
    try:
        with written_whole(Path(file)) as temporary:
            save_file(tensors, temporary, metadata)
    except (OSError, SafetensorError) as error:
        raise MistakeError(f"{file} cannot be written: {reason_of(error)}") from error


def reason_of(error: OSError | SafetensorError) -> str:
    """Says in words why a file could not be written."""
    reason = (error.strerror if isinstance(error, OSError) else None) or str(error)
    return reason.removeprefix("Error while serializing: ").removeprefix("I/O error: ")


def find_model_file(model: str | Path) -> Path:
    """Finds the file of a MODEL: a model file, or a run folder that holds one.

    Raises:
        MistakeError: there is none.
    """
    path = Path(model)
    if path.is_file():
        return path
    if path.is_dir():
        for name in (MODEL_FILE, CHECKPOINT_FILE, PREVIOUS_CHECKPOINT_FILE):
            if (path / name).is_file():
                return path / name
        raise MistakeError(f"{path} holds no {MODEL_FILE}: give the run folder of a training that has begun")
    raise MistakeError(f"no model {str(model)!r}: give a model file (.safetensors) or a run folder made by train")


class _Opened:
    """A model file with its header read and checked, the tensors still on the disk."""

    def __init__(self, file: Path) -> None:
        try:
            self.tensors = safe_open(file, framework="pt")
            self.metadata: dict[str, str] = self.tensors.metadata() or {}
        except (SafetensorError, OSError) as error:
            raise MistakeError(
                f"{file} is no model file, or is damaged or cut short ({error}): give a file that verydeep wrote"
            ) from error
        if _METADATA_KEY not in self.metadata:
            raise MistakeError(f"{file} is a safetensors file of another program: it has no {_METADATA_KEY} metadata")
        try:
            self.card = ModelCard.model_validate_json(self.metadata[_METADATA_KEY])
        except ValidationError as error:
            problem = error.errors()[0]
            field = ".".join(str(part) for part in problem["loc"])
            raise MistakeError(f"{file}: its card is not readable at {field}: {problem['msg']}") from error


def read_card(model: str | Path) -> ModelCard:
    """Reads what a model file says of itself, and no weights.

    Raises:
        MistakeError: there is no such file, or it is no model file.
    """
    return _Opened(find_model_file(model)).card


def load(model: str | Path) -> VeryDeep:
    """Loads a net, in evaluation mode.

    The weights are mapped from the file and read when they are first used.

    Args:
        model: a model file or a run folder.

    Raises:
        MistakeError: there is no such file, it is no model file, or a tensor does not fit its architecture.
    """
    file = find_model_file(model)
    opened = _Opened(file)
    card = opened.card
    find_architecture(card.architecture)
    with torch.device("meta"):
        net = VeryDeep(
            card.architecture,
            batch_norm=card.batch_norm,
            num_classes=card.num_classes,
            crop=card.crop,
            width=card.width,
            initialisation=None,
        )
    found = {name for name in opened.tensors.keys() if not name.startswith(_STATE_PREFIX)}  # noqa: SIM118 - no mapping
    expected = net.state_dict()
    for name in sorted(found ^ expected.keys()):
        raise MistakeError(
            f"{file}: tensor {name} is {'missing' if name in expected else 'not one'} of {net.geometry.title}"
        )
    weights = {name: opened.tensors.get_tensor(name) for name in expected}
    for name, tensor in weights.items():
        if tensor.shape != expected[name].shape:
            shapes = f"{tuple(tensor.shape)}, not {tuple(expected[name].shape)}"
            raise MistakeError(f"{file}: tensor {name} of {net.geometry.title} has the shape {shapes}")
    net.load_state_dict(weights, assign=True)
    net.classes, net.mirror, net.train_scale = card.classes, card.mirror, card.train_scale
    net.input_is_set = True
    return net.eval()


def read_progress(file: Path) -> dict[str, Any]:
    """Reads the numbers of the training from a checkpoint, and no weights.

    Raises:
        MistakeError: as load; or the file is a model file and no checkpoint.
    """
    return _progress(_Opened(file), file)


def _progress(opened: _Opened, file: Path) -> dict[str, Any]:
    if "progress" not in opened.metadata:
        raise MistakeError(f"{file} is a model file and no checkpoint: training cannot go on from it")
    progress: dict[str, Any] = json.loads(opened.metadata["progress"])
    return progress


def load_checkpoint(file: Path) -> tuple[VeryDeep, dict[str, Tensor], dict[str, Any]]:
    """Loads a checkpoint: the net, the tensors and the numbers of its training.

    Raises:
        MistakeError: as load; or the file is a model file and no checkpoint.
    """
    opened = _Opened(file)
    progress = _progress(opened, file)
    state = {
        name.removeprefix(_STATE_PREFIX): opened.tensors.get_tensor(name)
        for name in opened.tensors.keys()  # noqa: SIM118 - no mapping
        if name.startswith(_STATE_PREFIX)
    }
    return load(file), state, progress
