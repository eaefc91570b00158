"""The training loop on one screen: stochastic gradient descent with momentum.

Paper: section 3.1.
"""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from verydeep.convnets.model_file import ModelCard, save
from verydeep.convnets.net import VeryDeep
from verydeep.data.augment import TrainingView
from verydeep.data.batches import training_batches
from verydeep.data.image_set import ImageSet
from verydeep.device import Choice
from verydeep.mistakes import MistakeError
from verydeep.records import now
from verydeep.training.recipes import Recipe, scheduled_rate
from verydeep.training.run import Progress, Run


class Listener(Protocol):
    """Is told how a training goes."""

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
    choice: Choice
    seed: int
    workers: int
    run: Run
    validate: Callable[[VeryDeep], dict[str, Any]]
    card: Callable[[int, dict[str, Any] | None], ModelCard]
    listener: Listener
    stop: Callable[[], bool] = lambda: False


def fit(training: Training, momentum: dict[str, Tensor] | None = None, progress: Progress | None = None) -> Progress:
    """Trains a net, from the beginning or from a checkpoint, to the end or until it is told to stop.

    Args:
        training: what to train, on what and how.
        momentum: velocities to go on with, by the name of their parameter.
        progress: where to go on.

    Returns:
        How far it came; with fewer epochs than the recipe's it was stopped or the plateau rule ended it.

    Raises:
        MistakeError: the loss is not finite any more.
    """
    t, recipe, net, progress = training, training.recipe, training.net, progress or Progress()
    net.place(t.choice)
    for module in net.modules():
        if isinstance(module, nn.Dropout):
            module.p = recipe.dropout
    optimiser = make_optimiser(net, recipe, momentum)
    iterations = math.ceil(len(t.images) / recipe.batch_size)
    with torch.random.fork_rng(devices=[]):
        while progress.epoch < recipe.epochs and not progress.plateau.ended:
            progress = _train_epoch(t, optimiser, progress, iterations)
            if progress.iteration < iterations:
                t.run.save_checkpoint(net, t.card(progress.epoch, None), _momentum(net, optimiser), progress)
                return progress
            progress = _end_epoch(t, optimiser, progress)
            if t.stop():
                break
    return progress


def _train_epoch(t: Training, optimiser: torch.optim.SGD, progress: Progress, iterations: int) -> Progress:
    """Goes through the rest of an epoch, or until it is told to stop."""
    batches = training_batches(
        t.images,
        t.view,
        batch_size=t.recipe.batch_size,
        seed=t.seed,
        epoch=progress.epoch,
        first=progress.iteration,
        workers=t.workers,
    )
    t.net.train()
    before, start, told = progress, time.perf_counter(), 0.0
    loss_sum, wrong, seen = (
        torch.tensor(progress.loss, dtype=torch.float64),
        torch.tensor(progress.wrong),
        progress.seen,
    )
    for images, labels in batches:
        done = progress.epoch + (progress.iteration + 0.5) / iterations
        rate = scheduled_rate(t.recipe, done) * 0.1**progress.plateau.drops
        for group in optimiser.param_groups:
            group["lr"] = rate
        torch.manual_seed(t.seed + 1_000_003 * (progress.epoch * iterations + progress.iteration))
        loss, scores, labels = update(t.net, optimiser, images, labels, t.choice, t.recipe.label_smoothing)
        loss_sum = loss_sum + loss.cpu().double() * len(images)
        wrong = wrong + (scores.argmax(1) != labels).sum().cpu()
        seen += len(images)
        progress = replace(progress, iteration=progress.iteration + 1, seen=seen)
        elapsed, stop = time.perf_counter() - start, t.stop()
        if elapsed - told > 0.25 or stop or progress.iteration == iterations:
            told = elapsed
            progress = replace(progress, loss=loss_sum.item(), wrong=int(wrong), seconds=before.seconds + elapsed)
            t.listener.step(progress, iterations, (seen - before.seen) / elapsed)
            if not math.isfinite(progress.loss):
                raise MistakeError(
                    f"the loss is {progress.loss} in epoch {progress.epoch + 1}, update {progress.iteration}: "
                    f"train with a lower rate than {t.recipe.learning_rate:g} (--set learning_rate=...) "
                    "or with --batch-norm"
                )
        if stop:
            break
    return progress


def update(
    net: VeryDeep,
    optimiser: torch.optim.Optimizer,
    images: Tensor,
    labels: Tensor,
    choice: Choice,
    label_smoothing: float = 0.0,
) -> tuple[Tensor, Tensor, Tensor]:
    """Updates the weights once.

    Args:
        net: in training mode.
        optimiser: of its parameters.
        images: n,3,h,w uint8.
        labels: n int64.
        choice: device and precision.
        label_smoothing: probability mass spread over the classes.

    Returns:
        The mean loss, the scores n,k before the update, and the labels on the device.
    """
    images, labels = choice.move(images, labels)
    with choice.autocast():
        scores = net(images)
    loss = F.cross_entropy(scores.float(), labels, label_smoothing=label_smoothing)
    optimiser.zero_grad()
    loss.backward()
    optimiser.step()
    return loss.detach(), scores.detach(), labels


def _end_epoch(t: Training, optimiser: torch.optim.SGD, progress: Progress) -> Progress:
    """Validates, applies the plateau rule, logs and saves."""
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
        "val_top1_error": error,
        "val_top5_error": errors.get("top5_error"),
        "images_per_second": progress.seen / progress.seconds,
        "seconds": progress.seconds,
        "time": now(),
    }
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
        save(t.net, t.run.model_file, card=card)
    t.run.save_checkpoint(t.net, card, _momentum(t.net, optimiser), progress)
    t.listener.epoch(record)
    return progress


def make_optimiser(net: VeryDeep, recipe: Recipe, momentum: dict[str, Tensor] | None = None) -> torch.optim.SGD:
    """Makes the optimiser of a recipe.

    Choice: weights and biases of convolutions and fully connected layers decay, those of batch norm do not.
    """
    names: dict[bool, list[str]] = {True: [], False: []}
    parameters = dict(net.named_parameters())
    for name in parameters:
        names[not name.startswith("bn")].append(name)
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
