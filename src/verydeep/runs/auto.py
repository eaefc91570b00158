"""The rules of the recipe ``auto``: what is trained for some images, a machine and a number of minutes.

The rules look at a few measured numbers (``Look``) and at nothing else, and the plan that they make is stored in
run.json before the first update: equal plans, equal runs. results/auto.jsonl has the errors by side; the single runs
behind the other numbers are in docs/decisions.md. ``python -m benchmarks.auto_rules`` measures both anew.

Paper: section 3.1 for the training; the plan is our addition.
"""

import math
from dataclasses import replace
from typing import Any, Final

import numpy as np

from verydeep.errors import UsageError
from verydeep.nets.architecture import Geometry, layers
from verydeep.paper.constants import TOTAL_STRIDE
from verydeep.runs.plan import MEASURED_SIDES, Look, Plan

DEFAULT_MINUTES: Final = 10.0

SIDES: Final = (64, 96, 128, 160, 192, 224)
"""Sides of the views, pixels."""

SHARE_OF_TIME: Final = 0.9
"""Of the time that is asked for, that is planned: the rest is for what was measured too fast."""

SHARE_OF_NOISE: Final = 0.82
"""The same for a training from noise: digits took 1.2 times what was planned."""

SHARE_OF_LINEAR: Final = 0.7
"""Of the time, that a linear classifier with nothing after it may take."""

ERROR_BY_SIDE: Final = {64: 1.67, 96: 1.47, 128: 1.12, 160: 1.0, 192: 0.95, 224: 0.95}
"""Error of a linear classifier by the side of the views, beside that at 160 pixels. In cross-validation clothing has
25.9% at 64, 22.8% at 96, 17.4% at 128 (results/auto.jsonl); mirrored too 15.4% at 160, 14.3% at 192, 14.9% at 224.
"""

ENLARGED: Final = 0.5
"""What a pixel of a view beyond the size of the image counts: signdigits, of 100, have 8.6% at 96 and 7.1% at 128
(results/auto.jsonl)."""

ERROR_BY_EPOCHS: Final = {0: 1.0, 2: 0.93, 3: 0.86, 4: 0.8, 6: 0.78, 8: 0.76, 12: 0.74, 24: 0.72}
"""Error after so many epochs of the last block, beside that of the linear classifier: clothing at 160 pixels."""

ERROR_BY_VIEWS: Final = {2: 1.0, 3: 0.98, 4: 0.965, 6: 0.945, 8: 0.93}
"""The same by the number of views that are stored of each image."""

ERROR_BY_BLOCK: Final = {5: 1.0, 4: 0.65, 3: 0.62}
"""The same, by the first block that is trained: 0.83 on clothing, 0.5 on signdigits for the last two
(docs/decisions.md)."""

GAIN_BY_IMAGES: Final = {100: 0.1, 300: 0.35, 1000: 0.8, 3000: 1.0}
"""Share of what fine-tuning gains on clothing that is expected of so many training images. Of 80 photographs it gained
nothing in cross-validation."""

FEWEST_EPOCHS: Final = {5: 3, 4: 4, 3: 8}
"""Epochs for which the time must suffice before training begins at a block: the lower, the more it takes to pay."""

WHOLE: Final = 4 / 3
"""Pixels of a photograph beside those of its central square."""

PROCESS_BYTES: Final = 2_000_000_000
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

SMALL_VALIDATION: Final = 100
"""Validation images below which cross-validation on the training images decides what is kept."""

FOLDS: Final = 3

