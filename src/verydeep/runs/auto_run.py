"""Carries out a plan of the recipe ``auto`` that begins from published convolutions.

First the maps of a few views of every image and a linear classifier on their descriptors, which is a model that can be
used; then the upper blocks are trained from it on the stored maps; what is better is kept.
"""

import copy
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, Final

from torch import Tensor

from verydeep.data.dataset import DataSet, hold_out
from verydeep.data.image_set import ImageSet
from verydeep.device import Compute
from verydeep.errors import UserError
from verydeep.nets.model_card import ModelCard, make_card
from verydeep.nets.net import VeryDeep
from verydeep.nets.upper import UpperBlocks
from verydeep.progress import Progress
from verydeep.runs.auto import SMALL_VALIDATION
from verydeep.runs.comparison import FEWEST_BETTER, Comparison, cross_validate, scores_on_maps
from verydeep.runs.finish import (
    Deadline,
    Loop,
    TrainedRun,
    classification_loop,
    data_card,
    end_in_time,
    errors_of_posteriors,
    finish,
    loop_on_images,
    mark_ended,
    run_loop,
    state_at,
)
from verydeep.runs.image_findings import record_findings, save_findings
from verydeep.runs.live_report import LiveReport
from verydeep.runs.plan import Plan
from verydeep.speed.train_net import release
from verydeep.testing.calibration import fold_temperature, scores_of
from verydeep.testing.evaluate import evaluate
from verydeep.testing.metrics import interval95, wrong
from verydeep.testing.result import Result
from verydeep.testing.shared_blocks import LowerBlocks
from verydeep.training.callbacks import StopOnSignals
from verydeep.training.recipe import Recipe
from verydeep.training.run_folder import Run
from verydeep.training.state import Callback, Position, TrainState
from verydeep.training.stored_maps import StoredMaps, store_maps
from verydeep.training.update import NotFiniteError
from verydeep.transfer.classifier import MOST_NUMBERS, fit_classifier
from verydeep.transfer.findings import look_at_images
from verydeep.transfer.metrics import one_against_rest, score_accuracy
from verydeep.transfer.write import linear_net, rounded
from verydeep.weights.resolve import load, read_card

LINEAR: Final = "linear classifier"

Test = Callable[[VeryDeep], Result]


class _StoppedError(Exception):
    """Ctrl-C before the loop, which has a checkpoint of its own."""


class _TimeError(Exception):
    """The time of the plan is over before a comparison is made."""


