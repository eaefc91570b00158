"""The training loop: stochastic gradient descent with momentum.

Paper: section 3.1.
"""

import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Final, Protocol

import torch
from torch import Tensor

from verydeep.data.batches import Batch
from verydeep.device import Compute
from verydeep.distributed import all_reduce_any, all_reduce_sum, processes
from verydeep.errors import UserError
from verydeep.nets.net import VeryDeep
from verydeep.speed.train_net import place
from verydeep.training.objective import Objective
from verydeep.training.recipe import Recipe, scheduled_rate
from verydeep.training.state import UPDATES_BETWEEN_CHECKS, Callback, Position, TrainState
from verydeep.training.update import share_gradients, update

SECONDS_BETWEEN_REPORTS: Final = 0.25
MOST_UPDATES_BETWEEN_REPORTS: Final = 20
"""Limit in distributed training, where a report is an all-reduce that every rank must make after the same update."""


class Batches(Protocol):
    """Yields this process's batches of an epoch: images, targets, and which sample each is."""

    def __call__(self, *, epoch: int, first: int) -> Iterator[Batch]:
        """Starts at batch number ``first``, counted from 0, to resume in the middle of an epoch."""


def train(state: TrainState, batches: Batches, objective: Objective, callbacks: Sequence[Callback]) -> None:
    """Runs stochastic gradient descent with momentum until the recipe ends or a callback stops it.

    Paper: section 3.1.
    """
    trainable = [parameter for parameter in state.net.parameters() if parameter.requires_grad]
    try:
        set_training_mode(state.net, state.recipe)
        model = share_gradients(state.model or state.net, state.compute)
        for callback in callbacks:
            callback.before_training(state)
        while not state.finished and not state.stopping:
            set_training_mode(state.net, state.recipe)
            sums = RunningSums(state)
            epoch = state.position.epoch
            for images, targets, _ in batches(epoch=epoch, first=state.position.iteration):
                set_learning_rate(state)
                state.images = images
                done = state.position.iteration
                total = min(state.recipe.batch_size, state.num_images - done * state.recipe.batch_size)
                seed = (state.seed, epoch, done)
                sums.add(
                    update(
                        model,
                        state.optimiser,
                        images,
                        targets,
                        state.compute,
                        objective,
                        seed=seed,
                        total=total,
                        most_gradient=state.recipe.most_gradient,
                    )
                )
                state.position = replace(state.position, iteration=done + 1, seen=state.position.seen + total)
                if sums.report(state, any(callback.wants_stop() for callback in callbacks)):
                    for callback in callbacks:
                        callback.after_update(state)
                    if state.stopping and state.in_epoch:
                        return
            for callback in callbacks:
                callback.after_epoch(state)
            state.position = state.position.next_epoch()
            (state.stopping,) = all_reduce_any(any(callback.wants_stop() for callback in callbacks))
    finally:
        for parameter in trainable:  # unfreeze what the recipe froze
            parameter.requires_grad_()
        for callback in callbacks:
            callback.after_training(state)


