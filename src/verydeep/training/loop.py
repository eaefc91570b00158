"""The training loop on one screen: stochastic gradient descent with momentum.

Paper: section 3.1.
"""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from verydeep.data.batches import training_batches
from verydeep.data.image_set import ImageSet, count_per_class
from verydeep.device import Compute
from verydeep.distributed import all_reduce_any, all_reduce_sum, processes
from verydeep.errors import UserError
from verydeep.images.augment import TrainingView
from verydeep.machine import now
from verydeep.nets.model_card import ModelCard
from verydeep.nets.net import VeryDeep
from verydeep.speed.library import has_kernel
from verydeep.speed.training import REMEDY, place, release
from verydeep.training.health import explain_not_finite, findings_after_epoch
from verydeep.training.recipe import Recipe, scheduled_rate
from verydeep.training.run_folder import Progress, Run
from verydeep.training.update import NotFiniteError, Objective, share_gradients, update


class Listener(Protocol):
    """Is told how a training goes."""

    def note(self, text: str) -> None:
        """Says something worth keeping."""

    def step(self, progress: Progress, iterations: int, images_per_second: float) -> None:
        """After a weight update, a few times a second at most."""

    def epoch(self, record: dict[str, Any]) -> None:
        """After an epoch, with its line of the log."""


@dataclass(frozen=True, kw_only=True)
class Training:
    """Everything one training needs.

    Attributes:
        net: is trained.
        images: the training images.
        view: makes the training crops.
        recipe: how to train.
        choice: device, precision and layout.
        seed: of the order, the crops and the dropout.
        workers: processes that make crops.
        checkpoint_seconds: time between checkpoints within an epoch.
        run: the run folder.
        validate: measures the net; gives at least ``top1_error``.
        card: writes the model card after some epochs, with errors.
        listener: is told how it goes.
        stop: asked after every update whether to stop.
    """

    net: VeryDeep
    images: ImageSet
    view: TrainingView
    recipe: Recipe
    choice: Compute
    seed: int
    workers: int
    checkpoint_seconds: float
    run: Run
    validate: Callable[[VeryDeep], dict[str, Any]]
    card: Callable[[int, dict[str, Any] | None], ModelCard]
    listener: Listener
    stop: Callable[[], bool] = lambda: False

    @property
    def iterations(self) -> int:
        """Updates of an epoch."""
        return math.ceil(len(self.images) / self.recipe.batch_size)


def fit(training: Training, momentum: dict[str, Tensor] | None = None, progress: Progress | None = None) -> Progress:
    """Trains a net, from the beginning or from a checkpoint, to the end or until it is told to stop.

    Args:
        training: what to train, on what and how.
        momentum: velocities to go on with, by the name of their parameter.
        progress: where to go on.

    Returns:
        How far it came; with fewer epochs than the recipe's it was stopped or the plateau rule ended it.

    Raises:
        UserError: the loss is not finite any more, or the run folder cannot be written.
    """
    t, net = training, training.net
    if t.choice.kernel and not has_kernel():
        t.listener.note(f"this run began with verydeep's kernel, which is not there: PyTorch computes, {REMEDY}")
    learning = [parameter for parameter in net.parameters() if parameter.requires_grad]
    place(net, t.choice)
    try:
        return _train(t, momentum, progress or Progress())
    finally:
        release(net)
        for parameter in learning:  # what the recipe froze may learn in the next training
            parameter.requires_grad_()


def _train(t: Training, momentum: dict[str, Tensor] | None, progress: Progress) -> Progress:
    recipe, net = t.recipe, t.net
    net.set_dropout(recipe.dropout)
    optimiser = make_optimiser(net, recipe, momentum)
    _set_training(net, recipe)
    model = share_gradients(net, t.choice)
    while progress.epoch < recipe.epochs and not progress.plateau.ended:
        progress = _train_epoch(t, model, optimiser, progress)
        if progress.iteration < t.iterations:
            _save_checkpoint(t, optimiser, progress)
            return progress
        progress = _end_epoch(t, optimiser, progress)
        if all_reduce_any(t.stop())[0]:
            break
    return progress


