"""Options of the tables, and the nets that they consist of.

Importing this needs no torch.

Paper: sections 3.1 and 4.1.
"""

from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from verydeep.errors import UsageError
from verydeep.files import check_outside
from verydeep.nets.architecture import ARCHITECTURES, Geometry, find_architecture
from verydeep.paper.tables import CROP, FIXED_256, FIXED_384, JITTERED, Scales
from verydeep.runs.options import TrainOptions

if TYPE_CHECKING:
    from verydeep.training.recipe import Step

DENSE_AND_CROPS = "dense+multi-crop"
"""The protocol whose posteriors are the mean of those of multi-scale and multi-crop."""

FUSED = ("single", "multi-scale", "multi-crop", DENSE_AND_CROPS)
"""Protocols that several nets are fused by."""

OF_TESTING = ("models", "test_scales", "protocols", "split", "out", "device", "damaged", "no_pictures")
"""Options that say how to test."""


@dataclass(frozen=True, kw_only=True)
class TableNet:
    """A net of the tables, whatever its seed."""

    __pydantic_config__: ClassVar[dict[str, str]] = {"extra": "forbid"}

    name: str  # its architecture, or the model that was given
    architecture: str  # the paper's name
    batch_norm: bool
    crop: int  # of the training, pixels
    train_scale: Scales  # smallest and largest S, pixels
    before: tuple[Scales, ...] = ()  # those of the trainings before, each of which the next one began from

    @property
    def path(self) -> tuple[Scales, ...]:
        """The training scales that its weights went through; nets are compared where these are as many."""
        return (*self.before, self.train_scale)

    @property
    def start(self) -> "TableNet | None":
        """The net that its training begins from; None where it begins from noise."""
        return replace(self, train_scale=self.before[-1], before=self.before[:-1]) if self.before else None

    @property
    def is_control(self) -> bool:
        """Whether it is trained on at the S that it had: what another S is compared with after as many updates."""
        return len(self.before) > 0 and self.before[-1] == self.train_scale

    @property
    def is_jittered(self) -> bool:
        return self.train_scale[0] < self.train_scale[1]

    @property
    def shown_scale(self) -> str:
        """S as the paper writes it, ``256`` or ``[256;512]``; of a chain all of them, as ``256 → 384``."""
        return " → ".join(f"[{low};{high}]" if low < high else str(low) for low, high in self.path)

    @property
    def title(self) -> str:
        """Such as ``D, S = [256;512]``."""
        return f"{self.name}, S = {self.shown_scale}"

    @property
    def order(self) -> tuple[int, bool, Scales, str, tuple[Scales, ...]]:
        """Sorts nets as the paper does: by column of Table 1, fixed scales before jitter; controls come last."""
        low, high = self.train_scale
        return list(ARCHITECTURES).index(self.architecture), self.is_control, (high, low), self.name, self.before

    @property
    def paper_scale(self) -> Scales | None:
        """The paper's training scale that this one is, scaled by crop/224; None where it is none."""
        if self.is_control:
            return None
        for scales in (FIXED_256, FIXED_384, JITTERED):
            scaled = [scale * self.crop / CROP for scale in scales]
            if all(abs(ours - theirs) <= 1 for ours, theirs in zip(self.train_scale, scaled, strict=True)):
                return scales
        return None

    def as_record(self) -> dict[str, Any]:
        """The fields for JSON; ``before`` only where there is something in it, as older versions wrote it."""
        record = asdict(self)
        return record if self.before else {name: record[name] for name in record if name != "before"}


@dataclass(frozen=True, kw_only=True)
class TableRun:
    """A net of one seed: a training, or a model that was given."""

    net: TableNet
    seed: int
    model: Path  # its run folder, or the model
    stem: str  # names its files
    start: "TableRun | None" = None  # whose weights it begins with
    matched: "TableRun | None" = None  # of a control: what it is compared with, whose updates it has

    @property
    def title(self) -> str:
        """Such as ``D, S = [73;146], seed 2``."""
        return f"{self.net.title}, seed {self.seed}"


