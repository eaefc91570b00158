"""The options of a training, declared once; importing this needs no torch."""

import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from verydeep.errors import UsageError
from verydeep.files import check_outside

if TYPE_CHECKING:
    from verydeep.training.recipe import Recipe

COMPUTE_FIELDS = (
    "device", "precision", "workers", "micro_batch", "gradient_checkpointing", "checkpoint_minutes", "no_pictures",
    "stuck",
)  # fmt: skip
"""Options that change nothing that is learnt, but for rounding."""

AUTO = "auto"
"""The recipe where none is given."""

_ACTIONS = ("out", "resume", "plan", "devices", "like")


@dataclass(frozen=True, kw_only=True)
class TrainOptions:
    """Options of a training: filled by the command line or by `verydeep.train`, stored in run.json.

    The text under a field is its help on the command line.
    """

    architecture: str | None = None
    "A, A-LRN, B, C, D, E or B-5x5; vgg16 and the like too. [that of --init-from, else A]"
    batch_norm: bool | None = None
    "A batch norm after every convolution. [as the net of --init-from, else none]"
    recipe: str = AUTO
    "auto (fits data, machine and --minutes), paper, paper-chain, small-images, quick, fine-tune ... or a JSON file."
    minutes: float | None = None
    "Time to end in. [10 for auto; the others have a number of epochs, which this lowers where need be]"
    changes: dict[str, Any] = field(default_factory=dict)
    "Change a field of the recipe: key=value."
    crop: int | None = None
    "Side of the training crop, a multiple of 32. [that of --init-from, else 224; less for smaller images]"
    width: float | None = None
    "Factor on the channels of every layer. [that of --init-from, else 1]"
    train_scale: int | tuple[int, ...] | None = None
    "S, or Smin,Smax for scale jitter. [256 x crop / 224]"
    epochs: int | None = None
    "Passes over the training images. [the recipe's]"
    batch_size: int | None = None
    "Images per update. [the recipe's]"
    like: Path | None = None
    "Train as that run was: its net, recipe and plan; beside it only --out, --seed and how it is computed."
    init_from: str | Path | None = None
    "Take weights from a model file, run folder or published name; none: random weights. [auto: vgg16-features]"
    initialise: str | None = None
    "gaussian, gaussian-variance, glorot, glorot-uniform, kaiming or centred. [the recipe's]"
    keep: str | None = None
    "last, or best by validation. [the recipe's]"
    patience: int | None = None
    "End after N epochs without a better validation error. (The plateau rule, which lowers the rate: --set patience=N.)"
    stuck: Literal["stop", "continue"] = "stop"
    "What to do where the loss stays at chance for a quarter of the updates: stop (saved), or continue."
    out: Path | None = None
    "The run folder. [a new one under runs/]"
    resume: bool = False
    "Resume the run in --out; needs nothing else. With DATA: start it if there is none."
    device: str | None = None
    "cpu, cuda or mps; by default the fastest there is."
    precision: str | None = None
    "fp32 or bf16. [the faster]"
    workers: int | None = None
    "Processes that make crops. [0 on the CPU, one a core for a GPU]"
    log: Literal["tensorboard"] | None = None
    "tensorboard: write curves for TensorBoard into the run folder."
    devices: int = 1
    "Train in this many processes, one a GPU or share of the cores."
    micro_batch: int | None = None
    "Compute this many images at a time: less memory. [the whole batch]"
    gradient_checkpointing: bool = False
    "Compute activations twice: less memory, a third more time."
    checkpoint_minutes: float = 10
    "Time between checkpoints within an epoch."
    plan: bool = False
    "Only say what it would take: time, memory, disk; measured for a moment."
    seed: int = 0
    "Of the weights, the order, the crops and the dropout."
    no_validation: bool = False
    "Train on the validation images too, once the recipe is settled."
    damaged: Literal["fail", "skip"] = "fail"
    "What to do with damaged images: fail, or skip and count them."
    no_pictures: bool = False
    "Put no picture and no score map into report.html: for private photographs; names of files stay."

    @property
    def start_model(self) -> str | Path | None:
        """The MODEL to begin from, if one is named: ``none`` asks for random weights."""
        return None if str(self.init_from) == "none" else self.init_from

    @property
    def recipe_changes(self) -> dict[str, Any]:
        named = {
            "epochs": self.epochs,
            "batch_size": self.batch_size,
            "initialisation": self.initialise,
            "keep": self.keep,
            "train_scale": self.train_scale,
        }
        return self.changes | {name: value for name, value in named.items() if value is not None}

    def find_recipe(self) -> "Recipe":
        from verydeep.training.recipe import find_recipe  # torch, which --help does without

        return find_recipe(self.recipe, **self.recipe_changes)

    @property
    def checkpoint_seconds(self) -> float:
        return 60 * self.checkpoint_minutes

    @property
    def skip_damaged(self) -> bool:
        return self.damaged == "skip"

    def as_record(self) -> dict[str, Any]:
        """The fields that run.json stores: where a run lies and what is done with it are left out."""
        record = {name: value for name, value in asdict(self).items() if name not in _ACTIONS}
        return record | {"init_from": None if self.init_from is None else str(self.init_from)}

    @staticmethod
    def from_record(record: dict[str, Any]) -> "TrainOptions":
        known = {entry.name for entry in fields(TrainOptions)} | _OLD_NAMES.keys()
        return read_keywords({name: value for name, value in record.items() if name in known})

    def check(self, data: str | None, given: Sequence[str] = ()) -> None:
        """Checks all that can be checked before anything is read.

        ``given`` are the options on the command line that say what to train; ``data`` is None with ``--resume`` alone.
        """
        self.check_compute()
        if self.resume and self.out is None:
            raise UsageError("--resume: give the run folder with --out")
        if not self.resume and data is None:
            raise UsageError("which data? Give a folder, or a name such as digits, or --resume with --out")
        if data is None and given:
            raise UsageError(f"{given[0]} cannot change what a run began with: leave it out, or train anew")
        if data is None and self.plan:
            raise UsageError("--plan: give the data and the options of the training that is to begin")
        for option in given if self.like is not None else ():
            if option.removeprefix("--").replace("-", "_") not in ("like", "plan", "seed", *COMPUTE_FIELDS):
                raise UsageError(f"{option}: --like {self.like} says what is trained: leave one of them out")
        check_outside(self.out or Path("runs"), "--out", data)
        self.check_recipe()

    def check_compute(self) -> None:
        from verydeep.device import check_precision, find_device  # torch, which --help does without

        find_device(self.device)
        check_precision(self.precision)
        if self.workers is not None and self.workers < 0:
            raise UsageError(f"{self.workers} workers: give 0 or more")
        cores = os.cpu_count() or 1
        if self.workers is not None and self.workers > (most := max(16, 4 * cores)):
            raise UsageError(f"--workers {self.workers}: this machine has {cores} CPU cores: give at most {most}")
        if self.micro_batch is not None and self.micro_batch < 1:
            raise UsageError(f"a micro-batch of {self.micro_batch} images: give 1 or more")
        if self.log is not None:
            from verydeep.training.tensorboard import check_tensorboard

            check_tensorboard()
        if self.patience is not None and self.patience < 1:
            raise UsageError(f"--patience {self.patience}: give 1 epoch or more")
        if not self.checkpoint_minutes > 0:
            raise UsageError("the time between checkpoints must be above 0")

    def check_recipe(self) -> None:
        from verydeep.training.recipe import CHAINS, RECIPES, Step, find_recipe

        if self.recipe not in CHAINS and self.recipe not in RECIPES and not self.recipe.endswith(".json"):
            names = f"{', '.join(RECIPES)}; or a chain of them: {', '.join(CHAINS)}; or a .json file"
            raise UsageError(f"unknown recipe {self.recipe!r}: choose one of {names}")
        for step in CHAINS.get(self.recipe, (Step(self.recipe),)):
            find_recipe(step.recipe, **step.changes | self.recipe_changes)