def train_by_plan(
    run: Run,
    net: VeryDeep,
    data: DataSet,
    reporter: Callback,
    callbacks: Sequence[Callback],
    stop: StopOnSignals,
    deadline: Deadline,
    momentum: dict[str, Tensor] | None,
    position: Position | None,
) -> TrainedRun:
    """Trains a run by its plan from a position to the end; see ``run_to_end``."""
    plan, recipe = Plan.from_record(run.settings["plan"]), Recipe(**run.settings["recipe"])
    compute = Compute(**run.settings["choice"])
    if plan.share < 1:
        data = replace(data, train=hold_out(data.train, plan.share, data.train.split)[1])

    live = LiveReport.of_run(run, f"{net.geometry.title} on {data.name}", data)
    live.doing("looking at the images")

    def progress(what: str, done: int, total: int) -> None:
        if stop.wants_stop():
            raise _StoppedError
        live.progress(what, done, total)
        reporter.progress(what, done, total)

    def in_time(what: str, done: int, total: int) -> None:
        if deadline.wants_stop():
            raise _TimeError
        progress(what, done, total)

    state: TrainState | None = None
    compared: Comparison | None = None
    try:
        start = load(plan.begun_from)
        test = _tester(plan, start, data, compute, progress)
        maps = partial(_maps, run, plan, start, compute, data.mirror)
        stored = maps(data.train, range(1), progress)
        linear = _fit_linear(run, plan, start, data, stored, test, reporter, progress)
        if plan.then == "noise":
            state = state_at(run, net, data, momentum, position)
            loop = loop_on_images(run, state, data)
        elif plan.then == "fine-tune":
            is_new = position is None or position == Position()
            begun = copy.deepcopy(linear[0]) if is_new else net
            state = state_at(run, begun, data, momentum, position)
            state.model = UpperBlocks(begun, plan.first_block)
            stored = stored.with_more(maps(data.train, range(1, plan.num_views), in_time))
            if plan.folds:
                compared = cross_validate(plan, start, state, stored, data, in_time)
            held_out = maps(data.val, range(1), progress).maps[0]
            loop = _loop_on_maps(state, stored, held_out, data)
        if state is not None and (compared is None or compared.is_better):
            run_loop(run, state, data, loop, reporter, [stop, deadline], callbacks)
            if not state.finished and deadline.reached and not stop.wants_stop():
                end_in_time(run, state, data, reporter)
            if not state.finished:
                return finish(run, state.net, data, None, reporter, epochs=state.position.epoch, selected=None)
            release(state.net)
        else:
            mark_ended(run, net, data, recipe)
        return _choose(run, plan, data, test, linear, state, compared, reporter)
    except (_TimeError, NotFiniteError) as error:
        why = "the time is over before it is known whether training on would help"
        if isinstance(error, NotFiniteError):
            assert state is not None
            why = f"the training went astray in epoch {state.position.epoch + 1}: the linear classifier is kept"
        reporter.note(why)
        mark_ended(run, net, data, recipe)
        return _choose(run, plan, data, test, linear, None, None, reporter)
    except _StoppedError:
        epochs = state.position.epoch if state else 0
        return finish(run, net, data, None, reporter, epochs=epochs, selected=None)
    except UserError:
        if position is None:
            run.discard_if_new()
        raise
    finally:
        release(net if state is None else state.net)


def _tester(plan: Plan, start: VeryDeep, data: DataSet, compute: Compute, progress: Progress) -> Test:
    """What tests a net by ``single`` on the validation images, and settles whether it sees their mirror images too.

    The blocks that all nets share compute once.
    """
    if plan.then == "noise":  # another net
        return lambda net: evaluate(net, data.val, device=compute.device, progress=progress)
    lower = LowerBlocks(start, plan.first_computed, compute.device, most_bytes=plan.kept_bytes)

    def test(net: VeryDeep) -> Result:
        net.mirror = data.mirror
        result = lower.evaluate(net, data.val, mirror=net.mirror, progress=progress)
        if data.mirror and len(data.val) >= SMALL_VALIDATION:
            plain = lower.evaluate(net, data.val, mirror=False, progress=progress)
            if _num_wrong(result) - _num_wrong(plain) >= FEWEST_BETTER:
                net.mirror, result = False, plain
        return result

    return test


def _maps(
    run: Run,
    plan: Plan,
    start: VeryDeep,
    compute: Compute,
    mirror: bool,
    images: ImageSet,
    views: range,
    progress: Progress,
) -> StoredMaps:
    return store_maps(
        start,
        images,
        compute,
        side=plan.side,
        views=views,
        first_block=plan.first_computed if plan.then == "fine-tune" else None,
        seed=run.settings["seed"],
        mirror=mirror,
        progress=progress,
    )


def _fit_linear(
    run: Run,
    plan: Plan,
    start: VeryDeep,
    data: DataSet,
    stored: StoredMaps,
    test: Test,
    reporter: Callback,
    progress: Progress,
) -> tuple[VeryDeep, Result]:
    """Fits the linear classifier, as a net; the model file is this net until there is a better one."""
    targets = one_against_rest(data.train.labels, len(data.classes))
    fitted = fit_classifier(
        stored.descriptors,
        targets,
        data.classes,
        score_accuracy,
        kind="svm",
        seed=run.settings["seed"],
        progress=progress,
    )
    classifier = rounded(fitted, plan.begun_from)
    net = linear_net(start, classifier, data.classes, plan.side)
    net.mirror = data.mirror
    result = test(net)
    held_out = 1 - max(classifier.held_out.values())
    low, high = interval95(result.top1_error, len(data.val))
    if not run.model_file.exists():
        run.save_model(net, _card(run, net, data, result, LINEAR, 0, None), read_card(plan.begun_from).precision)
        reporter.note(
            f"linear classifier: {100 * result.top1_error:.2f}% of {len(data.val)} validation images wrong by single "
            f"(95%: {100 * low:.1f} to {100 * high:.1f}), {100 * held_out:.2f}% in cross-validation on the training "
            f"images; {run.model_file} can be used from now on"
        )
        if stored.descriptors.size <= MOST_NUMBERS:
            found = look_at_images(fitted, stored.descriptors, targets, data.classes, seed=run.settings["seed"])
            record = record_findings(*found, len(data.train))
            save_findings(run.folder, record)
            for line in (record["learning_curve"] or {}).get("text"), record["text"]:
                if line:
                    reporter.note(f"images: {line}")
    return net, result