@dataclass(frozen=True, kw_only=True)
class TablesOptions:
    """Options of the tables: filled by the command line or in Python, stored in results.jsonl.

    The text under a field is its help on the command line.
    """

    architectures: tuple[str, ...] = ("A", "A-LRN", "B", "C", "D", "E")
    "Columns of Table 1, such as A,A-LRN,B,C,D,E; B-5x5 too."
    models: tuple[str, ...] = ()
    "Test these models, MODEL,MODEL,..., and train nothing."
    seeds: int = 1
    "Trainings of each net."
    batch_norm: bool = False
    "A batch norm after every convolution."
    width: float = 1.0
    "Factor on the channels of every layer."
    crop: int | None = None
    "Side of the training crop. [224; less for smaller images]"
    train_scale: tuple[Scales, ...] = ()
    "S, or Smin,Smax, for every net; repeatable. [those of the paper's Table 3, x crop / 224]"
    test_scales: tuple[int, ...] = ()
    "Test every net at these Q, Q,Q,...: each by itself, and all together; dense where Q is a multiple of 32. [by S]"
    protocols: tuple[str, ...] = ()
    "Test by these protocols alone, NAME,NAME,... [all of Tables 3 to 5]"
    epochs: int | None = None
    "Passes over the training images. [the recipe's]"
    recipe: str = "small-images"
    "paper, small-images, quick ... or a JSON file, the same for every net; paper-chain is a --chain."
    chain: bool = False
    "Train each S from the net of the S before it, at a tenth of the rate, and a control that stays at the first S."
    chain_epochs: int | None = None
    "Passes of the trainings of a chain after its first. [the recipe's, or --epochs]"
    changes: dict[str, Any] = field(default_factory=dict)
    "Change a field of the recipe: key=value."
    split: str | None = None
    "train, val or test. [test where there is one, else val]"
    out: Path | None = None
    "The folder of everything. [runs/tables-DATA]"
    device: str | None = None
    "cpu, cuda or mps; by default the fastest there is."
    precision: str | None = None
    "fp32 or bf16, of the trainings. [the faster]"
    damaged: Literal["fail", "skip"] = "fail"
    "What to do with damaged images: fail, or skip and count them."
    no_pictures: bool = False
    "Put no picture and no score map into the reports: for private photographs; names of files stay."

    def folder(self, data: str) -> Path:
        return self.out or Path("runs") / f"tables-{Path(data).name}"

    def check(self, data: str) -> None:
        """Checks what can be checked before anything is read.

        Raises:
            UsageError: a value that cannot be right.
        """
        if self.seeds < 1:
            raise UsageError(f"--seeds {self.seeds}: give 1 or more")
        if "train_scale" in self.changes:
            raise UsageError("--set train_scale: the tables train at several: give --train-scale for each of them")
        if self.chain_epochs is not None and not self.is_chain:
            raise UsageError(f"--chain-epochs {self.chain_epochs}: give --chain too, or --epochs alone")
        if self.is_chain and len(self.train_scale) == 1:
            raise UsageError("a chain trains at one S after another: give --train-scale twice or more, or leave it out")
        for scale in self.train_scale:
            if self.train_scale.count(scale) > 1:
                raise UsageError(f"--train-scale {','.join(map(str, scale))} is given twice: give each once")
        check_outside(self.folder(data), "--out", data)

    @property
    def is_chain(self) -> bool:
        from verydeep.tables.chains import is_chain  # torch, which --help does without

        return self.chain or is_chain(self.recipe)

    def step(self, number: int = 1, **others: Any) -> "Step":  # noqa: ANN401 - as step_of has them
        """The recipe of a training of a chain, or of a net without one, with its changes."""
        from verydeep.tables.chains import step_of

        given = {"epochs": self.epochs, "chain_epochs": self.chain_epochs} | others
        return step_of(self.recipe, self.changes, number=number, **given)

    def recipe_record(self) -> dict[str, Any]:
        """The fields of the recipe, for JSON; of a chain also what is other in its later trainings."""
        from verydeep.tables.chains import later_record, recipe_of

        first = recipe_of(self.step())
        if not self.is_chain:
            return first.as_record()
        kinds = {"at a larger S": False, "with jitter": True}
        later = {name: later_record(first, recipe_of(self.step(2, is_jittered=kind))) for name, kind in kinds.items()}
        return first.as_record() | {"chain": later}

    def training(self, run: TableRun, epochs_of_matched: int | None = None) -> TrainOptions:
        """The options of one training; of a control with the epochs that the training had which it is compared with."""
        net = run.net
        is_jittered = (run.matched or run).net.is_jittered
        step = self.step(len(net.path), is_jittered=is_jittered, epochs_of_matched=epochs_of_matched)
        return TrainOptions(
            architecture=net.architecture,
            batch_norm=net.batch_norm,
            width=self.width,
            crop=net.crop,
            train_scale=net.train_scale if net.is_jittered else net.train_scale[0],
            recipe=step.recipe,
            changes=step.changes,
            init_from=run.start.model if run.start else None,
            seed=run.seed,
            out=run.model,
            resume=True,
            device=self.device,
            precision=self.precision,
            damaged=self.damaged,
            no_pictures=self.no_pictures,
        )

    def geometry(self, net: TableNet, num_classes: int) -> Geometry:
        """What fixes the shapes of a net to be trained."""
        row, _ = find_architecture(net.architecture)
        return Geometry(
            architecture=row, batch_norm=net.batch_norm, num_classes=num_classes, crop=net.crop, width=self.width
        )

    def as_record(self) -> dict[str, Any]:
        """The options, for JSON, without the folder; those of trainings only where nets are trained."""
        record = {name: value for name, value in asdict(self).items() if name != "out"}
        return {name: record[name] for name in record if name in OF_TESTING} if self.models else record
