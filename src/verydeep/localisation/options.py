"""The options of a localiser's training, and its recipes; importing this needs no torch.

Paper: appendix A.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal

from verydeep.errors import UsageError
from verydeep.files import check_outside
from verydeep.runs.options import COMPUTE_FIELDS, TrainOptions

if TYPE_CHECKING:
    from verydeep.training.recipe import Recipe

START: Final = "vgg16-features"
"""The convolutions that come with the package: where a localiser begins that grows from no classifier."""

_ACTIONS = ("out", "resume", "devices")

_ON_IMAGES: Final[dict[str, Any]] = {
    "initialisation": "centred",
    "epochs": 30,
    "batch_size": 32,
    "learning_rate": 1e-3,  # the paper's, a tenth of the classifier's
    "schedule": "cosine",
    "warmup": 0.5,
    "input_divisor": "one",
}

_ON_MAPS: Final[dict[str, Any]] = {
    "initialisation": "centred",
    "epochs": 10,
    "batch_size": 32,
    "learning_rate": 1e-2,
    "schedule": "cosine",
    "warmup": 0.1,
    "weight_decay": 1e-2,
    "dropout": 0.3,
    "input_divisor": "one",
}


@dataclass(frozen=True, kw_only=True)
class LocaliseOptions:
    """Options of the training of a localiser: filled by the command line, stored in run.json.

    The text under a field is its help on the command line.
    """

    init_from: str | Path | None = None
    "A classifier to grow from, or a localiser to train on: a MODEL. [vgg16-features and new fc6 and fc7]"
    regression: Literal["scr", "pcr"] = "pcr"
    "pcr: a box for each class; scr: one box that all classes share."
    finetune: Literal["all", "fc"] | None = None
    "Train all layers, or the fully connected ones. [all of a classifier with fc6 and fc7; else fc, on stored maps]"
    hidden: int | None = None
    "Channels of fc6 and fc7, where these are new. [by the number of images and classes]"
    views: int | None = None
    "Random views of each image whose maps are stored, where fc6, fc7 and fc8 are new. [by the number of images]"
    changes: dict[str, Any] = field(default_factory=dict)
    "Change a field of the recipe: key=value."
    crop: int | None = None
    "Side of the crop, a multiple of 32. [that of the net it begins from]"
    train_scale: int | tuple[int, ...] | None = None
    "S, or Smin,Smax. [that of the classifier; of new layers 224 to 288, by the crop]"
    epochs: int | None = None
    "Passes over the crops. [the recipe's]"
    batch_size: int | None = None
    "Crops per update. [the recipe's]"
    keep: str | None = None
    "last, or best by validation. [last]"
    patience: int | None = None
    "End after N epochs without a better validation error."
    out: Path | None = None
    "The run folder. [a new one under runs/]"
    resume: bool = False
    "Resume the run in --out; needs nothing else. With DATA: start it if there is none."
    device: str | None = None
    "cpu, cuda or mps; by default the fastest there is."
    precision: str | None = None
    "fp32 or bf16. [the faster; fp32 on stored maps]"
    workers: int | None = None
    "Processes that make crops. [0 on the CPU, one a core for a GPU]"
    devices: int = 1
    "Train in this many processes, one a GPU or share of the cores; not on stored maps."
    micro_batch: int | None = None
    "Compute this many crops at a time: less memory. [the whole batch]"
    gradient_checkpointing: bool = False
    "Compute activations twice: less memory, a third more time."
    checkpoint_minutes: float = 10
    "Time between checkpoints within an epoch."
    log: Literal["tensorboard"] | None = None
    "tensorboard: write curves for TensorBoard into the run folder."
    stuck: Literal["stop", "continue"] = "stop"
    "What to do where the loss stays at that of the mean box: stop (saved), or continue."
    seed: int = 0
    "Of the weights, the order, the crops and the dropout."
    damaged: Literal["fail", "skip"] = "fail"
    "What to do with damaged images: fail, or skip and count them."
    no_pictures: bool = False
    "Put no picture into report.html: for private photographs; names of files stay."

    def as_record(self) -> dict[str, Any]:
        """The fields that run.json stores: where a run lies and what is done with it are left out."""
        record = {name: value for name, value in asdict(self).items() if name not in _ACTIONS}
        return record | {"init_from": None if self.init_from is None else str(self.init_from)}

    @property
    def asked(self) -> dict[str, Any]:
        """What decides what is learnt: what a run that is resumed must have begun with."""
        return {name: value for name, value in self.as_record().items() if name not in COMPUTE_FIELDS}

    @property
    def of_training(self) -> TrainOptions:
        """How it is computed, as a training of a classifier has it."""
        names = ("patience", "out", "log", "seed", "damaged", "stuck", "devices", *COMPUTE_FIELDS)
        return TrainOptions(recipe="localise", **{name: getattr(self, name) for name in dict.fromkeys(names)})

    def check(self, data: object | None, given: Sequence[str] = ()) -> None:
        """Checks all that can be checked before anything is read; ``given`` are the options on the command line."""
        self.of_training.check_compute()
        if self.resume and self.out is None:
            raise UsageError("--resume: give the run folder with --out")
        if not self.resume and data is None:
            raise UsageError("which data? Give a folder with boxes, or the name shapes, or --resume with --out")
        if data is None and given:
            raise UsageError(f"{given[0]} cannot change what a run began with: leave it out, or train anew")
        if isinstance(data, str | Path):
            check_outside(self.out or Path("runs"), "--out", data)
        for name, value in (("--hidden", self.hidden), ("--views", self.views)):
            if value is not None and value < 1:
                raise UsageError(f"{name} {value}: give 1 or more")

    def find_recipe(self, *, on_maps: bool, rates: dict[str, float] | None = None) -> "Recipe":
        """The recipe of a way to train, with the rates that its net needs, and what is changed."""
        from verydeep.training.recipe import find_recipe  # torch, which --help does without

        row = (_ON_MAPS if on_maps else _ON_IMAGES) | (rates or {})
        trainable = "fc" if on_maps or self.finetune == "fc" else "all"
        named = {"epochs": self.epochs, "batch_size": self.batch_size, "keep": self.keep}
        given = self.changes | {name: value for name, value in named.items() if value is not None}
        for name in ("trainable", "balance", "train_scale"):
            if name in given:
                option = {"trainable": "--finetune", "train_scale": "--train-scale"}.get(name)
                raise UsageError(
                    f"--set {name}: " + (f"give {option}" if option else "boxes have no classes to balance")
                )
        changes = row | {"trainable": trainable, "train_scale": self.train_scale} | given
        return replace(find_recipe("paper", **changes), name="localise")
