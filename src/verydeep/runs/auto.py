"""The rules of the recipe ``auto``: what is trained for some images, a machine and a number of minutes.

The rules look at a few measured numbers (``Look``) and at nothing else, and the plan that they make is stored in
run.json before the first update: equal plans give equal runs. The measurements behind the numbers: results/auto.jsonl.

Paper: section 3.1 for the training; the plan is our addition.
"""

import math
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Final, Literal

from verydeep.errors import UsageError
from verydeep.nets.architecture import Geometry, layers
from verydeep.paper.constants import TOTAL_STRIDE

DEFAULT_MINUTES: Final = 10.0

SIDES: Final = (64, 96, 128, 160, 192, 224)
"""Sides of the views, pixels."""

SHARE_OF_TIME: Final = 0.88
"""Of the time that is asked for, that is planned: the rest is for what was measured too fast."""

SHARE_OF_LINEAR: Final = 0.7
"""Of the time, that a linear classifier with nothing after it may take."""

MOST_VIEWS: Final = 8
"""Stored of each image. On clothing, four epochs on 2 views have 14.4% error, on 5 views 10.9%."""

FEWEST_EPOCHS: Final = {5: 4, 4: 8, 3: 12}
"""Epochs for which the time must suffice before training begins at a block: the lower, the more it takes to pay."""

PROCESS_BYTES: Final = 1_500_000_000
"""Of the process without images and maps: libraries, the net, buffers of the kernel."""

SMALLEST_PHOTOGRAPHS: Final = 32
"""Shorter side of images, pixels, below which a net of photographs is no start: digits, of 8, have 4.2% error
by its descriptors and 0.8% from noise, both in a minute."""

SMALL_IMAGES: Final = 64
"""Shorter side of images, pixels, up to which a net from noise follows the linear classifier where there are many."""

ENOUGH_FOR_NOISE: Final = 10_000
"""Training images from which on that is so."""

SHARE_BEFORE_NOISE: Final = 0.2
"""Of the time, for the linear classifier there."""

HEAD_RATE: Final = 10.0
"""Factor on the rate of the classifier, for descriptors of length 1."""

UPDATES_OF_EPOCH: Final = 16
"""Updates of an epoch at least, for which the batch is made smaller, down to 8."""

FEWEST_UPDATES: Final = 60
"""For which there must be time."""

MOST_EPOCHS: Final = 24

SMALL_VALIDATION: Final = 200
"""Validation images below which cross-validation on the training images decides what is kept."""

FOLDS: Final = 3

SHARE_OF_MEMORY: Final = 0.35
"""Of the free memory, for stored maps."""


