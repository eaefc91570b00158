"""A run folder, trained from where it is to its end; resuming is the same from a checkpoint.

Why a resumed training is bit-exact stands in training/state.py.
"""

import math
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from torch import Tensor

from verydeep.data.dataset import DataSet, train_on_all
from verydeep.data.image_set import memory_for_images
from verydeep.data.open import AnyData, open_data, source_of
from verydeep.device import Compute, check_precision, find_device
from verydeep.distributed import num_local_processes, process_group
from verydeep.errors import UserError
from verydeep.nets.net import VeryDeep
from verydeep.runs.auto_run import train_by_plan
from verydeep.runs.finish import (
    Deadline,
    TrainedRun,
    end_in_time,
    finish,
    loop_on_images,
    make_run_card,
    run_loop,
    selected_by,
    state_at,
)
from verydeep.speed.library import has_kernel
from verydeep.speed.train_net import REMEDY, release
from verydeep.testing.evaluate import evaluate
from verydeep.training.callbacks import StopOnSignals
from verydeep.training.recipe import Recipe
from verydeep.training.run_folder import Run
from verydeep.training.run_lock import locked
from verydeep.training.state import Callback, Position
from verydeep.weights.resolve import load

_OTHER_MASKS = "0.1.0"
"""The version that drew the masks of dropout otherwise."""


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
    if run.verb != "train":
        raise UserError(f"{out} is a run of {run.verb}: {run.resume_command}")
    run.check_resumable()
    find_device(settings["choice"]["device"])
    check_precision(settings["choice"]["precision"])
    given = settings["data"] if data is None else data
    source = data_source or source_of(given)
    if data is None and source.startswith("<"):
        raise UserError(f"{out} began with data that were given in Python, {source}: give them to resume as data")
    with process_group(settings["choice"]["device"]) as members, locked(run.folder):
        try:
            opened = open_data(given, reporter.progress)
        except UserError as error:
            if data is not None:
                raise
            raise UserError(f"{error}; if the data were moved: verydeep train NEW --resume --out {out}") from error
        if not settings.get("hold_out", True):
            opened = train_on_all(opened)
        if opened.fingerprint != settings["fingerprint"]:
            raise UserError(
                f"the data in {source} are not those the run began with: restore them, or train anew; if they were "
                f"moved: verydeep train NEW --resume --out {out}"
            )
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
    began: float | None = None,
) -> TrainedRun:
    """Trains from a position to the end, measures the errors and writes the report.

    ``began`` is when the time of a plan began, by the monotonic clock; a run that is resumed has all of it again.
    """
    recipe, compute = Recipe(**run.settings["recipe"]), Compute(**run.settings["choice"])
    if compute.kernel and not has_kernel():
        reporter.note(f"this run began with verydeep's kernel, which is not there: PyTorch computes, {REMEDY}")
    with locked(run.folder), StopOnSignals() as stop, compute.thread_count():
        deadline = Deadline((began or time.monotonic()) + run.plan.get("seconds", math.inf))
        if run.plan.get("start") is not None:
            return train_by_plan(run, net, data, reporter, callbacks, stop, deadline, momentum, position)
        try:
            state = state_at(run, net, data, momentum, position)
            run_loop(run, state, data, loop_on_images(run, state, data), reporter, [stop, deadline], callbacks)
        except UserError:
            if position is None:
                run.discard_if_new()
            raise
        finally:
            release(net)
        if deadline.reached and not stop.wants_stop() and not state.finished:
            epochs = state.position.epoch
            end_in_time(run, state, data, reporter)
            if recipe.keep == "last" or not run.model_file.exists():
                run.save_model(net, make_run_card(net, data, recipe, epochs, None, patience=run.patience))
        net = load(run.model_file) if state.finished and recipe.keep == "best" else net.eval()
        result = None
        if state.finished:
            if stop.wants_stop():
                reporter.note(
                    "asked to stop: the training has ended, its errors and report follow; once more ends it now"
                )
            result = evaluate(net, data.val, device=compute.device, progress=reporter.progress)
        selected = selected_by(recipe, run.patience)
        return finish(run, net, data, result, reporter, epochs=state.position.epoch, selected=selected)
