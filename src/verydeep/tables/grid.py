"""Which nets the tables need: architectures x training scales x seeds, and how each is tested."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from verydeep.errors import UsageError
from verydeep.nets.architecture import Geometry, find_architecture, scaled_length
from verydeep.paper.tables import FIXED_256, TABLE_3, TABLE_6, Scales
from verydeep.report.pages import REPORT_FILE
from verydeep.runs.options import ComputeOptions
from verydeep.tables.rows import TableNet
from verydeep.training.recipe import Recipe, find_recipe
from verydeep.weights.resolve import read_card

MEASURED = ("centre", "single", "multi-scale", "multi-crop")
"""Protocols that a net is tested by, in this order; multi-crop only with scale jitter, as in the paper's Table 5."""

BOTH = "dense+multi-crop"
"""The protocol whose posteriors are the mean of those of multi-scale and multi-crop."""

FUSED = ("single", "multi-scale", "multi-crop", BOTH)
"""Protocols that several nets are fused by."""

DEFAULT_ARCHITECTURES = ("A", "A-LRN", "B", "C", "D", "E")


@dataclass(frozen=True, kw_only=True)
class Training:
    """A net to be trained.

    Attributes:
        net: what it is.
        seed: of the training.
        folder: its run folder.
    """

    net: TableNet
    seed: int
    folder: Path

    @property
    def title(self) -> str:
        """Such as ``D, S = [73;146], seed 2``."""
        return f"{self.net.title}, seed {self.seed}"

    @property
    def is_trained(self) -> bool:
        """Whether its training came to its end, which the report marks."""
        return (self.folder / REPORT_FILE).exists()


def trainings(
    architectures: Sequence[str],
    *,
    batch_norm: bool,
    crop: int,
    train_scales: Sequence[Scales],
    seeds: int,
    out: Path,
) -> list[Training]:
    """Lists the trainings, all nets of the first seed before those of the next.

    Args:
        architectures: names of columns of Table 1; those that end in ``bn`` have batch norm.
        batch_norm: a batch norm in every net.
        crop: side of the training crop, pixels.
        train_scales: bounds of S for every net, pixels; where there are none those of the paper's Table 3, scaled.
        seeds: number of trainings of each net, with the seeds from 0 on.
        out: the folder of everything.

    Raises:
        UsageError: an unknown architecture, one that is given twice, or no seed.
    """
    if seeds < 1:
        raise UsageError(f"--seeds {seeds}: give 1 or more")
    nets: list[TableNet] = []
    for name in architectures:
        row, named_batch_norm = find_architecture(name)
        has_norm = batch_norm or named_batch_norm
        for scales in train_scales or [_scaled(scales, crop) for scales in paper_scales(row.name)]:
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
    return [
        Training(net=net, seed=seed, folder=out / "nets" / f"{folder_name(net)}-seed{seed}")
        for seed in range(seeds)
        for net in nets
    ]


def paper_scales(architecture: str) -> list[Scales]:
    """The training scales that the paper has of a net; the smaller fixed one where it has none."""
    return [row.train_scale for row in TABLE_3 if row.architecture == architecture] or [FIXED_256]


def _scaled(scales: Scales, crop: int) -> Scales:
    return scaled_length(scales[0], crop), scaled_length(scales[1], crop)


def folder_name(net: TableNet) -> str:
    """Such as ``D-bn-S73-146``."""
    low, high = net.train_scale
    return f"{net.name}-S{low}-{high}" if net.is_jittered else f"{net.name}-S{low}"


def measured_protocols(net: TableNet) -> tuple[str, ...]:
    """The protocols that a net is tested by."""
    return MEASURED if net.is_jittered else tuple(name for name in MEASURED if name != "multi-crop")


def fusions(nets: Sequence[TableNet]) -> list[tuple[TableNet, ...]]:
    """Which nets are fused: as the paper did, whatever their errors.

    The two deepest at each training scale (the paper's D and E with jitter), all of one training scale, and the seven
    of the submission where they are there.

    Paper: section 4.4.
    """
    found: list[tuple[TableNet, ...]] = []
    for scale in dict.fromkeys(net.train_scale for net in nets):
        alike = sorted((net for net in nets if net.train_scale == scale), key=_depth)
        found += [tuple(alike[-2:]), tuple(alike)]
    found.append(_submission(nets))
    return [group for group in dict.fromkeys(found) if len(group) > 1]


def _depth(net: TableNet) -> int:
    return find_architecture(net.architecture)[0].weight_layers


