"""The training of a run folder by the loop, and what is measured and written at its end."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from verydeep.data.batches import training_batches
from verydeep.data.dataset import DataSet
from verydeep.data.image_set import ImageSet, count_per_class
from verydeep.device import Compute
from verydeep.distributed import processes
from verydeep.errors import UserError
from verydeep.images.augment import TrainingView, principal_shifts
from verydeep.nets.model_card import DataCard, ModelCard, make_card, selected_on
from verydeep.nets.net import VeryDeep
from verydeep.runs.evaluation_report import dense_is_worse, write_training_report
from verydeep.runs.live_report import LiveReport
from verydeep.speed.torch_backend import TorchBackend
from verydeep.testing.measure import MeanPosterior, measure
from verydeep.testing.metrics import top_error
from verydeep.testing.protocols import at_scales, find_protocol
from verydeep.testing.result import Result
from verydeep.training.callbacks import Checkpoints, HealthCheck, Validation
from verydeep.training.health import explain_not_finite
from verydeep.training.loop import Batches, make_state, train
from verydeep.training.objective import Chance, Objective, chance_for, classification_for
from verydeep.training.recipe import Recipe
from verydeep.training.run_folder import TENSORBOARD_FOLDER, Run
from verydeep.training.state import Callback, Position, TrainState, UserCallback
from verydeep.training.tensorboard import TensorBoard
from verydeep.training.update import NotFiniteError
from verydeep.weights.resolve import read_card


@dataclass(frozen=True, kw_only=True)
class TrainedRun:
    """The net, the run folder and the errors of a training."""

    run: Path  # its folder
    model: Path  # the model file, or the checkpoint of a training that was stopped
    epochs: int  # done
    finished: bool
    split: str  # of the errors
    protocol: str = "single"  # of the errors
    top1_error: float | None  # a fraction; None when it was stopped
    top5_error: float | None  # None with fewer than five classes too
    num_images: int  # of the split
    images_per_second: float  # mean over the epochs
    longer: str | None = None  # what the recipe auto would do in more time
    net: VeryDeep = field(repr=False)

    def as_record(self) -> dict[str, Any]:
        errors = ("split", "protocol", "top1_error", "top5_error", "num_images")
        names = ("epochs", "finished", *errors, "images_per_second")
        return {"run": str(self.run), "model": str(self.model)} | {name: getattr(self, name) for name in names}


class Deadline(Callback):
    """Stops a training at the end of its time, by the monotonic clock, whatever its plan has left."""

    def __init__(self, end: float) -> None:
        self._end = end
        self.reached = False

    def wants_stop(self) -> bool:
        self.reached = self.reached or time.monotonic() > self._end
        return self.reached


@dataclass(frozen=True, kw_only=True)
class Loop:
    """What the loop of a run is given beside its state.

    Attributes:
        batches: yields the batches of an epoch.
        validate: measures a net after an epoch.
        objective: what is learnt.
        chance: its loss and error at chance, which the health check compares with.
        view: makes training crops, on some of which the health check looks at units; None leaves that out.
    """

    batches: Batches
    validate: Callable[[VeryDeep], dict[str, Any]]
    objective: Objective
    chance: Chance
    view: TrainingView | None


def state_at(
    run: Run,
    net: VeryDeep,
    data: DataSet,
    momentum: dict[str, Tensor] | None,
    position: Position | None,
    num_samples: int | None = None,
) -> TrainState:
    """The training of a run at a position; at its beginning where there is none.

    ``num_samples`` are those of an epoch, where that is not every image once.
    """
    return make_state(
        net,
        Recipe(**run.settings["recipe"]),
        Compute(**run.settings["choice"]),
        seed=run.settings["seed"],
        num_images=num_samples or len(data.train),
        momentum=momentum or {},
        position=position,
        patience=run.patience,
    )


def view_of(run: Run, state: TrainState) -> TrainingView:
    """What makes the training crops of a run."""
    net, covariance = state.net, np.array(run.settings["colours"]["covariance"])
    return TrainingView(
        crop=net.geometry.crop,
        train_scale=net.train_scale,
        mirror=net.mirror,
        colour_shift=principal_shifts(covariance) if state.recipe.colour_shift else None,
    )


def loop_on_images(run: Run, state: TrainState, data: DataSet) -> Loop:
    """Crops of the training images, and the central crop of the validation images."""
    recipe, settings = state.recipe, run.settings
    view = view_of(run, state)
    batches = partial(
        training_batches,
        data.train,
        view,
        batch_size=recipe.batch_size,
        seed=state.seed,
        workers=settings["workers"],
        balanced=recipe.balance == "sampling",
        members=processes(),
    )
    return classification_loop(batches, lambda net: _validate(net, data.val, state.compute), view, recipe, data)


def classification_loop(
    batches: Batches,
    validate: Callable[[VeryDeep], dict[str, Any]],
    view: TrainingView | None,
    recipe: Recipe,
    data: DataSet,
) -> Loop:
    """A loop whose objective is the class of an image."""
    return Loop(
        batches=batches,
        validate=validate,
        objective=classification_for(recipe, data.train),
        chance=chance_for(recipe, count_per_class(data.train)),
        view=view,
    )


def run_loop(
    run: Run,
    state: TrainState,
    data: DataSet,
    loop: Loop,
    reporter: Callback,
    stop: Sequence[Callback],
    callbacks: Sequence[Callback],
) -> None:
    """Trains from the position of the state to the end, or until one of ``stop`` or a callback of the user stops it."""
    net, recipe, settings = state.net, state.recipe, run.settings
    own = [UserCallback(callback) for callback in (*_loggers(run), *callbacks)]
    every = [
        *stop,
        Validation(loop.validate),
        reporter,
        HealthCheck(run, data.train, loop.view, loop.chance, reporter.note),
        Checkpoints(
            run,
            lambda epochs, errors: make_run_card(net, data, recipe, epochs, errors, patience=run.patience),
            settings.get("checkpoint_seconds", 600.0),
            saves_model=run.plan.get("start") is None,
        ),
        LiveReport.of_run(run, f"{net.geometry.title} on {data.name}", data),
        *own,
    ]
    try:
        train(state, loop.batches, loop.objective, every)
    except NotFiniteError as error:
        if state.model is not None:  # the recipe auto has something else to keep
            raise
        raise UserError(explain_not_finite(state, error.images)) from error
    for failed in own:
        if (cause := failed.error) is not None:
            raise UserError(
                f"{failed.hook} raised {type(cause).__name__}: {cause}; the training is saved after epoch "
                f"{state.position.epoch}, update {state.position.iteration}: mend the callback, then resume with "
                f"verydeep.resume, or {run.resume_command}"
            ) from cause
    at = state.position
    if at.is_out_of_patience(state.patience) and at.epoch < recipe.epochs:
        kept = "its weights are kept" if recipe.keep == "best" else "the last weights are kept, --keep best has its own"
        reporter.note(
            f"ended after epoch {at.epoch} by --patience {state.patience}: no validation error below the "
            f"{100 * at.best_error:.2f}% of epoch {at.epoch - at.waited}, {kept}"
        )


def _loggers(run: Run) -> list[Callback]:
    """The callbacks that the options of a run name."""
    return (
        [TensorBoard(run.folder / TENSORBOARD_FOLDER)]
        if run.settings.get("options", {}).get("log") == "tensorboard"
        else []
    )


def mark_ended(run: Run, net: VeryDeep, data: DataSet, recipe: Recipe) -> None:
    """Writes the checkpoint of a training that has ended before its epochs have."""
    card = make_run_card(net, data, recipe, recipe.epochs, None, patience=run.patience)
    run.save_checkpoint(net, card, {}, Position(epoch=recipe.epochs, log_lines=len(run.log_records())))


def end_in_time(run: Run, state: TrainState, data: DataSet, reporter: Callback) -> None:
    """Ends a training whose time is over before its epochs are."""
    reporter.note(f"the {run.plan['seconds'] / 60:g} minutes are over: ended in epoch {state.position.epoch + 1}")
    mark_ended(run, state.net, data, state.recipe)
    state.position = replace(state.position, epoch=state.recipe.epochs, iteration=0)


def finish(
    run: Run,
    net: VeryDeep,
    data: DataSet,
    result: Result | None,
    reporter: Callback,
    *,
    epochs: int,
    selected: str | None,
    extra: dict[str, Any] | None = None,
) -> TrainedRun:
    """Reports and stores the errors of a run; without a result it was stopped before its end."""
    rates = [line["images_per_second"] for line in run.log_records()]
    trained = TrainedRun(
        run=run.folder,
        model=run.model_file if run.model_file.exists() else run.checkpoint_file,
        epochs=epochs,
        finished=result is not None,
        split=data.val.split,
        top1_error=result.top1_error if result else None,
        top5_error=result.top5_error if result else None,
        num_images=len(data.val),
        images_per_second=len(rates) / sum(1 / rate for rate in rates) if rates else 0.0,
        longer=run.plan.get("longer"),
        net=net,
    )
    if result is not None and processes().is_first:
        if result.warning is not None:
            reporter.note(f"warning: {result.warning}")
        if note := dense_is_worse(result, read_card(run.model_file).errors or {}):
            reporter.note(note)
        run.save_result(trained.as_record() | (extra or {}))
        write_training_report(run, result, data, net, selected)
    return trained


def make_run_card(
    net: VeryDeep,
    data: DataSet,
    recipe: Recipe,
    epochs: int = 0,
    errors: dict[str, Any] | None = None,
    *,
    patience: int | None,
) -> ModelCard:
    return make_card(
        net,
        recipe=recipe.as_record(),
        data=data_card(data),
        epochs=epochs,
        errors=errors,
        selected_on=selected_by(recipe, patience),
    )


def data_card(data: DataSet) -> DataCard:
    return DataCard(name=data.name, fingerprint=data.fingerprint, num_train=len(data.train), validation=data.validation)


def selected_by(recipe: Recipe, patience: int | None) -> str | None:
    """The split that the weights are selected on: early stopping selects too."""
    return selected_on(recipe.as_record()) if patience is None else "val"


def _validate(net: VeryDeep, images: ImageSet, compute: Compute) -> dict[str, Any]:
    """Measures the central crop, the cheapest protocol, in the precision of the training."""
    test, kept = at_scales(find_protocol("centre"), net), MeanPosterior(len(images), net.geometry.num_classes)
    (measured,) = measure(TorchBackend(net, compute), images, [test], lambda: kept, mirror=net.mirror)
    return errors_of_posteriors(measured.result, images)


def errors_of_posteriors(posteriors: np.ndarray, images: ImageSet) -> dict[str, Any]:
    """The errors of the central crop, as the log and the model card have them."""
    return {
        "split": images.split,
        "protocol": "centre",
        "num_images": len(images),
        "top1_error": top_error(posteriors, images.labels, 1),
        "top5_error": top_error(posteriors, images.labels, 5),
    }