def _train_epoch(t: Training, model: nn.Module, optimiser: torch.optim.SGD, progress: Progress) -> Progress:
    """Goes through the rest of an epoch, or until it is told to stop."""
    batches = training_batches(
        t.images,
        t.view,
        batch_size=t.recipe.batch_size,
        seed=t.seed,
        epoch=progress.epoch,
        first=progress.iteration,
        workers=t.workers,
        balanced=t.recipe.balance == "sampling",
        members=processes(),
    )
    _set_training(t.net, t.recipe)
    objective = _objective(t)
    before, start, told, saved = progress, time.perf_counter(), 0.0, 0.0
    begun = (progress.loss, progress.wrong) if processes().is_first else (0.0, 0)
    on = "cpu" if t.choice.device == "mps" else t.choice.device  # which has no float64
    losses, wrong = torch.tensor(begun, dtype=torch.float64, device=on)
    for images, labels, _ in batches:
        _set_rate(t, optimiser, progress)
        total = min(t.recipe.batch_size, len(t.images) - progress.iteration * t.recipe.batch_size)
        seed = (t.seed, progress.epoch, progress.iteration)
        try:
            loss, mistakes = update(model, optimiser, images, labels, t.choice, objective, seed=seed, total=total)
        except NotFiniteError as error:
            raise UserError(explain_not_finite(t.net, error.images, t.choice, t.recipe, progress)) from error
        losses, wrong = losses + loss.to(losses), wrong + mistakes.to(wrong)
        progress = replace(progress, iteration=progress.iteration + 1, seen=progress.seen + total)
        elapsed = time.perf_counter() - start
        stop, due = all_reduce_any(t.stop(), elapsed - told > 0.25)
        if due or stop or progress.iteration == t.iterations:
            told = elapsed
            so_far = all_reduce_sum(torch.stack([losses, wrong]).cpu())
            progress = replace(progress, loss=so_far[0].item(), wrong=int(so_far[1]), seconds=before.seconds + elapsed)
            t.listener.step(progress, t.iterations, (progress.seen - before.seen) / elapsed)
            if not math.isfinite(progress.loss):
                raise UserError(explain_not_finite(t.net, images, t.choice, t.recipe, progress))
        if stop:
            break
        if told == elapsed and elapsed - saved > t.checkpoint_seconds and progress.iteration < t.iterations:
            _save_checkpoint(t, optimiser, progress)
            saved = time.perf_counter() - start
    return progress


def _set_training(net: VeryDeep, recipe: Recipe) -> None:
    """Puts the layers that learn into training mode, the others into evaluation mode; what is frozen stays frozen."""
    net.train()
    for name, module in net.named_children():
        own = list(module.parameters(recurse=False))
        for parameter in own:
            parameter.requires_grad_(parameter.requires_grad and recipe.trains(name))
        if not recipe.trains(name) or (own and not any(parameter.requires_grad for parameter in own)):
            module.eval()


def _objective(t: Training) -> Objective:
    """The loss of the recipe.

    Choice: with ``balance`` by loss an image weighs one over the size of its class, 1 on average over the images.
    """
    weights = None
    if t.recipe.balance == "loss":
        counts = np.maximum(count_per_class(t.images), 1)
        weights = torch.tensor(len(t.images) / (np.count_nonzero(count_per_class(t.images)) * counts)).float()
    return Objective(label_smoothing=t.recipe.label_smoothing, class_weights=weights)


def _set_rate(t: Training, optimiser: torch.optim.SGD, progress: Progress) -> None:
    done = progress.epoch + (progress.iteration + 0.5) / t.iterations
    for group in optimiser.param_groups:
        group["lr"] = scheduled_rate(t.recipe, done) * 0.1**progress.plateau.drops