def read_keywords(keywords: dict[str, Any]) -> TrainOptions:
    """Makes options of keywords of Python, or of JSON: fields of TrainOptions or of a recipe, or names of 0.1.0."""
    given = _fields_to_changes(_renamed(keywords))
    for name in ("changes", "out", "like", "train_scale"):
        value = given.get(name)
        if name == "changes":
            given[name] = dict(value or {})
        elif value is not None:
            given[name] = Path(value) if name in ("out", "like") else tuple(value) if isinstance(value, list) else value
    return TrainOptions(**given)


def _fields_to_changes(given: dict[str, Any]) -> dict[str, Any]:
    """Moves fields of the recipe among the keywords into ``changes``; raises UsageError for what is neither."""
    options = [entry.name for entry in fields(TrainOptions)]
    others = [name for name in given if name not in options]
    if not others:
        return given
    from verydeep.training.recipe import RECIPE_FIELDS, nearest_field  # torch, which --help does without

    for name in others:
        if name not in RECIPE_FIELDS:
            guess = nearest_field(name, [*options, *RECIPE_FIELDS])
            meant = f"do you mean {guess}?" if guess else f"there are {', '.join(sorted({*options, *RECIPE_FIELDS}))}"
            raise UsageError(f"no option {name!r} of a training: {meant}")
    changes = dict(given.get("changes") or {}) | {name: given[name] for name in others}
    return {name: value for name, value in given.items() if name in options} | {"changes": changes}


# Version 0.1.0: how a training is computed was one keyword, and some fields had other names. Kept until 0.3.


@dataclass(frozen=True, kw_only=True)
class ComputeOptions:
    """How a training is computed, given by the keyword ``execution``: fields of ``TrainOptions`` of these names."""

    device: str | None = None
    precision: str | None = None
    workers: int | None = None
    micro_batch: int | None = None
    gradient_checkpointing: bool = False
    checkpoint_seconds: float = 600.0


_OLD_NAMES: dict[str, Any] = {
    "hold_out": lambda value: {"no_validation": not value},
    "skip_damaged": lambda value: {"damaged": "skip" if value else "fail"},
    "go_on": lambda value: {"resume": value},
    "checkpoint_seconds": lambda value: {"checkpoint_minutes": value / 60},
    "execution": lambda value: _renamed(value if isinstance(value, dict) else dict(vars(value)) if value else {}),
}


def _renamed(keywords: dict[str, Any]) -> dict[str, Any]:
    renamed: dict[str, Any] = {}
    for name, value in keywords.items():
        renamed |= _OLD_NAMES[name](value) if name in _OLD_NAMES else {name: value}
    return renamed
