"""How a net is trained: recipes by name."""

import dataclasses
import json
import math
from collections.abc import Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass

from verydeep.errors import UsageError, UserError
from verydeep.files import parse_json
from verydeep.nets.architecture import scaled_length
from verydeep.nets.initialise import INITIALISATIONS
from verydeep.nets.model_card import selected_on
from verydeep.paper import constants

Fraction = Annotated[float, Field(ge=0, lt=1)]
Count = Annotated[int, Field(ge=1)]
Rate = Annotated[float, Field(gt=0, allow_inf_nan=False)]


@dataclass(frozen=True, kw_only=True, config={"extra": "forbid"})
class Recipe:
    """How a net is trained.

    Attributes:
        name: of the recipe it began from.
        initialisation: of the weights that are not copied from another net.
        epochs: passes over the training images at most.
        batch_size: images per weight update, over all devices.
        learning_rate: at the start (after the warm-up, if any).
        schedule: ``plateau`` (divided by ten when the validation error stops falling), ``cosine`` (to zero over the
            epochs) or ``constant``.
        patience: evaluations without a better validation error before the plateau rule divides the rate.
        drops: divisions by ten before the plateau rule ends the training.
        warmup: epochs over which the rate rises linearly from zero.
        momentum: of stochastic gradient descent.
        nesterov: Nesterov's form of momentum.
        weight_decay: L2 multiplier on the weights and biases of convolutions and fully connected layers.
        dropout: probability on fc6 and fc7; in ``auto`` on the channels of the maps that the upper blocks are given.
        label_smoothing: probability mass spread evenly over the classes.
        train_scale: S, or [Smin, Smax], pixels; None is ``paper_scale`` scaled by crop/224.
        paper_scale: smallest and largest S at the paper's crop of 224.
        trainable: ``all`` layers, only the fully connected ones (``fc``), or the blocks from one on: ``conv5`` is the
            last one and what follows it.
        head_rate: factor on the learning rate of the last layer.
        most_gradient: length of the gradient of all layers but the last above which it is shortened to it; 0 leaves it.
        balance: what is done about classes of different size: ``none``; ``loss`` weighs the loss of an image by one
            over its class's size; ``sampling`` draws every class equally often.
        mirror: mirror half of the training crops, where the data set allows it.
        colour_shift: shift the colours along their principal components.
        input_divisor: ``one`` (mean subtraction only) or ``deviation`` (of the training set's pixels).
        keep: the weights of the ``last`` epoch, or of the ``best`` by validation.
    """

    name: str
    initialisation: Literal["gaussian", "gaussian-variance", "glorot", "glorot-uniform", "kaiming", "centred"]
    epochs: Count
    batch_size: Count
    learning_rate: Rate
    schedule: Literal["plateau", "cosine", "constant"]
    patience: Count = 5
    drops: Annotated[int, Field(ge=0)] = constants.LEARNING_RATE_DROPS
    warmup: Annotated[float, Field(ge=0)] = 0
    momentum: Fraction = constants.MOMENTUM
    nesterov: bool = False
    weight_decay: Annotated[float, Field(ge=0)] = constants.WEIGHT_DECAY
    dropout: Fraction = constants.DROPOUT
    label_smoothing: Fraction = 0
    train_scale: Count | tuple[Count, Count] | None = None
    paper_scale: tuple[Count, Count] = (constants.TRAIN_SCALE, constants.TRAIN_SCALE)
    trainable: Literal["all", "conv2", "conv3", "conv4", "conv5", "fc"] = "all"
    head_rate: Rate = 1
    most_gradient: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 0
    balance: Literal["none", "loss", "sampling"] = "none"
    mirror: bool = True
    colour_shift: bool = False
    input_divisor: Literal["one", "deviation"] = "deviation"
    keep: Literal["last", "best"] = "last"

    def scales(self, crop: int) -> tuple[int, int]:
        """Smallest and largest training scale for a crop, pixels."""
        if self.train_scale is None:
            return scaled_length(self.paper_scale[0], crop), scaled_length(self.paper_scale[1], crop)
        low, high = self.train_scale if isinstance(self.train_scale, tuple) else (self.train_scale, self.train_scale)
        if low > high:
            raise UsageError(f"train scale {low},{high}: give the smaller one first")
        if low < crop:
            raise UsageError(f"train scale {low} is below the crop of {crop}: the crop must fit, give {crop} or more")
        return low, high

    def trains(self, layer: str) -> bool:
        if self.trainable == "all":
            return True
        if self.trainable == "fc":
            return layer.startswith("fc")
        digit = next(letter for letter in layer if letter.isdigit())  # of its block; fc6 and those after it are above 5
        return digit >= self.trainable.removeprefix("conv")

    def selects_on_validation(self) -> bool:
        return selected_on(self.as_record()) is not None

    def as_record(self) -> dict[str, Any]:
        return dataclasses.asdict(self)


