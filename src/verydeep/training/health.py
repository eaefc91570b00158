"""The health of a training: signs that it goes wrong, what they mean for these nets, and the remedy.

Findings after an epoch follow from the log and the net alone, so that a training that was interrupted has the same.
"""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from statistics import median
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from verydeep.data.batches import training_batches
from verydeep.data.image_set import ImageSet
from verydeep.device import Compute
from verydeep.images.augment import TrainingView
from verydeep.nets.net import VeryDeep
from verydeep.training.recipe import Recipe
from verydeep.training.state import TrainState

_FEWEST_UPDATES = 100
"""Updates before a net may be called stuck: every net begins at ln K."""

_LOOKED_AT = 128
"""Training images on which units are expected to fire."""

_MOST_SILENT = 0.75
"""Share of a layer's units that may never fire; a healthy layer of these nets has less than half."""

_MOST_MOVED, _LEAST_MOVED = 0.1, 1e-6
"""Bounds of how much of their size the weights of a layer move in one update; a healthy one is near a thousandth."""


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


def findings_after_epoch(
    state: TrainState, images: ImageSet, view: TrainingView | None, log: Sequence[dict[str, Any]]
) -> list[Finding]:
    """Examines a training after an epoch; ``log`` has a record of each epoch so far."""
    net, recipe = state.net, state.recipe
    stuck, rate = stuck_at_chance(net, recipe, log, state.num_updates), rate_far_off(net, recipe, state.optimiser)
    # a net that gives every image the same scores has silent units too, which would not be a second finding
    silent = None
    if view is not None and not _at_chance(net, log[-1]):
        silent = silent_units(net, _some_crops(images, view, len(log)), state.compute)
    return [finding for finding in (stuck, rate, silent) if finding is not None]


def _at_chance(net: VeryDeep, line: dict[str, Any]) -> bool:
    chance = math.log(net.geometry.num_classes)
    loss: float = line["loss"]
    return abs(loss - chance) < 0.02 * chance


def stuck_at_chance(net: VeryDeep, recipe: Recipe, log: Sequence[dict[str, Any]], updates: int) -> Finding | None:
    """Notices a loss that has been ln K for as long as the recipe is patient, and for a hundred updates at least."""
    patience = max(1, min(recipe.patience, recipe.epochs // 2), math.ceil(_FEWEST_UPDATES / updates))
    if len(log) % patience or not all(_at_chance(net, line) for line in log[-patience:]):
        return None
    return Finding(
        "stuck",
        f"the loss has been {log[-1]['loss']:.3f}, ln {net.geometry.num_classes}, for {patience} "
        f"epoch{'s' if patience > 1 else ''}: the net gives every image the same scores",
        *_why_stuck(net, recipe),
    )


def _why_stuck(net: VeryDeep, recipe: Recipe) -> tuple[str, str]:
    rate = f"another rate than {recipe.learning_rate:g} (--set learning_rate={recipe.learning_rate / 10:g})"
    if net.geometry.batch_norm:
        return (
            "with batch norm the depth is not the reason",
            f"try {rate}, and look whether the folders really are the classes (verydeep doctor)",
        )
    depth = net.geometry.architecture.weight_layers
    grow = (
        "grow it from a trained A as the paper did (--recipe paper-chain-from-a, or --init-from with the run of an A)"
    )
    ways = [
        *([grow] if depth > 11 else []),
        "add --batch-norm",
        f"try --initialise {'glorot' if recipe.initialisation == 'kaiming' else 'kaiming'}",
        f"or {rate}",
    ]
    return (
        f"plain nets of {depth} weight layers often stay there when they begin from {recipe.initialisation} noise",
        ", ".join(ways),
    )


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


def silent_units(net: VeryDeep, images: Tensor, compute: Compute) -> Finding | None:
    """Notices a layer most of whose units never fire on images, n,3,h,w uint8."""
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
        "train anew with a lower rate (--set learning_rate=...), a warm-up (--set warmup=1), or --batch-norm",
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