def _save_checkpoint(
    t: Training, optimiser: torch.optim.SGD, progress: Progress, card: ModelCard | None = None
) -> None:
    t.run.save_checkpoint(t.net, card or t.card(progress.epoch, None), _momentum(t.net, optimiser), progress)


def _end_epoch(t: Training, optimiser: torch.optim.SGD, progress: Progress) -> Progress:
    """Validates, applies the plateau rule, logs and saves."""
    _average_statistics(t.net)
    errors = t.validate(t.net)
    error = errors["top1_error"]
    plateau = progress.plateau
    if t.recipe.schedule == "plateau":
        plateau = plateau.after(error, patience=t.recipe.patience, most_drops=t.recipe.drops)
    record = {
        "epoch": progress.epoch + 1,
        "learning_rate": optimiser.param_groups[0]["lr"],
        "loss": progress.loss / progress.seen,
        "train_error": progress.wrong / progress.seen,
        "split": errors.get("split", "val"),
        "val_top1_error": error,
        "val_top5_error": errors.get("top5_error"),
        "images_per_second": progress.seen / progress.seconds,
        "seconds": progress.seconds,
        "time": now(),
    }
    log = [*t.run.log_records()[: progress.log_lines], record]
    findings = findings_after_epoch(t.net, t.images, t.view, t.choice, optimiser, t.recipe, log)
    record["findings"] = [finding.as_record() for finding in findings]
    better = error < progress.best_error
    progress = Progress(
        epoch=progress.epoch + 1,
        plateau=plateau,
        best_error=min(error, progress.best_error),
        log_lines=progress.log_lines + 1,
    )
    card = t.card(progress.epoch, errors)
    t.run.log(record)
    ended = plateau.ended or progress.epoch == t.recipe.epochs
    if better if t.recipe.keep == "best" else ended:
        t.run.save_model(t.net, card)
    _save_checkpoint(t, optimiser, progress, card)
    t.listener.epoch(record)
    for finding in findings:
        t.listener.note(str(finding))
    return progress


def _average_statistics(net: VeryDeep) -> None:
    """Gives every process the same running statistics of batch norm: their mean over the processes."""
    for module in net.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            for statistic in (module.running_mean, module.running_var):
                assert statistic is not None
                all_reduce_sum(statistic).div_(processes().size)


def make_optimiser(net: VeryDeep, recipe: Recipe, momentum: dict[str, Tensor] | None = None) -> torch.optim.SGD:
    """Makes the optimiser of a recipe.

    Choice: weights and biases of convolutions and fully connected layers decay, those of batch norm do not.

    Raises:
        UserError: every layer that the recipe trains is frozen.
    """
    names: dict[bool, list[str]] = {True: [], False: []}
    parameters = dict(net.named_parameters())
    for name, parameter in parameters.items():
        if parameter.requires_grad and recipe.trains(name):
            names[not name.startswith("bn")].append(name)
    if not any(names.values()):
        raise UserError(
            f"every layer that the recipe trains (trainable {recipe.trainable}) is frozen: set requires_grad_() of one"
        )
    groups = [
        {"params": [parameters[name] for name in members], "weight_decay": recipe.weight_decay if decays else 0.0}
        for decays, members in names.items()
        if members
    ]
    optimiser = torch.optim.SGD(
        groups, lr=recipe.learning_rate, momentum=recipe.momentum, nesterov=recipe.nesterov, fused=True
    )
    for name, velocity in (momentum or {}).items():
        like = parameters[name]
        optimiser.state[like]["momentum_buffer"] = torch.empty_like(like).copy_(velocity)
    return optimiser


def _momentum(net: VeryDeep, optimiser: torch.optim.SGD) -> dict[str, Tensor]:
    state = {name: optimiser.state[parameter].get("momentum_buffer") for name, parameter in net.named_parameters()}
    return {name: velocity for name, velocity in state.items() if velocity is not None}
