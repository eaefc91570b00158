"""The health of a training: signs that it goes wrong, what they mean for these nets, and the remedy.

A training is examined after fixed updates, and what is found follows from its log, its position and the net alone, so
that a training that was interrupted has the same findings.
"""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from statistics import median
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor, nn

from verydeep.data.batches import training_batches
from verydeep.data.image_set import ImageSet
from verydeep.device import Compute
from verydeep.images.augment import TrainingView
from verydeep.nets.net import VeryDeep
from verydeep.paper.constants import CROP
from verydeep.training.objective import Chance
from verydeep.training.recipe import Recipe
from verydeep.training.state import UPDATES_BETWEEN_CHECKS, Position, TrainState

FEWEST_UPDATES, MOST_UPDATES, SHARE_OF_UPDATES = 100, 1_000, 0.05
"""Updates at chance, after the warm-up, before a net is called stuck: a share of those of the recipe, within bounds."""

FEWEST_BEFORE_STOP, MOST_BEFORE_STOP, SHARE_BEFORE_STOP = 500, 20_000, 0.25
"""The same before its training is stopped. A deep plain net may need hundreds of updates to leave chance."""

_LOOKED_AT = 128
"""Training images on which units are expected to fire."""

_MOST_SILENT = 0.75
"""Share of a layer's units that may never fire; a healthy layer of these nets has less than half."""

_MOST_MOVED, _LEAST_MOVED = 0.1, 1e-6
"""Bounds of how much of their size the weights of a layer move in one update; a healthy one is near a thousandth."""

_FOR_TRAINED_NETS: Final = ("paper-384", "paper-jitter", "paper-jitter-fc", "fine-tune")
"""Recipes whose rates are those of a net that is trained already."""

_SHALLOW: Final = 11
"""Weight layers of A, which the paper could train from small noise."""


@dataclass(frozen=True)
class Finding:
    kind: str  # stuck, silent-units, rate-high or rate-low
    saw: str  # what was measured
    means: str  # its meaning for such a net
    helps: str  # the remedy, with its option

    def as_record(self) -> dict[str, str]:
        return asdict(self)

    def __str__(self) -> str:
        return f"convergence: {self.saw}; {self.means}; {self.helps}"


def watch(position: Position, chance: Chance) -> Position:
    """Checks whether the loss is at chance, over windows of 100 updates at least, and over the epoch so far."""
    position = replace(position, at_chance=chance.explains(position.sums))
    window = position.window + position.sums
    if window.updates < UPDATES_BETWEEN_CHECKS:
        return position
    flat = position.flat + window.updates if chance.explains(window) else 0
    return replace(position, window=-position.sums, flat=flat)


def updates_until(recipe: Recipe, per_epoch: int, *, share: float, fewest: int, most: int) -> int:
    """The number of updates at chance that mean something: a share of the recipe's, not counting the warm-up."""
    return math.ceil(recipe.warmup * per_epoch) + max(fewest, min(round(share * recipe.epochs * per_epoch), most))


def is_stuck(state: TrainState) -> bool:
    until = updates_until(
        state.recipe, state.num_updates, share=SHARE_OF_UPDATES, fewest=FEWEST_UPDATES, most=MOST_UPDATES
    )
    return state.position.flat >= until


def is_hopeless(state: TrainState) -> bool:
    """Whether a training has been at chance for so long that it is stopped."""
    until = updates_until(
        state.recipe, state.num_updates, share=SHARE_BEFORE_STOP, fewest=FEWEST_BEFORE_STOP, most=MOST_BEFORE_STOP
    )
    return state.position.flat >= until


def examine(
    state: TrainState, images: ImageSet, view: TrainingView | None, chance: Chance, settings: Mapping[str, Any]
) -> list[Finding]:
    """Examines a training as it is; ``settings`` are those of its run."""
    found: list[Finding | None] = [rate_far_off(state.net, state.recipe, state.optimiser)]
    # a net that gives every image the same scores has silent units too, which would not be a second finding
    if is_stuck(state):
        found.insert(0, stuck_at_chance(state, chance, settings))
    elif view is not None and not state.position.at_chance:
        crops = _some_crops(images, view, state.position.epoch + 1)
        found.append(silent_units(state.net, crops, state.compute, warmup=state.recipe.warmup > 0))
    return [finding for finding in found if finding is not None]


def stuck_at_chance(state: TrainState, chance: Chance, settings: Mapping[str, Any]) -> Finding:
    sums = state.position.sums
    return Finding(
        "stuck",
        f"the loss has been {sums.loss / sums.seen:.3f} for {state.position.flat:,} updates, no better than the "
        f"{chance.loss:.3f} of a net that gives every image the same scores",
        *_why_stuck(state.net, state.recipe, settings),
    )


