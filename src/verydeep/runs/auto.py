"""The rules of the recipe ``auto``: what is trained for some images, a machine and a number of minutes.

The rules look at a few measured numbers (``Look``) and at nothing else, and the plan that they make is stored in
run.json before the first update: equal plans give equal runs. The measurements behind the numbers: results/auto.jsonl.

Paper: section 3.1 for the training; the plan is our addition.
"""

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Final, Literal

from verydeep.errors import UsageError
from verydeep.nets.architecture import Geometry, layers
from verydeep.paper.constants import TOTAL_STRIDE

DEFAULT_MINUTES: Final = 10.0

SIDES: Final = (64, 96, 128, 160, 192, 224)
"""Sides of the views, pixels."""

SHARE_OF_MAPS: Final = 0.4
"""Of the time, that the maps of the first two views may take: the larger the views, the fewer updates are left."""

SHARE_OF_TIME: Final = 0.88
"""Of the time that is asked for, that is planned: the rest is for what was measured too fast."""

MOST_VIEWS: Final = 6
"""Stored of each image."""

ENOUGH_EPOCHS: Final = 12
"""Above them, time goes into more views."""

PROCESS_BYTES: Final = 1_500_000_000
"""Of the process without images and maps: libraries, the net, buffers of the kernel."""

FEWEST_EPOCHS: Final = {5: 2, 4: 6, 3: 12}
"""Epochs for which the time must suffice before training begins at a block: the lower, the more it takes to pay."""

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
        then: what follows the linear classifier.
        first_block: the first block that is fine-tuned.
        folds: of the cross-validation that decides what is kept; 0 where the validation images do.
        changes: fields of the recipe that the plan chooses.
        expected_seconds: of all steps, as measured for a moment.
        memory_bytes: of the process at most, estimated.
        reasons: a line for each choice.
    """

    seconds: float
    start: str | None
    side: int
    share: float = 1.0
    num_views: int = 0
    then: Literal["fine-tune", "noise"] | None = None
    first_block: int = 5
    folds: int = 0
    changes: dict[str, Any] = field(default_factory=dict)
    expected_seconds: float = 0.0
    memory_bytes: int = 0
    reasons: tuple[str, ...] = ()

    @property
    def title(self) -> str:
        """What is done, in a few words."""
        if self.then == "fine-tune":
            blocks = "the last block" if self.first_block == 5 else f"blocks {self.first_block} to 5"
            return f"a linear classifier at {self.side} pixels, then {self.changes['epochs']} epochs of {blocks}"
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

    @property
    def averaged(self) -> int:
        """Views that the descriptors are the mean of."""
        return 2 if self.look.mirror else 1

    def maps(self, num_views: int) -> float:
        return self.look.num_train * num_views * block_macs(self.geometry, self.side) / self.look.forward_macs

    def stored(self, first_block: int) -> int:
        """Bytes of the maps before a block, of the views without those drawn at random."""
        return self.averaged * self.look.num_train * map_bytes(self.geometry, self.side, first_block)

    def test(self) -> float:
        """Testing the validation images by single, whose views have a third more pixels, and by mirror images too."""
        views = 4 / 3 * self.averaged * self.look.num_val
        return views * block_macs(self.geometry, self.side) / self.look.forward_macs

    def epoch(self, first_block: int) -> float:
        macs = 3 * block_macs(self.geometry, self.side, first_block)
        validated = self.look.num_val * block_macs(self.geometry, self.side, first_block)
        return self.look.num_train * macs / self.look.update_macs + validated / self.look.forward_macs

    def linear(self) -> float:
        """All that a linear classifier takes."""
        return self.maps(self.averaged) + self.look.classifier_seconds + self.test()

    def report(self) -> float:
        """Score maps of a dozen errors at twice the side, and the page."""
        return 3 + 12 * 4 * 4 / 3 * block_macs(self.geometry, self.side) / self.look.forward_macs


def choose_side(look: Look, costs: Callable[[int], Costs], seconds: float) -> tuple[int, str]:
    """The largest side whose maps fit into their share of time and memory; images are enlarged twofold at most."""
    most = max(SIDES[0], min(SIDES[-1], 2 * look.side // TOTAL_STRIDE * TOTAL_STRIDE))
    stored = SHARE_OF_MEMORY * look.free_bytes
    side, limit = SIDES[0], ""
    for larger in (candidate for candidate in SIDES[1:] if candidate <= most):
        if costs(larger).linear() > SHARE_OF_MAPS * seconds:
            limit = f"the largest whose maps take no more than {SHARE_OF_MAPS:.0%} of the time"
        elif costs(larger).stored(5) > stored:
            limit = f"the largest whose maps take no more than {SHARE_OF_MEMORY:.0%} of the free memory"
        else:
            side = larger
            continue
        return side, limit
    return side, "that of the net's own training" if side == SIDES[
        -1
    ] else f"twice the {look.side} of the images at most"


def choose_batch_size(num_train: int) -> int:
    """A power of two from 8 to 32, so that few images are enough updates too."""
    return min(max(8, 1 << int(math.log2(max(1, num_train / UPDATES_OF_EPOCH)))), 32)


def make_plan(geometry: Geometry, start: str, look: Look, *, seconds: float, pinned: dict[str, Any]) -> Plan:
    """Plans the linear classifier on a start net and the fine-tuning after it.

    Args:
        geometry: of the start net.
        start: its MODEL.
        look: what was found.
        seconds: to end in.
        pinned: what the user has fixed: ``side``, and fields of the recipe.
    """
    left = SHARE_OF_TIME * seconds - look.seconds_used
    if left <= 0:
        raise UsageError(
            f"--minutes {seconds / 60:g}: reading {look.num_train:,} images takes about {look.seconds_used / 60:.1f} "
            f"alone: give {math.ceil(3 * look.seconds_used / 60)} or more"
        )
    smallest = Costs(geometry, look, SIDES[0])
    share = min(1.0, SHARE_OF_MAPS * left / smallest.linear(), SHARE_OF_MEMORY * look.free_bytes / smallest.stored(5))
    if share < 1:
        look = replace(look, num_train=max(look.num_classes, int(share * look.num_train)))

    def costs_at(side: int) -> Costs:
        return Costs(geometry, look, side)

    side, why = (pinned["side"], "as asked") if "side" in pinned else choose_side(look, costs_at, left)
    costs = costs_at(side)
    plan = Plan(
        seconds=seconds,
        start=start,
        side=side,
        num_views=costs.averaged,
        expected_seconds=look.seconds_used + costs.linear() + costs.report(),
        changes={"train_scale": side, "trainable": "fc", "epochs": 1},
        memory_bytes=look.image_bytes + PROCESS_BYTES,
        share=share,
        reasons=(*_about_share(share), f"size: {side} pixels: {why}"),
    )
    left -= costs.linear() + costs.report() + costs.test()
    folds = FOLDS if look.num_val < SMALL_VALIDATION else 0
    epochs, batch_size = pinned.get("epochs"), pinned.get("batch_size") or choose_batch_size(look.num_train)
    least = math.ceil(FEWEST_UPDATES * batch_size / look.num_train)
    blocks = sorted(FEWEST_EPOCHS)
    if "trainable" in pinned:
        blocks = [block for block in blocks if pinned["trainable"] == f"conv{block}"]
    for first_block in blocks:
        one_epoch = costs.epoch(first_block) * max(1, folds)  # a cross-validation trains folds - 1 times as much again
        stored = costs.stored(first_block) // costs.averaged
        num_views, fitting = costs.averaged, int(left / one_epoch)
        while num_views < MOST_VIEWS and fitting > ENOUGH_EPOCHS:  # what is not needed for epochs goes into views
            num_views += 1
            fitting = int((left - costs.maps(num_views - costs.averaged)) / one_epoch)
        fewest = epochs or max(FEWEST_EPOCHS[first_block], least)
        is_last = epochs is not None and first_block == blocks[-1]  # what is pinned is kept, whatever it takes
        if (fitting < fewest and not is_last) or costs.stored(first_block) > SHARE_OF_MEMORY * look.free_bytes:
            continue
        num_views = max(costs.averaged, min(num_views, int(SHARE_OF_MEMORY * look.free_bytes / stored)))
        number = epochs or min(fitting, max(MOST_EPOCHS, least))
        extra = costs.maps(num_views - costs.averaged) + number * one_epoch + costs.test()
        names = "the last block" if first_block == 5 else f"blocks {first_block} to 5"
        return replace(
            plan,
            num_views=num_views,
            then="fine-tune",
            first_block=first_block,
            folds=folds,
            changes=plan.changes
            | {"trainable": f"conv{first_block}", "epochs": number, "batch_size": batch_size}
            | {"head_rate": HEAD_RATE / look.length**2},
            expected_seconds=plan.expected_seconds + extra,
            memory_bytes=plan.memory_bytes + num_views * stored,
            reasons=(
                *plan.reasons,
                f"training: {names} and the classifier, {number} epochs on stored maps of {num_views} views an image",
            ),
        )
    return replace(plan, reasons=(*plan.reasons, "training: none, the linear classifier takes the time"))


def _about_share(share: float) -> tuple[str, ...]:
    return () if share == 1 else (f"images: {share:.1%} of those of each class: time and memory do for no more",)