@dataclass(frozen=True, kw_only=True)
class Look:
    """What was found before planning.

    Attributes:
        num_train: training images.
        num_val: validation images.
        num_classes: of them.
        side: median of the shorter sides of the images, pixels.
        mirror: whether a mirrored image shows its class.
        forward_macs: per second, of the start net's convolutions in inference.
        update_macs: per second, in training: three for each of the forward pass.
        classifier_seconds: for the linear classifier, estimated.
        seconds_used: since the command began, with what reading all images will take.
        free_bytes: of memory.
        image_bytes: of the decoded images that will be held.
        length: of the descriptors of a few images, on average: what the rate of the classifier is for.
    """

    num_train: int
    num_val: int
    num_classes: int
    side: int
    mirror: bool
    forward_macs: float
    update_macs: float
    classifier_seconds: float
    seconds_used: float
    free_bytes: int
    image_bytes: int
    length: float


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What a run of ``auto`` does.

    Attributes:
        seconds: time to end in.
        start: the MODEL whose convolutions are used; None trains from random weights.
        side: of the views, pixels; the test scale too.
        share: of the training images that are used: 1 where time and memory do for all.
        num_views: stored of each image.
        then: what follows the linear classifier, or ``noise`` without one.
        net: of a training from noise: architecture, batch_norm, width, crop and head.
        first_block: the first block that is fine-tuned.
        folds: of the cross-validation that decides what is kept; 0 where the validation images do.
        changes: fields of the recipe that the plan chooses.
        expected_seconds: of all steps, as measured for a moment.
        memory_bytes: of the process at most, estimated.
        reasons: a line for each choice.
        longer: what twice the time would do.
    """

    seconds: float
    start: str | None
    side: int
    share: float = 1.0
    num_views: int = 0
    then: Literal["fine-tune", "noise"] | None = None
    net: dict[str, Any] | None = None
    first_block: int = 5
    folds: int = 0
    changes: dict[str, Any] = field(default_factory=dict)
    expected_seconds: float = 0.0
    memory_bytes: int = 0
    reasons: tuple[str, ...] = ()
    longer: str | None = None

    @property
    def title(self) -> str:
        """What is done, in a few words."""
        if self.then == "fine-tune":
            blocks = "the last block" if self.first_block == 5 else f"blocks {self.first_block} to 5"
            return f"a linear classifier at {self.side} pixels, then {self.changes['epochs']} epochs of {blocks}"
        if self.start is None:
            return f"{self.changes['epochs']} epochs from noise"
        return f"a linear classifier at {self.side} pixels" + (", then a net from noise" if self.then else "")

    @property
    def begun_from(self) -> str:
        """The start of a plan that has one."""
        assert self.start is not None
        return self.start

    @staticmethod
    def from_record(record: dict[str, Any]) -> "Plan":
        return Plan(**record | {"reasons": tuple(record["reasons"])})

    def as_record(self) -> dict[str, Any]:
        return asdict(self)


def block_macs(geometry: Geometry, side: int, first_block: int = 1) -> float:
    """MACs of the convolutions from a block on, for one image of a side, pixels."""
    rows = [row for row in layers(geometry) if row.kind == "convolution" and int(row.name[4]) >= first_block]
    return float(sum(row.macs for row in rows)) * (side / geometry.crop) ** 2


def map_bytes(geometry: Geometry, side: int, first_block: int) -> int:
    """Bytes of the stored map of a view before a block, in half precision."""
    channels = next(row.channels for row in layers(geometry) if row.name == f"pool{first_block - 1}")
    map_side = side >> (first_block - 1)
    return 2 * channels * map_side**2


class Costs:
    """What the steps take at a side: seconds, by the speeds of a look."""

    def __init__(self, geometry: Geometry, look: Look, side: int) -> None:
        self.geometry, self.look, self.side = geometry, look, side

    def maps(self, num_views: int = 1) -> float:
        return self.look.num_train * num_views * block_macs(self.geometry, self.side) / self.look.forward_macs

    def stored(self, first_block: int) -> int:
        """Bytes of the maps of a view before a block."""
        return self.look.num_train * map_bytes(self.geometry, self.side, first_block)

    def test(self) -> float:
        """Testing the validation images by single, whose views have a third more pixels, and by mirror images too."""
        views = 4 / 3 * (1 + self.look.mirror) * self.look.num_val
        return views * block_macs(self.geometry, self.side) / self.look.forward_macs

    def epoch(self, first_block: int) -> float:
        macs = 3 * block_macs(self.geometry, self.side, first_block)
        validated = self.look.num_val * block_macs(self.geometry, self.side, first_block)
        return self.look.num_train * macs / self.look.update_macs + validated / self.look.forward_macs

    def linear(self) -> float:
        """All that the linear classifier takes."""
        return self.maps() + self.look.classifier_seconds + self.test()

    def last(self) -> float:
        """The last test, score maps of a dozen errors at twice the side, and the page."""
        return self.test() + 3 + 12 * 4 * 4 / 3 * block_macs(self.geometry, self.side) / self.look.forward_macs

    def epochs(self, first_block: int, folds: int, seconds: float, most_views: int) -> int:
        """Epochs that fit into what is left of some seconds, each with a new view of every image while these fit."""
        left = seconds - self.linear() - self.last()
        each = self.epoch(first_block) * max(1, folds)  # a cross-validation trains folds - 1 times as much again
        both = int(left / (each + self.maps()))
        return max(both, int((left - self.maps(most_views)) / each))


def choose_batch_size(num_train: int) -> int:
    """A power of two from 8 to 32, so that few images are enough updates too."""
    return min(max(8, 1 << int(math.log2(max(1, num_train / UPDATES_OF_EPOCH)))), 32)


def make_plan(
    geometry: Geometry, start: str, look: Look, *, seconds: float, pinned: dict[str, Any], tunes: bool = True
) -> Plan:
    """Plans the linear classifier on a start net and the fine-tuning after it.

    Args:
        geometry: of the start net.
        start: its MODEL.
        look: what was found.
        seconds: to end in.
        pinned: what the user has fixed: ``side``, and fields of the recipe.
        tunes: whether anything follows the linear classifier, which else may take its whole share of the time.
    """
    left = SHARE_OF_TIME * seconds - look.seconds_used
    if left <= 0:
        raise UsageError(
            f"--minutes {seconds / 60:g}: reading {look.num_train:,} images takes about {look.seconds_used / 60:.1f} "
            f"alone: give {math.ceil(3 * look.seconds_used / 60)} or more"
        )
    smallest, memory = Costs(geometry, look, SIDES[0]), SHARE_OF_MEMORY * look.free_bytes
    share = min(1.0, SHARE_OF_LINEAR * left / smallest.linear(), memory / smallest.stored(5) / 2)
    if share < 1:
        look = replace(look, num_train=max(look.num_classes, int(share * look.num_train)))
    most = max(SIDES[0], min(SIDES[-1], 2 * look.side // TOTAL_STRIDE * TOTAL_STRIDE))
    sides = [pinned["side"]] if "side" in pinned else [side for side in reversed(SIDES) if side <= most]
    batch_size = pinned.get("batch_size") or choose_batch_size(look.num_train)
    plan = Plan(
        seconds=seconds,
        start=start,
        side=sides[-1],
        share=share,
        folds=FOLDS if look.num_val < SMALL_VALIDATION else 0,
        num_views=1,
        changes={"batch_size": batch_size, "head_rate": HEAD_RATE / look.length**2},
        memory_bytes=look.image_bytes + PROCESS_BYTES,
        reasons=() if share == 1 else (f"images: {share:.1%} of those of each class: there is no time for more",),
    )
    for side in sides if tunes else ():
        found = _fine_tuning(plan, Costs(geometry, look, side), left, memory, pinned)
        if found is not None:
            return _said(found, look, pinned, is_largest=side == sides[0])
    linear = [side for side in sides if Costs(geometry, look, side).linear() <= SHARE_OF_LINEAR * left]
    side = linear[0] if linear else sides[-1]
    costs = Costs(geometry, look, side)
    changes = plan.changes | {"train_scale": side, "trainable": "fc", "epochs": 1}
    spent = look.seconds_used + costs.linear() + costs.last()
    return _said(
        replace(plan, side=side, folds=0, changes=changes, expected_seconds=spent), look, pinned,
        is_largest=side == sides[0],
    )  # fmt: skip


def _fine_tuning(plan: Plan, costs: Costs, left: float, memory: float, pinned: dict[str, Any]) -> Plan | None:
    """Plans to fine-tune at a side, from the lowest block for which time and memory do; None where there is none."""
    blocks = sorted(FEWEST_EPOCHS)
    if "trainable" in pinned:
        blocks = [block for block in blocks if pinned["trainable"] == f"conv{block}"]
    updates = math.ceil(costs.look.num_train / plan.changes["batch_size"])
    for first_block in blocks:
        most_views = min(MOST_VIEWS, int(memory / costs.stored(first_block)))
        fitting = costs.epochs(first_block, plan.folds, left, most_views)
        fewest = pinned.get("epochs") or max(FEWEST_EPOCHS[first_block], math.ceil(FEWEST_UPDATES / updates))
        if fitting < fewest or most_views < 2:
            continue
        epochs = pinned.get("epochs") or min(fitting, max(MOST_EPOCHS, fewest))
        num_views = min(most_views, epochs + 1)
        each = costs.epoch(first_block) * max(1, plan.folds)
        spent = costs.linear() + costs.maps(num_views - 1) + epochs * each + costs.last()
        return replace(
            plan,
            side=costs.side,
            num_views=num_views,
            then="fine-tune",
            first_block=first_block,
            changes=plan.changes | {"train_scale": costs.side, "trainable": f"conv{first_block}", "epochs": epochs},
            expected_seconds=costs.look.seconds_used + spent,
            memory_bytes=plan.memory_bytes + num_views * costs.stored(first_block),
        )
    return None


def _said(plan: Plan, look: Look, pinned: dict[str, Any], *, is_largest: bool) -> Plan:
    """Adds the reasons for the choices of a plan."""
    if "side" in pinned:
        why = "as asked"
    elif not is_largest:
        why = "the largest for which there is time and memory"
    else:
        why = "that of the net's own training" if plan.side == SIDES[-1] else f"twice the {look.side} of the images"
    if plan.then is None:
        training = "none, the linear classifier takes the time"
    else:
        names = "the last block" if plan.first_block == 5 else f"blocks {plan.first_block} to 5"
        epochs = plan.changes["epochs"]
        training = f"{names} and the classifier, {epochs} epochs on stored maps of {plan.num_views} views an image"
    return replace(plan, reasons=(*plan.reasons, f"size: {plan.side} pixels: {why}", f"training: {training}"))


def linear_plan(geometry: Geometry, start: str, look: Look, *, seconds: float) -> Plan:
    """Plans a linear classifier in a fifth of the time, before a training from noise."""
    plan = make_plan(geometry, start, look, seconds=SHARE_BEFORE_NOISE * seconds, pinned={}, tunes=False)
    return replace(plan, seconds=seconds, reasons=plan.reasons[:-1])
