"""The training of a run folder, from where it is to its end; resuming is the same from a checkpoint.

Why a resumed training is bit-exact stands in training/state.py.
"""

import shlex
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from verydeep.data.batches import training_batches
from verydeep.data.dataset import DataSet, train_on_all
from verydeep.data.image_set import ImageSet, memory_for_images
from verydeep.data.open import AnyData, open_data, source_of
from verydeep.device import Compute, check_precision, find_device
from verydeep.distributed import broadcast_from_rank0, num_local_processes, process_group, processes
from verydeep.errors import UserError
from verydeep.images.augment import TrainingView, principal_shifts
from verydeep.nets.model_card import DataCard, ModelCard, make_card, selected_on
from verydeep.nets.net import VeryDeep
from verydeep.runs.evaluation_report import dense_is_worse, write_training_report
from verydeep.runs.live_report import LiveReport
from verydeep.speed.library import has_kernel
from verydeep.speed.torch_backend import TorchBackend
from verydeep.speed.train_net import REMEDY, release
from verydeep.testing.evaluate import evaluate
from verydeep.testing.measure import MeanPosterior, measure
from verydeep.testing.metrics import top_error
from verydeep.testing.protocols import at_scales, find_protocol
from verydeep.training.callbacks import Checkpoints, HealthCheck, StopOnSignals, Validation
from verydeep.training.health import explain_not_finite
from verydeep.training.loop import make_state, train
from verydeep.training.objective import classification_for
from verydeep.training.recipe import Recipe
from verydeep.training.run_folder import TENSORBOARD_FOLDER, Run
from verydeep.training.state import Callback, Position, TrainState, UserCallback
from verydeep.training.tensorboard import TensorBoard
from verydeep.training.update import NotFiniteError
from verydeep.weights.resolve import load, read_card

_OTHER_MASKS = "0.1.0"
"""The version that drew the masks of dropout otherwise."""


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
    net: VeryDeep = field(repr=False)

    def as_record(self) -> dict[str, Any]:
        errors = ("split", "protocol", "top1_error", "top5_error", "num_images")
        names = ("epochs", "finished", *errors, "images_per_second")
        return {"run": str(self.run), "model": str(self.model)} | {name: getattr(self, name) for name in names}


def resume(
    out: str | Path,
    *,
    data: AnyData | None = None,
    reporter: Callback | None = None,
    callbacks: Sequence[Callback] = (),
    data_source: str | None = None,
) -> TrainedRun:
    """Resumes a run that was interrupted, as if nothing had happened.

    Args:
        out: the run folder.
        data: where its data lie now, if they were moved; or these data.
        reporter: reports the progress.
        callbacks: called by the training loop too; the run does not know those that it began with.
        data_source: where the data came from, if ``data`` is a data set.

    Raises:
        UserError: the folder holds no run, its data have changed, or a callback raised an exception.
    """
    reporter, run = reporter or Callback(), Run.open(Path(out))
    settings = run.settings
    find_device(settings["choice"]["device"])
    check_precision(settings["choice"]["precision"])
    given = settings["data"] if data is None else data
    source = data_source or source_of(given)
    if data is None and source.startswith("<"):
        raise UserError(f"{out} began with data that were given in Python, {source}: give them to resume as data")
    with process_group(settings["choice"]["device"]) as members:
        broadcast_from_rank0(run.check_idle)
        opened = open_data(given, reporter.progress)
        if not settings.get("hold_out", True):
            opened = train_on_all(opened)
        if opened.fingerprint != settings["fingerprint"]:
            raise UserError(f"the data in {source} are not those the run began with: restore them, or train anew")
        net, momentum, position, problem = run.restore()
        for name in settings.get("frozen", ()):
            net.get_parameter(name).requires_grad_(False)
        if problem:
            reporter.note(f"{problem}; resuming from the checkpoint before it")
        opened = _reopen_images(opened, settings["skipped"], reporter)
        reporter.note(f"resuming {run.folder} after epoch {position.epoch}, update {position.iteration}")
        began = settings.get("processes", 1)
        if members.size != began:
            reporter.note(f"the run began with {began} processes and is resumed with {members.size}")
        recipe = Recipe(**settings["recipe"])
        if settings["environment"]["verydeep"] == _OTHER_MASKS and recipe.dropout:
            reporter.note(f"the run began with verydeep {_OTHER_MASKS}: from here on its dropout draws other masks")
        return run_to_end(run, net, opened, reporter, callbacks, momentum=momentum, position=position)


def _reopen_images(data: DataSet, damaged: list[str], reporter: Callback) -> DataSet:
    """Leaves out damaged images; all were checked when the run began, so only what memory holds is decoded."""
    train, val = data.train.without(damaged), data.val.without(damaged)
    if train.decoded_bytes() + val.decoded_bytes() <= memory_for_images() // num_local_processes():
        train, val = (images.checked(memory=2**62, progress=reporter.progress)[0] for images in (train, val))
    return replace(data, train=train, val=val, test=data.test.without(damaged) if data.test else None)