class RunningSums:
    """Sums of losses and scores over an epoch, kept on the device; each report all-reduces them.

    A single process reports every quarter of a second. Several ranks must report after the same update, so rank 0 sends
    the number of updates until the next report with each one. All report after every UPDATES_BETWEEN_CHECKS updates
    too. The loop makes no other all-reduce within an epoch; DDP and SyncBatchNorm make their own.
    """

    def __init__(self, state: TrainState) -> None:
        before = state.position
        begun = (before.loss, before.score) if processes().is_first else (0.0, 0.0)
        device = "cpu" if state.compute.device == "mps" else state.compute.device  # mps has no float64
        self._sums = torch.tensor(begun, dtype=torch.float64, device=device)
        self._seconds_before, self._first = before.seconds, before.iteration
        self._began, self._reported, self._next = time.perf_counter(), 0.0, before.iteration + 1

    def add(self, sums: tuple[Tensor, Tensor]) -> None:
        self._sums += torch.stack(sums).to(self._sums)

    def report(self, state: TrainState, stop: bool) -> bool:
        """All-reduces the sums and the stop flag into ``state`` where a report is due; returns whether it was."""
        elapsed, iteration = time.perf_counter() - self._began, state.position.iteration
        several = processes().size > 1
        due = iteration >= self._next if several else stop or elapsed - self._reported > SECONDS_BETWEEN_REPORTS
        if not due and state.in_epoch and iteration % UPDATES_BETWEEN_CHECKS:
            return False
        self._reported = elapsed
        updates = SECONDS_BETWEEN_REPORTS * (iteration - self._first) / elapsed
        wait = max(1, min(round(updates), MOST_UPDATES_BETWEEN_REPORTS)) if processes().is_first else 0
        totals = all_reduce_sum(torch.cat([self._sums.cpu(), torch.tensor([float(stop), float(wait)])])).tolist()
        self._next = iteration + int(totals[3])
        seconds = self._seconds_before + elapsed
        state.position = replace(state.position, loss=totals[0], score=totals[1], seconds=seconds)
        state.stopping = totals[2] > 0
        return True


def make_state(
    net: VeryDeep,
    recipe: Recipe,
    compute: Compute,
    *,
    seed: int,
    num_images: int,
    momentum: dict[str, Tensor],
    position: Position | None = None,
    patience: int | None = None,
) -> TrainState:
    """Moves a net to its device and makes its optimiser, with the momentum buffers and position of a checkpoint."""
    place(net, compute)
    net.set_dropout(recipe.dropout)
    return TrainState(
        net=net,
        recipe=recipe,
        compute=compute,
        seed=seed,
        num_images=num_images,
        optimiser=make_optimiser(net, recipe, momentum),
        patience=patience,
        position=position or Position(),
    )


def set_training_mode(net: VeryDeep, recipe: Recipe) -> None:
    """Freezes what the recipe does not train; puts frozen layers into eval mode, the others into train mode."""
    net.train()
    for name, module in net.named_children():
        own = list(module.parameters(recurse=False))
        for parameter in own:
            parameter.requires_grad_(parameter.requires_grad and recipe.trains(name))
        if not recipe.trains(name) or (own and not any(parameter.requires_grad for parameter in own)):
            module.eval()


def set_learning_rate(state: TrainState) -> None:
    """Sets the rate of the next update: the schedule's, with the drops of the plateau rule."""
    position = state.position
    epochs_done = position.epoch + (position.iteration + 0.5) / state.num_updates
    for group in state.optimiser.param_groups:
        group["lr"] = group["factor"] * scheduled_rate(state.recipe, epochs_done) * 0.1**position.plateau.drops


def make_optimiser(net: VeryDeep, recipe: Recipe, momentum: dict[str, Tensor] | None = None) -> torch.optim.SGD:
    """Makes the optimiser of a recipe.

    Choice: weights and biases of convolutions and fully connected layers decay, those of batch norm do not.
    """
    names: dict[tuple[float, float], list[str]] = {}
    parameters = dict(net.named_parameters())
    for name, parameter in parameters.items():
        if parameter.requires_grad and recipe.trains(name):
            decay = 0.0 if name.startswith("bn") else recipe.weight_decay
            factor = recipe.head_rate if name.startswith("fc8") else 1.0
            names.setdefault((decay, factor), []).append(name)
    if not names:
        raise UserError(
            f"every layer that the recipe trains (trainable {recipe.trainable}) is frozen: set requires_grad_() of one"
        )
    groups = [
        {"params": [parameters[name] for name in members], "weight_decay": decay, "factor": factor}
        for (decay, factor), members in names.items()
    ]
    optimiser = torch.optim.SGD(
        groups, lr=recipe.learning_rate, momentum=recipe.momentum, nesterov=recipe.nesterov, fused=True
    )
    for name, velocity in (momentum or {}).items():
        like = parameters[name]
        optimiser.state[like]["momentum_buffer"] = torch.empty_like(like).copy_(velocity)
    return optimiser