SHARE_OF_MEMORY: Final = 0.35
"""Of the free memory, for stored maps."""


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

    def between(self, speeds: tuple[float, float]) -> float:
        """Seconds of an image at this side, from those at the two sides that were measured, by the number of pixels."""
        small, large = (side**2 for side in MEASURED_SIDES)
        return speeds[0] + (speeds[1] - speeds[0]) * (self.side**2 - small) / (large - small)

    def maps(self, num_views: int) -> float:
        """Square views of the training images."""
        return self.look.num_train * num_views * self.between(self.look.forward)

    def stored(self, first_block: int) -> int:
        """Bytes of the maps of a view before a block."""
        return self.look.num_train * map_bytes(self.geometry, self.side, first_block)

    def tested(self) -> float:
        """Views of the validation images that single tests, in squares."""
        return WHOLE * (1 + self.look.mirror) * self.look.num_val

    def test(self) -> float:
        """Testing the validation images by single."""
        return self.tested() * self.between(self.look.forward)

    def test_again(self, first_block: int) -> float:
        """The same for another net with the same lower blocks: the upper ones are computed at half the speed."""
        share = block_macs(self.geometry, self.side, first_block) / block_macs(self.geometry, self.side)
        return 2 * share * self.test()

    def kept(self, first_block: int) -> int:
        """Bytes of the maps of the validation images that are tested, in float32."""
        return round(2 * self.tested() * map_bytes(self.geometry, self.side, first_block))

    def epoch(self, first_block: int, batch_size: int) -> float:
        """An epoch on stored maps; the cost of an image is that of the last block, by multiplications.

        A validation image costs a third of an update.
        """
        more = block_macs(self.geometry, self.side, first_block) / block_macs(self.geometry, self.side, 5)
        images = (self.look.num_train + self.look.num_val / 3) * self.between(self.look.update) * more
        return images + math.ceil(self.look.num_train / batch_size) * self.look.update_fixed * (6 - first_block)

    def linear(self) -> float:
        """All that the linear classifier takes."""
        return WHOLE * self.maps(1) + self.look.classifier_seconds + self.test()

    def last(self) -> float:
        """Score maps of a dozen errors at twice the side, and the page."""
        return 3 + 12 * 4 * WHOLE * self.between(self.look.forward)

    def trained(self, epochs: int, first_block: int, num_views: int, folds: int, batch_size: int) -> float:
        """Seconds of the steps after the linear classifier: views, cross-validation, epochs, tests."""
        epoch = self.epoch(first_block, batch_size)
        checked = folds * (self.look.classifier_seconds + (1 - 1 / max(folds, 2)) * epochs * epoch)
        views = self.maps(num_views - 1) + WHOLE * self.look.num_val * self.between(self.look.forward)
        return views + checked + epochs * epoch + 2 * self.test_again(first_block)


def head_rate(length: float) -> float:
    """The factor on the rate of the classifier for descriptors of a length on average."""
    return HEAD_RATE / length**2


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
    sides = [pinned["side"]] if "side" in pinned else [side for side in SIDES if side <= most]
    batch_size = pinned.get("batch_size") or choose_batch_size(look.num_train)
    plan = Plan(
        seconds=seconds,
        start=start,
        side=sides[0],
        share=share,
        folds=FOLDS if look.num_val < SMALL_VALIDATION else 0,
        num_views=1,
        changes={"batch_size": batch_size, "head_rate": head_rate(look.length)},
        memory_bytes=look.image_bytes + PROCESS_BYTES,
        reasons=() if share == 1 else (f"images: {share:.1%} of those of each class: there is no time for more",),
    )
    plans = [_linear(plan, Costs(geometry, look, side)) for side in sides]
    for side in sides if tunes else ():
        plans += _fine_tunings(plan, Costs(geometry, look, side), left, memory, pinned)
    asked = [one for one in plans if one.then] if "epochs" in pinned else []  # what is pinned is kept
    fitting = [one for one in plans if one.expected_seconds - look.seconds_used <= left]
    possible = asked or fitting or plans[:1]
    best = min(possible, key=lambda one: (expected_error(one, look), one.expected_seconds))
    reasons = _reasons(best, look, pinned, sides, possible, is_late=not (asked or fitting))
    return replace(best, reasons=(*best.reasons, *reasons))


def expected_error(plan: Plan, look: Look) -> float:
    """The error to expect of a plan, beside that of a linear classifier at 160 pixels: what plans are compared by.

    Of few images the upper blocks learn little more than the linear classifier does.
    """
    shown = plan.side if plan.side <= look.side else look.side + ENLARGED * (plan.side - look.side)
    by_side = float(np.interp(shown, list(ERROR_BY_SIDE), list(ERROR_BY_SIDE.values())))
    if plan.then is None:
        return by_side
    by_epochs = np.interp(plan.changes["epochs"], list(ERROR_BY_EPOCHS), list(ERROR_BY_EPOCHS.values()))
    after = float(by_epochs) * ERROR_BY_BLOCK[plan.first_block] * ERROR_BY_VIEWS[plan.num_views]
    learnt = (1 - after) * float(
        np.interp(np.log10(look.num_train), np.log10(list(GAIN_BY_IMAGES)), list(GAIN_BY_IMAGES.values()))
    )
    return by_side * (1 - learnt)