def _submission(nets: Sequence[TableNet]) -> tuple[TableNet, ...]:
    wanted = [(net.architecture, net.train_scale) for net in TABLE_6[0].models]
    by_paper = {(net.architecture, net.paper_scale): net for net in nets}
    return tuple(by_paper[one] for one in wanted) if all(one in by_paper for one in wanted) else ()


@dataclass(frozen=True, kw_only=True)
class Asked:
    """The options of the verb.

    Attributes:
        data: what to train and test on.
        out: the folder of everything.
        models: nets to be tested; where there are some, none is trained.
        architectures: names of columns of Table 1.
        train_scales: bounds of S for every net, pixels; where there are none, those of the paper, scaled.
        seeds: trainings of each net.
        batch_norm: a batch norm in every net.
        width: factor on the channels.
        crop: side of the training crop, pixels; None for the default of the data.
        recipe: name of a recipe, or a JSON file.
        changes: new values of fields of the recipe.
        split: that is tested on; None for test where there is one, else val.
        execution: how trainings are computed.
        skip_damaged: leave damaged images out.
        command: that gives it again.
    """

    data: str
    out: Path
    models: tuple[str, ...] = ()
    architectures: tuple[str, ...] = DEFAULT_ARCHITECTURES
    train_scales: tuple[Scales, ...] = ()
    seeds: int = 1
    batch_norm: bool = False
    width: float = 1.0
    crop: int | None = None
    recipe: str = "small-images"
    changes: dict[str, Any] | None = None
    split: str | None = None
    execution: ComputeOptions | None = None
    skip_damaged: bool = False
    command: str = ""

    def find_recipe(self, net: TableNet | None = None) -> Recipe:
        """The recipe, for one of the nets at its own training scale.

        Raises:
            UsageError: there is no such recipe, a field that cannot be right, or a training scale among its changes.
        """
        changes = self.changes or {}
        if "train_scale" in changes:
            raise UsageError("--set train_scale: the tables train at several: give --train-scale for each of them")
        if net is None:
            return find_recipe(self.recipe, **changes)
        scales = net.train_scale if net.is_jittered else net.train_scale[0]
        return find_recipe(self.recipe, **changes, train_scale=scales)

    def nets(self, crop: int) -> list[Training]:
        """The nets, each with its seed and its folder; the models that were given, where some were.

        Raises:
            UserError: a model cannot be read.
            UsageError: an unknown architecture, or a scale below the crop.
        """
        if self.models:
            return [_given(model, name) for model, name in zip(self.models, short_names(self.models), strict=True)]
        planned = trainings(
            self.architectures,
            batch_norm=self.batch_norm,
            crop=crop,
            train_scales=self.train_scales,
            seeds=self.seeds,
            out=self.out,
        )
        for training in planned:
            self.find_recipe(training.net).scales(crop)
        return planned

    def geometry(self, net: TableNet, num_classes: int) -> Geometry:
        """What fixes the shapes of a net to be trained."""
        return Geometry(
            architecture=find_architecture(net.architecture)[0],
            batch_norm=net.batch_norm,
            num_classes=num_classes,
            crop=net.crop,
            width=self.width,
        )


def short_names(models: Sequence[str]) -> list[str]:
    """Names to tell models apart: of their files or folders alone, where these differ.

    Raises:
        UsageError: a model is given twice.
    """
    if len(set(models)) < len(models):
        raise UsageError("--models: a model is given twice: give each once")
    short = [Path(model).name.removesuffix(".safetensors") for model in models]
    return short if len(set(short)) == len(short) else list(models)


def _given(model: str, name: str) -> Training:
    card = read_card(model)
    net = TableNet(
        name=name,
        architecture=card.architecture,
        batch_norm=card.batch_norm,
        crop=card.crop,
        train_scale=card.train_scale,
    )
    return Training(net=net, seed=0, folder=Path(model))


def named_list(text: str, option: str) -> tuple[str, ...]:
    """Reads names between commas.

    Raises:
        UsageError: one of them is empty.
    """
    names = tuple(name.strip() for name in text.split(","))
    if not all(names):
        raise UsageError(f"{option} {text!r}: give names between commas, such as A,B,D")
    return names


def scale_bounds(scales: Sequence[int]) -> Scales:
    """The bounds of a training scale that was given as one or two numbers.

    Raises:
        UsageError: there are more than two, or the larger comes first.
    """
    if len(scales) > 2 or scales[0] > scales[-1]:
        raise UsageError(f"--train-scale {','.join(map(str, scales))}: give S, or Smin,Smax")
    return scales[0], scales[-1]