def run_to_end(
    run: Run,
    net: VeryDeep,
    data: DataSet,
    reporter: Callback,
    callbacks: Sequence[Callback] = (),
    *,
    momentum: dict[str, Tensor] | None = None,
    position: Position | None = None,
) -> TrainedRun:
    """Trains from a position to the end, measures the errors and writes the report."""
    settings, recipe, compute = run.settings, Recipe(**run.settings["recipe"]), Compute(**run.settings["choice"])
    if compute.kernel and not has_kernel():
        reporter.note(f"this run began with verydeep's kernel, which is not there: PyTorch computes, {REMEDY}")
    with run.locked(), StopOnSignals() as stop, compute.thread_count():
        try:
            state = make_state(
                net, recipe, compute, seed=settings["seed"], num_images=len(data.train), momentum=momentum or {}
            )
            state.position, state.patience = position or state.position, run.patience
            own = [UserCallback(callback) for callback in (*_loggers(run), *callbacks)]
            _run_loop(run, state, data, reporter, stop, own)
        except UserError:
            run.discard_if_new()
            raise
        finally:
            release(net)
        net = load(run.model_file) if state.finished and recipe.keep == "best" else net.eval()
        result = None
        if state.finished:
            if stop.wants_stop():
                reporter.note(
                    "asked to stop: the training has ended, its errors and report follow; once more ends it now"
                )
            result = evaluate(net, data.val, device=compute.device, progress=reporter.progress)
        log = run.log_records()
        rates = [line["images_per_second"] for line in log]
        trained = TrainedRun(
            run=run.folder,
            model=run.model_file if run.model_file.exists() else run.checkpoint_file,
            epochs=state.position.epoch,
            finished=state.finished,
            split=data.val.split,
            top1_error=result.top1_error if result else None,
            top5_error=result.top5_error if result else None,
            num_images=len(data.val),
            images_per_second=len(rates) / sum(1 / rate for rate in rates) if rates else 0.0,
            net=net,
        )
        if result is not None and processes().is_first:
            if result.warning is not None:
                reporter.note(f"warning: {result.warning}")
            if note := dense_is_worse(result, read_card(run.model_file).errors or {}):
                reporter.note(note)
            run.save_result(trained.as_record())
            write_training_report(run, result, data, net, _selected_on(recipe, run.patience))
    return trained


def _loggers(run: Run) -> list[Callback]:
    """The callbacks that the options of a run name."""
    return (
        [TensorBoard(run.folder / TENSORBOARD_FOLDER)]
        if run.settings.get("options", {}).get("log") == "tensorboard"
        else []
    )


def _run_loop(
    run: Run,
    state: TrainState,
    data: DataSet,
    reporter: Callback,
    stop: StopOnSignals,
    own: Sequence[UserCallback],
) -> None:
    net, recipe, settings = state.net, state.recipe, run.settings
    covariance = np.array(settings["colours"]["covariance"])
    view = TrainingView(
        crop=net.geometry.crop,
        train_scale=net.train_scale,
        mirror=net.mirror,
        colour_shift=principal_shifts(covariance) if recipe.colour_shift else None,
    )
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
    callbacks = [
        stop,
        Validation(lambda net: _validate(net, data.val, state.compute)),
        reporter,
        HealthCheck(run, data.train, view, reporter.note),
        Checkpoints(
            run,
            lambda epochs, errors: make_run_card(net, data, recipe, epochs, errors, patience=run.patience),
            settings.get("checkpoint_seconds", 600.0),
        ),
        LiveReport.of_run(run, f"{net.geometry.title} on {data.name}", data),
        *own,
    ]
    try:
        train(state, batches, classification_for(recipe, data.train), callbacks)
    except NotFiniteError as error:
        raise UserError(explain_not_finite(state, error.images)) from error
    for failed in own:
        if (cause := failed.error) is not None:
            raise UserError(
                f"{failed.hook} raised {type(cause).__name__}: {cause}; the training is saved after epoch "
                f"{state.position.epoch}, update {state.position.iteration}: mend the callback, then resume with "
                f"verydeep.resume, or verydeep train --resume --out {shlex.quote(str(run.folder))}"
            ) from cause
    at = state.position
    if at.is_out_of_patience(state.patience) and at.epoch < recipe.epochs:
        kept = "its weights are kept" if recipe.keep == "best" else "the last weights are kept, --keep best has its own"
        reporter.note(
            f"ended after epoch {at.epoch} by --patience {state.patience}: no validation error below the "
            f"{100 * at.best_error:.2f}% of epoch {at.epoch - at.waited}, {kept}"
        )


def make_run_card(
    net: VeryDeep,
    data: DataSet,
    recipe: Recipe,
    epochs: int = 0,
    errors: dict[str, Any] | None = None,
    *,
    patience: int | None,
) -> ModelCard:
    about = DataCard(
        name=data.name, fingerprint=data.fingerprint, num_train=len(data.train), validation=data.validation
    )
    selected = _selected_on(recipe, patience)
    return make_card(net, recipe=recipe.as_record(), data=about, epochs=epochs, errors=errors, selected_on=selected)


def _selected_on(recipe: Recipe, patience: int | None) -> str | None:
    """The split that the weights are selected on: early stopping selects too."""
    return selected_on(recipe.as_record()) if patience is None else "val"


def _validate(net: VeryDeep, images: ImageSet, compute: Compute) -> dict[str, Any]:
    """Measures the central crop, the cheapest protocol, in the precision of the training."""
    test, kept = at_scales(find_protocol("centre"), net), MeanPosterior(len(images), net.geometry.num_classes)
    (measured,) = measure(TorchBackend(net, compute), images, [test], lambda: kept, mirror=net.mirror)
    return {
        "split": images.split,
        "protocol": test.protocol.name,
        "num_images": len(images),
        "top1_error": top_error(measured.result, images.labels, 1),
        "top5_error": top_error(measured.result, images.labels, 5),
    }