assert set(INITIALISATIONS) == {"gaussian", "gaussian-variance", "glorot", "glorot-uniform", "kaiming", "centred"}

# The paper's own, section 3.1. Glorot's initialisation needs no net to grow from: the paper's later finding.
_PAPER = Recipe(
    name="paper",
    initialisation="glorot",
    epochs=constants.EPOCHS,
    batch_size=constants.BATCH_SIZE,
    learning_rate=constants.LEARNING_RATE,
    schedule="plateau",
    colour_shift=True,
    input_divisor="one",
)

# At S = 384 from the net of S = 256: verydeep train DATA --recipe paper-384 --init-from runs/s256
_PAPER_384 = dataclasses.replace(
    _PAPER,
    name="paper-384",
    learning_rate=constants.FINE_TUNING_RATE,
    drops=constants.LEARNING_RATE_DROPS - 1,
    paper_scale=(constants.LARGER_TRAIN_SCALE, constants.LARGER_TRAIN_SCALE),
)

# With scale jitter from the net of S = 384: verydeep train DATA --recipe paper-jitter --init-from runs/s384
# Choice: the paper states no rate for this fine-tuning; it is that of the training at S = 384.
_PAPER_JITTER = dataclasses.replace(_PAPER_384, name="paper-jitter", paper_scale=constants.JITTERED_TRAIN_SCALES)

_ROWS = (
    _PAPER,
    _PAPER_384,
    _PAPER_JITTER,
    # The same for the fully connected layers alone, as the multi-scale D of the submission (section 4.4)
    dataclasses.replace(_PAPER_JITTER, name="paper-jitter-fc", trainable="fc"),
    # A small set in about a minute on two cores: verydeep train digits --recipe quick
    Recipe(
        name="quick",
        initialisation="centred",
        epochs=12,
        batch_size=64,
        learning_rate=0.02,
        schedule="cosine",
        warmup=1,
        nesterov=True,
    ),
    # Thousands of small images: verydeep train cifar10/ --recipe small-images --batch-norm --crop 32
    Recipe(
        name="small-images",
        initialisation="centred",
        epochs=20,
        batch_size=128,
        learning_rate=0.05,
        schedule="cosine",
        warmup=1,
        nesterov=True,
        label_smoothing=0.1,
        most_gradient=3,
    ),
    # What fits the data, the machine and the time: verydeep train photos. This is its fine-tuning; the plan in
    # runs/auto.py sets the epochs, the blocks and the size.
    Recipe(
        name="auto",
        initialisation="kaiming",
        epochs=8,
        batch_size=32,
        learning_rate=3e-3,
        head_rate=1e-3,
        schedule="cosine",
        warmup=0.5,
        nesterov=True,
        label_smoothing=0.1,
        trainable="conv5",
        most_gradient=10,
        dropout=0.2,
    ),
    # From a trained net: verydeep train photos --recipe fine-tune --init-from runs/other
    Recipe(
        name="fine-tune",
        initialisation="centred",
        epochs=10,
        batch_size=64,
        learning_rate=2e-3,
        schedule="cosine",
        nesterov=True,
    ),
)

RECIPES: dict[str, Recipe] = {row.name: row for row in _ROWS}
"""The recipes by name."""


@dataclass(frozen=True)
class Step:
    """One training of a chain: its recipe, its architecture where the chain fixes it, and fields of the recipe."""

    recipe: str
    architecture: str | None = None
    changes: dict[str, Any] = Field(default_factory=dict)

    @property
    def title(self) -> str:
        """Such as ``paper-A``."""
        return f"{self.recipe}-{self.architecture}" if self.architecture else self.recipe


_NOISE = {"initialisation": "gaussian"}

