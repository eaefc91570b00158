"""Options of the tables, and the nets they need: architectures x training scales x seeds.

Importing this needs no torch.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar, Literal

from verydeep.errors import UsageError
from verydeep.files import check_outside
from verydeep.nets.architecture import ARCHITECTURES, Geometry, find_architecture, scaled_length
from verydeep.paper.tables import CROP, FIXED_256, FIXED_384, JITTERED, TABLE_3, TABLE_6, Scales
from verydeep.runs.options import TrainOptions

DENSE_AND_CROPS = "dense+multi-crop"
"""The protocol whose posteriors are the mean of those of multi-scale and multi-crop."""

FUSED = ("single", "multi-scale", "multi-crop", DENSE_AND_CROPS)
"""Protocols that several nets are fused by."""

OF_TESTING = ("models", "split", "out", "device", "damaged", "no_pictures")
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

    @property
    def is_jittered(self) -> bool:
        return self.train_scale[0] < self.train_scale[1]

    @property
    def shown_scale(self) -> str:
        """S as the paper writes it: ``256`` or ``[256;512]``."""
        low, high = self.train_scale
        return f"[{low};{high}]" if self.is_jittered else str(low)

    @property
    def title(self) -> str:
        """Such as ``D, S = [256;512]``."""
        return f"{self.name}, S = {self.shown_scale}"

    @property
    def order(self) -> tuple[int, Scales, str]:
        """Sorts nets as the paper does: by column of Table 1, fixed scales before jitter."""
        return list(ARCHITECTURES).index(self.architecture), (self.train_scale[1], self.train_scale[0]), self.name

    @property
    def paper_scale(self) -> Scales | None:
        """The paper's training scale that this one is, scaled by crop/224; None where it is none."""
        for scales in (FIXED_256, FIXED_384, JITTERED):
            scaled = [scale * self.crop / CROP for scale in scales]
            if all(abs(ours - theirs) <= 1 for ours, theirs in zip(self.train_scale, scaled, strict=True)):
                return scales
        return None

    @property
    def protocols(self) -> tuple[str, ...]:
        """The protocols that it is tested by; many crops only with scale jitter, as in the paper's Table 5."""
        dense = ("centre", "single", "multi-scale")
        return (*dense, "multi-crop", DENSE_AND_CROPS) if self.is_jittered else dense


@dataclass(frozen=True, kw_only=True)
class TableRun:
    """A net of one seed: a training, or a model that was given."""

    net: TableNet
    seed: int
    model: Path  # its run folder, or the model
    stem: str  # names its files

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
    epochs: int | None = None
    "Passes over the training images. [the recipe's]"
    recipe: str = "small-images"
    "paper, small-images, quick ... or a JSON file; the same for every net."
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
        check_outside(self.folder(data), "--out", data)

    def training(self, run: TableRun | None = None) -> TrainOptions:
        """The options of one training; without a run, what all trainings have in common."""
        common = TrainOptions(
            width=self.width,
            recipe=self.recipe,
            changes=self.changes,
            epochs=self.epochs,
            device=self.device,
            precision=self.precision,
            damaged=self.damaged,
            no_pictures=self.no_pictures,
        )
        if run is None:
            return common
        net = run.net
        return replace(
            common,
            architecture=net.architecture,
            batch_norm=net.batch_norm,
            crop=net.crop,
            train_scale=net.train_scale if net.is_jittered else net.train_scale[0],
            seed=run.seed,
            out=run.model,
            resume=True,
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


def list_runs(options: TablesOptions, *, crop: int, out: Path) -> list[TableRun]:
    """Lists the trainings, all nets of the first seed before those of the next; ``crop`` is that of the nets.

    Raises:
        UsageError: an unknown architecture, or one that is given twice.
    """
    nets: list[TableNet] = []
    for name in options.architectures:
        row, named_batch_norm = find_architecture(name)
        has_norm = options.batch_norm or named_batch_norm
        for scales in options.train_scale or [_scaled(scales, crop) for scales in paper_scales(row.name)]:
            net = TableNet(
                name=f"{row.name}-bn" if has_norm else row.name,
                architecture=row.name,
                batch_norm=has_norm,
                crop=crop,
                train_scale=scales,
            )
            if net in nets:
                raise UsageError(f"{net.title} is asked for twice: give each architecture and scale once")
            nets.append(net)
    stems = [(net, f"{_stem(net)}-seed{seed}", seed) for seed in range(options.seeds) for net in nets]
    return [TableRun(net=net, seed=seed, model=out / "nets" / stem, stem=stem) for net, stem, seed in stems]


def _stem(net: TableNet) -> str:
    """Such as ``D-bn-S73-146``."""
    low, high = net.train_scale
    return f"{net.name}-S{low}-{high}" if net.is_jittered else f"{net.name}-S{low}"


def paper_scales(architecture: str) -> list[Scales]:
    """The training scales that the paper has of a net; the smaller fixed one where it has none."""
    return [row.train_scale for row in TABLE_3 if row.architecture == architecture] or [FIXED_256]


def _scaled(scales: Scales, crop: int) -> Scales:
    return scaled_length(scales[0], crop), scaled_length(scales[1], crop)


def short_names(models: Sequence[str]) -> list[str]:
    """Names to tell models apart: of their files or folders alone, where these differ.

    Raises:
        UsageError: a model is given twice.
    """
    if len(set(models)) < len(models):
        raise UsageError("--models: a model is given twice: give each once")
    short = [Path(model).name.removesuffix(".safetensors") for model in models]
    return short if len(set(short)) == len(short) else list(models)


def fusions(nets: Sequence[TableNet]) -> list[tuple[TableNet, ...]]:
    """Which nets are fused: as the paper did, whatever their errors.

    The two deepest at each training scale (the paper's D and E with jitter), all of one training scale, and the seven
    of the submission where they are there.

    Paper: section 4.4.
    """
    groups: list[tuple[TableNet, ...]] = []
    for scale in dict.fromkeys(net.train_scale for net in nets):
        alike = sorted((net for net in nets if net.train_scale == scale), key=_depth)
        groups += [tuple(alike[-2:]), tuple(alike)]
    submitted = [(net.architecture, net.train_scale) for net in TABLE_6[0].models]
    by_paper = {(net.architecture, net.paper_scale): net for net in nets}
    if all(one in by_paper for one in submitted):
        groups.append(tuple(by_paper[one] for one in submitted))
    return [group for group in dict.fromkeys(groups) if len(group) > 1]


def _depth(net: TableNet) -> int:
    return ARCHITECTURES[net.architecture].weight_layers
