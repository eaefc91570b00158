"""The convergence doctor: sees that a training goes wrong, says what it means for these nets, and what helps.

What it says after an epoch follows from the log and the net alone, so that a training that was interrupted says the
same.
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
from verydeep.training.run_folder import Progress

_FEWEST_UPDATES = 100
"""Updates before a net may be called stuck: every net begins at ln K."""

_LOOKED_AT = 128
"""Training images on which units are asked to fire."""

_MOST_SILENT = 0.75
"""Share of a layer's units that may never fire; a healthy layer of these nets has less than half."""

_MOST_MOVED, _LEAST_MOVED = 0.1, 1e-6
"""Bounds of how much of their size the weights of a layer move in one update; a healthy one is near a thousandth."""


@dataclass(frozen=True)
class Finding:
    """Something that is wrong with a training.

    Attributes:
        kind: ``stuck``, ``silent-units``, ``rate-high`` or ``rate-low``.
        saw: what was measured.
        means: what it says of such a net.
        helps: what to do, with the option.
    """

    kind: str
    saw: str
    means: str
    helps: str

    def as_record(self) -> dict[str, str]:
        """The fields, for JSON."""
        return asdict(self)

    def __str__(self) -> str:
        """One line."""
        return f"convergence: {self.saw}; {self.means}; {self.helps}"


def findings_after_epoch(
    net: VeryDeep,
    images: ImageSet,
    view: TrainingView,
    choice: Compute,
    optimiser: torch.optim.Optimizer,
    recipe: Recipe,
    log: Sequence[dict[str, Any]],
) -> list[Finding]:
    """Looks at a training after an epoch.

    Args:
        net: as it is now.
        images: the training images.
        view: makes the training crops.
        choice: how the net is computed.
        optimiser: with the velocities of the last update.
        recipe: how the net is trained.
        log: a record of each epoch so far.
    """
    updates = math.ceil(len(images) / recipe.batch_size)
    stuck, rate = stuck_at_chance(net, recipe, log, updates), rate_far_off(net, recipe, optimiser)
    # a net that says the same of every image has silent units too, which would be no second finding
    silent = None
    if not _at_chance(net, log[-1]):
        silent = silent_units(net, _some_crops(images, view, len(log)), choice)
    return [finding for finding in (stuck, rate, silent) if finding is not None]


def _at_chance(net: VeryDeep, line: dict[str, Any]) -> bool:
    chance = math.log(net.geometry.num_classes)
    loss: float = line["loss"]
    return abs(loss - chance) < 0.02 * chance


def stuck_at_chance(net: VeryDeep, recipe: Recipe, log: Sequence[dict[str, Any]], updates: int) -> Finding | None:
    """Notices a loss that has been ln K for as long as the recipe is patient, and for a hundred updates at least.

    Args:
        net: says how many classes there are, and how deep it is.
        recipe: how it is trained.
        log: a record of each epoch so far.
        updates: of an epoch.
    """
    patience = max(1, min(recipe.patience, recipe.epochs // 2), math.ceil(_FEWEST_UPDATES / updates))
    if len(log) % patience or not all(_at_chance(net, line) for line in log[-patience:]):
        return None
    return Finding(
        "stuck",
        f"the loss has been {log[-1]['loss']:.3f}, ln {net.geometry.num_classes}, for {patience} "
        f"epoch{'s' if patience > 1 else ''}: the net says the same of every image",
        *_why_stuck(net, recipe),
    )


def _why_stuck(net: VeryDeep, recipe: Recipe) -> tuple[str, str]:
    rate = f"another rate than {recipe.learning_rate:g} (--set learning_rate={recipe.learning_rate / 10:g})"
    if net.geometry.batch_norm:
        return (
            "with batch norm that is no matter of depth",
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
    """Notices a rate at which the weights jump about, or hardly move.

    The movement of a layer is the rate times the norm of its velocity over the norm of its weights, at the recipe's
    highest rate, so that the end of a schedule is not mistaken for a low rate.
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


def silent_units(net: VeryDeep, images: Tensor, choice: Compute) -> Finding | None:
    """Notices a layer most of whose units never fire.

    Args:
        net: is put into evaluation mode, and back.
        images: n,3,h,w uint8 to look at.
        choice: how the net is computed.
    """
    shares: dict[str, float] = {}
    modes = {module: module.training for module in net.modules()}
    net.eval()
    with torch.inference_mode(), choice.autocast():
        (images,) = choice.move(images)
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


def explain_not_finite(net: VeryDeep, images: Tensor, choice: Compute, recipe: Recipe, progress: Progress) -> str:
    """Says where a loss that is NaN or infinite comes from, and what helps.

    Args:
        net: with the weights that gave the loss, or those after it.
        images: n,3,h,w uint8 that gave it.
        choice: how the net is computed.
        recipe: how the net is trained.
        progress: how far it has come.
    """
    layer = first_not_finite(net, images, choice)
    where = f", first in {layer}" if layer else ""
    return (
        f"the loss is not finite any more (NaN or infinity{where}) in epoch {progress.epoch + 1}, "
        f"update {progress.iteration + 1}: train with a lower rate than {recipe.learning_rate:g} "
        f"(--set learning_rate={recipe.learning_rate / 10:g})"
        + ("" if net.geometry.batch_norm else ", or with --batch-norm")
    )


def first_not_finite(net: VeryDeep, images: Tensor, choice: Compute) -> str | None:
    """Finds the first layer whose weights or outputs are NaN or infinite; None where none is."""
    names = [name for name, _ in net.named_children()]
    with torch.inference_mode(), choice.autocast():
        (images,) = choice.move(images)
        outputs = net.activations(images, names)
    for name in names:
        tensors = [*net.get_submodule(name).parameters(recurse=False), outputs[name]]
        if not all(bool(torch.isfinite(tensor).all()) for tensor in tensors):
            return name
    return None