CHAINS: dict[str, tuple[Step, ...]] = {
    # S = 256 from Glorot's random weights, S = 384 from it, S in [256, 512] from that
    "paper-chain": (Step("paper"), Step("paper-384"), Step("paper-jitter")),
    # The same, but in the last step only the fully connected layers learn
    "paper-chain-fc": (Step("paper"), Step("paper-384"), Step("paper-jitter-fc")),
    # A from Gaussian noise, the deeper net grown from it, then the two larger scales
    "paper-chain-from-a": (
        Step("paper", "A", _NOISE),
        Step("paper", None, _NOISE),
        Step("paper-384"),
        Step("paper-jitter"),
    ),
}
"""Trainings that follow each other, each from the weights of the one before it.

Paper: section 3.1; the last step with the fully connected layers only: section 4.4.
"""

_OTHER_NAMES = {
    "lr": "learning_rate", "rate": "learning_rate", "wd": "weight_decay", "decay": "weight_decay", "bs": "batch_size",
    "batch": "batch_size", "num_epochs": "epochs", "init": "initialisation", "scheduler": "schedule",
    "freeze": "trainable", "flip": "mirror", "class_weight": "balance=loss", "class_weights": "balance=loss",
    "oversample": "balance=sampling", "oversampling": "balance=sampling", "sampler": "balance=sampling",
}  # fmt: skip
"""Names that other programs have for fields of a recipe, or for a value of one."""

RECIPE_FIELDS = tuple(field.name for field in dataclasses.fields(Recipe) if field.name != "name")

_READER = TypeAdapter(Recipe)


def nearest_field(name: str, known: Sequence[str]) -> str | None:
    """The field that a wrong name may mean: what other programs call so, else the likest; None where none is alike."""
    return _OTHER_NAMES.get(name.casefold().replace("-", "_")) or next(iter(get_close_matches(name, known)), None)


def find_recipe(name: str, **changes: Any) -> Recipe:  # noqa: ANN401 - the fields of Recipe
    """Finds a recipe by name, or reads it from a JSON file, and changes some of its fields."""
    if name.endswith(".json"):
        fields = _read_json(Path(name))
        base = fields.get("name") or Path(name).stem
    elif name in RECIPES:
        fields, base = RECIPES[name].as_record(), name
    else:
        raise UsageError(f"unknown recipe {name!r}: choose one of {', '.join(RECIPES)}, or give a .json file")
    for field in (*fields, *changes):
        if field not in (*RECIPE_FIELDS, "name"):
            guess = nearest_field(field, RECIPE_FIELDS)
            meant = f"do you mean {guess}? " if guess else ""
            raise UsageError(f"a recipe has no field {field!r}: {meant}it has {', '.join(sorted(RECIPE_FIELDS))}")
    fields = fields | {"name": base} | {field: value for field, value in changes.items() if value is not None}
    try:
        return _READER.validate_python(fields)
    except ValidationError as error:
        raise UsageError(f"recipe {base}: {_describe(error)}") from error


def _describe(error: ValidationError) -> str:
    problems = error.errors()
    missing = [str(problem["loc"][0]) for problem in problems if problem["type"] == "missing"]
    if missing:
        return f"it lacks {', '.join(missing)}: copy a whole recipe, such as that in a run.json, and change it"
    field, value = problems[0]["loc"][0], problems[0]["input"]
    return f"{field} {value!r}{problems[0]['msg'].removeprefix('Input')}"


def _read_json(file: Path) -> dict[str, Any]:
    try:
        fields = parse_json(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"recipe file {file} cannot be read: {error.strerror or error}") from error
    except json.JSONDecodeError as error:
        where = f"line {error.lineno}, column {error.colno}"
        raise UserError(f"recipe file {file} is not JSON: {where}: {error.msg}") from error
    except UnicodeDecodeError as error:
        raise UserError(f"recipe file {file} is not text in UTF-8") from error
    except ValueError as error:
        raise UserError(f"recipe file {file} is not JSON: {error}") from error
    if not isinstance(fields, dict):
        raise UserError(f"recipe file {file} is not a JSON object: give the fields of a recipe")
    return fields


def scheduled_rate(recipe: Recipe, epochs_done: float) -> float:
    """The learning rate after some epochs and a fraction, before any drop of the plateau rule."""
    if epochs_done < recipe.warmup:
        return recipe.learning_rate * epochs_done / recipe.warmup
    if recipe.schedule != "cosine":
        return recipe.learning_rate
    progress = (epochs_done - recipe.warmup) / max(recipe.epochs - recipe.warmup, 1e-9)
    return recipe.learning_rate * (1 + math.cos(math.pi * min(progress, 1))) / 2