def _why_stuck(net: VeryDeep, recipe: Recipe, settings: Mapping[str, Any]) -> tuple[str, str]:
    """What it means and what helps: nothing that is on already, and no recipe that does not help at this size."""
    rate = f"another rate than {recipe.learning_rate:g} (--set learning_rate={recipe.learning_rate / 10:g})"
    warm_up = [] if recipe.warmup or recipe.schedule == "plateau" else ["try a warm-up (--set warmup=1)"]
    look = "look whether the folders really are the classes (verydeep doctor)"
    if net.geometry.batch_norm:
        return "with batch norm the depth is not the reason", ", ".join([f"try {rate}", *warm_up, look])
    depth, from_noise = net.geometry.architecture.weight_layers, settings.get("origin") is None
    papers_size = net.geometry.width == 1 and net.geometry.crop == CROP
    grow = (
        "grow it from a trained A as the paper did (--recipe paper-chain-from-a, or --init-from with the run of an A)"
    )
    started = "start from a trained net (--init-from), or train with --recipe small-images"
    ways = [
        *([started] if from_noise and recipe.name in _FOR_TRAINED_NETS else []),
        *([grow] if depth > _SHALLOW and papers_size and from_noise and settings.get("chain") is None else []),
        "add --batch-norm",
        *(["--initialise centred"] if from_noise and recipe.initialisation != "centred" else []),
        *warm_up,
        f"or try {rate}",
    ]
    noise = f"when they begin from {recipe.initialisation} noise" if from_noise else "in which too little was copied"
    return f"plain nets of {depth} weight layers may stay there {noise}", ", ".join(ways)


def rate_far_off(net: VeryDeep, recipe: Recipe, optimiser: torch.optim.Optimizer) -> Finding | None:
    """Notices a rate at which the weights move too much or hardly at all.

    The movement of a layer is the rate times the norm of its velocity over the norm of its weights, at the recipe's
    highest rate, so that the end of a schedule does not look like a low rate.
    """
    moved = []
    for name, parameter in net.named_parameters():
        velocity = optimiser.state[parameter].get("momentum_buffer")
        if velocity is not None and name.endswith("weight") and not name.startswith("bn"):
            moved.append(recipe.learning_rate * float(velocity.norm()) / max(float(parameter.detach().norm()), 1e-12))
    if not moved:
        return None
    typical = median(moved)
    saw = f"an update at the rate {recipe.learning_rate:g} moves the weights by {typical:.1e} of their size"
    if typical > _MOST_MOVED:
        lower = f"lower it (--set learning_rate={recipe.learning_rate / 10:g})"
        return Finding("rate-high", saw, "the rate is far too high: near a thousandth is usual", lower)
    if typical < _LEAST_MOVED:
        higher = "raise it (--set learning_rate=0.01 is the paper's)"
        return Finding("rate-low", saw, "the rate is far too low: near a thousandth is usual", higher)
    return None


def silent_units(net: VeryDeep, images: Tensor, compute: Compute, *, warmup: bool = False) -> Finding | None:
    """Notices a layer most of whose units never fire on images, n,3,h,w uint8; ``warmup``: the recipe has one."""
    shares: dict[str, float] = {}
    modes = {module: module.training for module in net.modules()}
    net.eval()
    with torch.inference_mode(), compute.autocast():
        (images,) = compute.move(images)
        names = [name for name, module in net.named_children() if isinstance(module, nn.ReLU)]
        for name, fired in net.activations(images, names).items():
            shares[name] = float((fired.amax((0, 2, 3)) <= 0).float().mean())
    for module, training in modes.items():
        module.training = training
    worst = max(shares, key=lambda name: shares[name])
    if shares[worst] <= _MOST_SILENT:
        return None
    return Finding(
        "silent-units",
        f"{100 * shares[worst]:.0f}% of the units of {worst} never fire on {len(images)} training images",
        "such units do not learn any more: an update too large has pushed them below zero",
        "train anew with a lower rate (--set learning_rate=...)"
        + ("" if warmup else ", a warm-up (--set warmup=1)")
        + ("" if net.geometry.batch_norm else ", or --batch-norm"),
    )


def _some_crops(images: ImageSet, view: TrainingView, epoch: int) -> Tensor:
    some = images.subset(np.linspace(0, len(images) - 1, min(_LOOKED_AT, len(images))).astype(int).tolist())
    batches = training_batches(some, view, batch_size=_LOOKED_AT, seed=0, epoch=epoch)
    return next(iter(batches))[0]


def explain_not_finite(state: TrainState, images: Tensor) -> str:
    """Explains where a loss that is not finite comes from, and the remedy; ``images`` are those that gave it."""
    net, rate, position = state.net, state.recipe.learning_rate, state.position
    layer = first_not_finite(net, images, state.compute) if state.model is None else None
    where = f", first in {layer}" if layer else ""
    return (
        f"the loss is not finite any more (NaN or infinity{where}) in epoch {position.epoch + 1}, "
        f"update {position.iteration + 1}: train with a lower rate than {rate:g} "
        f"(--set learning_rate={rate / 10:g})" + ("" if net.geometry.batch_norm else ", or with --batch-norm")
    )


def first_not_finite(net: VeryDeep, images: Tensor, compute: Compute) -> str | None:
    names = [name for name, _ in net.named_children()]
    with torch.inference_mode(), compute.autocast():
        (images,) = compute.move(images)
        outputs = net.activations(images, names)
    for name in names:
        tensors = [*net.get_submodule(name).parameters(recurse=False), outputs[name]]
        if not all(bool(torch.isfinite(tensor).all()) for tensor in tensors):
            return name
    return None