def _linear(plan: Plan, costs: Costs) -> Plan:
    return replace(
        plan,
        side=costs.side,
        folds=0,
        kept_bytes=costs.kept(6),
        changes=plan.changes | {"train_scale": costs.side, "trainable": "fc", "epochs": 1},
        expected_seconds=costs.look.seconds_used + costs.linear() + costs.last(),
        memory_bytes=plan.memory_bytes + costs.kept(6),
    )


def _fine_tunings(plan: Plan, costs: Costs, left: float, memory: float, pinned: dict[str, Any]) -> list[Plan]:
    """Plans to fine-tune at a side, from each block for which there is memory, as long as there is time."""
    batch_size = plan.changes["batch_size"]
    updates = math.ceil(costs.look.num_train / batch_size)
    plans = []
    for first_block, fewest in FEWEST_EPOCHS.items():
        if pinned.get("trainable", f"conv{first_block}") != f"conv{first_block}":
            continue
        fewest = max(fewest, math.ceil(FEWEST_UPDATES / updates))
        numbers = [pinned["epochs"]] if "epochs" in pinned else range(fewest, max(MOST_EPOCHS, fewest) + 1)
        for num_views in ERROR_BY_VIEWS:
            stored, kept = num_views * costs.stored(first_block), min(costs.kept(first_block), round(memory / 4))
            if stored > memory:
                break
            for epochs in numbers:
                trained = costs.trained(epochs, first_block, num_views, plan.folds, batch_size)
                spent = costs.linear() + trained + costs.last()
                if spent > left and "epochs" not in pinned:
                    break
                changes = {"train_scale": costs.side, "trainable": f"conv{first_block}", "epochs": epochs}
                plans.append(
                    replace(
                        plan,
                        side=costs.side,
                        num_views=num_views,
                        then="fine-tune",
                        first_block=first_block,
                        kept_bytes=kept,
                        changes=plan.changes | changes,
                        expected_seconds=costs.look.seconds_used + spent,
                        memory_bytes=plan.memory_bytes + stored + kept,
                    )
                )
    return plans


def _reasons(
    plan: Plan, look: Look, pinned: dict[str, Any], sides: list[int], possible: list[Plan], *, is_late: bool
) -> list[str]:
    """The reasons for the size and the training of the plan that is the best of those ``possible``."""
    larger = [one for one in possible if one.side > plan.side]
    if "side" in pinned:
        why = "as asked"
    elif larger:
        other = min(larger, key=lambda one: (expected_error(one, look), one.expected_seconds))
        if expected_error(other, look) > expected_error(plan, look):
            rest = f"{other.changes['epochs']} epochs of {other.blocks}" if other.then else "a linear classifier alone"
            why = f"at {other.side} time and memory do for {rest}, which promises less"
        else:
            why = f"{other.side} promises no fewer errors and takes longer"
    elif plan.side == sides[-1]:
        why = "that of the net's own training" if plan.side == SIDES[-1] else f"twice the {look.side} of the images"
    elif is_late:
        why = "the smallest, and the time does not quite do for it"
    else:
        why = "the largest for which there is time and memory"
    if plan.then is not None:
        epochs = plan.changes["epochs"]
        training = (
            f"{plan.blocks} and the classifier, {epochs} epochs on stored maps of {plan.num_views} views an image"
        )
    elif any(one.then for one in possible):
        training = "none: within the time it promises less than larger views do"
    else:
        training = "none: there is not the time and memory for it"
    return [f"size: {plan.side} pixels: {why}", f"training: {training}"]


def linear_plan(geometry: Geometry, start: str, look: Look, *, seconds: float) -> Plan:
    """Plans a linear classifier in a fifth of the time, before a training from noise."""
    plan = make_plan(geometry, start, look, seconds=SHARE_BEFORE_NOISE * seconds, pinned={}, tunes=False)
    return replace(plan, seconds=seconds, reasons=plan.reasons[:-1])