def _loop_on_maps(state: TrainState, stored: StoredMaps, held_out: Tensor, data: DataSet) -> Loop:
    def validate(_: VeryDeep) -> dict[str, Any]:
        scores = scores_on_maps(state, held_out)
        return errors_of_posteriors(scores.softmax(1).numpy(), data.val)

    batches = stored.batches(state.recipe, seed=state.seed, images=data.train)
    return classification_loop(batches, validate, None, state.recipe, data)


def _choose(
    run: Run,
    plan: Plan,
    data: DataSet,
    test: Test,
    linear: tuple[VeryDeep, Result],
    state: TrainState | None,
    compared: Comparison | None,
    reporter: Callback,
) -> TrainedRun:
    """Keeps the linear classifier or what was trained after it, calibrates it, and writes the model and the report."""
    net, before = linear
    result, kept, selected, epochs = before, LINEAR, None, 0
    record: dict[str, Any] = {"linear_top1_error": before.top1_error}
    if state is not None:
        tuned = None
        if compared is None or compared.is_better:
            net = state.net.eval()
            tuned = test(net)
        if compared is None:
            assert tuned is not None
            selected = data.val.split
            compared = Comparison(_num_wrong(before), _num_wrong(tuned), f"{len(data.val):,} validation images")
        verdict = "kept" if compared.is_better else "not clearly better, so the linear classifier is kept"
        reporter.note(
            f"{plan.then}: {compared.after} of {compared.where} wrong, by the linear classifier {compared.before}: "
            f"{verdict}"
        )
        record |= {"compared_on": compared.where, "wrong": [compared.before, compared.after]}
        precision = read_card(plan.begun_from).precision
        if compared.is_better and tuned is not None:
            kept, epochs, precision = str(plan.then), state.position.epoch, "fp32"
            record["temperature"] = fold_temperature(net, scores_of(tuned.posteriors), tuned.labels)
            result = test(net)  # the mean of two posteriors
        else:
            net = linear[0]
        run.save_model(net, _card(run, net, data, result, kept, epochs, selected), precision)
    if data.mirror and not net.mirror:
        reporter.note(
            f"mirror images: not used by tests and predictions: without them at least {FEWEST_BETTER} more of the "
            f"{len(data.val):,} validation images are right"
        )
    return finish(run, net, data, result, reporter, epochs=epochs, selected=selected, extra=record | {"kept": kept})


def _num_wrong(result: Result) -> int:
    return int(wrong(result.posteriors, result.labels).sum())


def _card(
    run: Run, net: VeryDeep, data: DataSet, result: Result, kept: str, epochs: int, selected: str | None
) -> ModelCard:
    plan = run.plan
    start = read_card(plan["start"])
    errors = {
        "split": result.split,
        "protocol": result.protocol,
        "num_images": len(result.labels),
        "top1_error": result.top1_error,
        "top5_error": result.top5_error,
    }
    return make_card(
        net,
        recipe=run.settings["recipe"],
        data=data_card(data),
        epochs=epochs,
        errors=errors,
        selected_on=selected,
        licence=start.licence if kept != "noise" else None,
        source=f"{kept} from {plan['start']} ({start.source or 'source unknown'})" if kept != "noise" else None,
    )
