"""Starts a training: a net for the data, images checked, a run folder made."""

import json
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from verydeep.data.dataset import DataSet, describe, train_on_all
from verydeep.data.doctor import examine_quickly
from verydeep.data.image_set import ImageSet, describe_skipped, memory_for_images
from verydeep.data.open import AnyData, source_of
from verydeep.data.pixels import measure_pixels
from verydeep.device import Compute, find_device
from verydeep.distributed import broadcast_from_rank0, num_local_processes, process_group, processes
from verydeep.errors import UsageError, UserError
from verydeep.machine import environment, now
from verydeep.nets.grow import grow
from verydeep.nets.model_card import ModelCard
from verydeep.nets.net import VeryDeep
from verydeep.nets.stored_net import MODEL_FILE
from verydeep.runs.auto_start import as_in_run, check_auto, plan_training
from verydeep.runs.compute import as_recorded, choose_compute, default_workers, describe_processes, fit_into_memory
from verydeep.runs.estimate import epochs_in_time
from verydeep.runs.finish import TrainedRun, make_run_card
from verydeep.runs.net import default_folder, make_net, settle
from verydeep.runs.options import AUTO, COMPUTE_FIELDS, TrainOptions
from verydeep.runs.plan import Plan
from verydeep.runs.resume import resume, run_to_end
from verydeep.testing.images import check_classes
from verydeep.testing.metrics import interval95
from verydeep.training.recipe import Recipe
from verydeep.training.run_folder import SETTINGS_FILE, Run, check_same_options, claimed
from verydeep.training.state import Callback
from verydeep.weights.resolve import read_card

_FEW_IMAGES = 10_000
"""Up to this many training images, fine-tuning is suggested."""

_FEWEST_VALIDATED = 50
"""Validation images below which an error recommends no net."""


def start(
    data: AnyData,
    options: TrainOptions,
    *,
    reporter: Callback | None = None,
    callbacks: Sequence[Callback] = (),
    data_source: str | None = None,
    command: str | None = None,
    chain: dict[str, Any] | None = None,
) -> TrainedRun:
    """Like ``train``, with TrainOptions; ``chain`` is stored in run.json if this is one step of a chain of recipes."""
    began = time.monotonic()
    options.check_compute()
    reporter, source = reporter or Callback(), data_source or source_of(data)
    plan = None
    if options.like is not None:
        options, plan = as_in_run(options)
    if options.recipe == AUTO:
        return _start_auto(data, options, plan, began, source, reporter, callbacks, command)
    options = settle(options)
    row = options.find_recipe()
    with process_group(find_device(options.device)) as members:
        if members.size > 1 and options.out is None:
            raise UsageError("several processes need --out: the run folder that all of them can see")
        net, opened, source_net = make_net(data, options, reporter)
        if options.resume and options.out and (options.out / SETTINGS_FILE).exists():
            _check_alike(options, row, net)
            return resume(options.out, data=opened, data_source=source, reporter=reporter, callbacks=callbacks)
        check_selection(row, options)
        facts = {"command": command, "data": source, "origin": None} | ({} if chain is None else {"chain": chain})
        if options.minutes is not None:
            if options.like is None:
                row = replace(row, epochs=epochs_in_time(opened, options, reporter, time.monotonic() - began))
            facts["plan"] = {"seconds": 60 * options.minutes}
        if source_net:
            grown = grow(net, source_net)
            reporter.note(f"from {options.init_from}: {grown}")
            facts["origin"] = {
                "model": str(options.init_from),
                "copied": list(grown.copied),
                "new": list(grown.new),
            }
        else:
            _suggest_fine_tuning(net, opened, reporter)
        return begin(net, opened, row, options, facts, reporter, callbacks, began=began)


def _start_auto(
    data: AnyData,
    options: TrainOptions,
    plan: Plan | None,
    began: float,
    source: str,
    reporter: Callback,
    callbacks: Sequence[Callback],
    command: str | None,
) -> TrainedRun:
    """Plans a training by ``auto`` and begins it, or resumes what began with the same options."""
    check_auto(options)
    if options.resume and options.out and (options.out / SETTINGS_FILE).exists():
        before = Run.open(options.out).settings.get("options", {})
        now_given = {name: value for name, value in options.as_record().items() if name not in COMPUTE_FIELDS}
        check_same_options(f"the run in {options.out}", before, now_given)
        return resume(options.out, data=data, data_source=source, reporter=reporter, callbacks=callbacks)
    planned = plan_training(data, options, reporter, time.monotonic() - began, plan)
    facts = {"command": command, "data": source, "origin": None, "plan": planned.plan.as_record()}
    for reason in planned.plan.reasons:
        reporter.note(reason)
    return begin(planned.net, planned.data, planned.recipe, options, facts, reporter, callbacks, planned.compute, began)


def _check_alike(options: TrainOptions, recipe: Recipe, net: VeryDeep) -> None:
    assert options.out is not None
    began = Run.open(options.out).settings
    if options.minutes is not None and options.minutes == began.get("options", {}).get("minutes"):
        recipe = replace(recipe, epochs=began["recipe"]["epochs"])  # reckoned for these minutes
    check_same_options(
        f"the run in {options.out}",
        {"net": began.get("net"), "seed": began["seed"], "hold_out": began.get("hold_out", True)}
        | {"--patience": began.get("options", {}).get("patience")}
        | json.loads(json.dumps(Recipe(**began["recipe"]).as_record())),  # with fields that came later
        {"net": net.geometry.title, "seed": options.seed, "hold_out": not options.no_validation}
        | {"--patience": options.patience}
        | recipe.as_record(),
    )


def check_selection(recipe: Recipe, options: TrainOptions) -> None:
    if options.no_validation and options.patience is not None:
        raise UsageError(f"--patience {options.patience} waits for the validation error: leave out --no-validation")
    if options.no_validation and recipe.selects_on_validation():
        raise UsageError(
            f"--no-validation: the recipe {recipe.name} chooses by the validation error (schedule {recipe.schedule}, "
            f"keep {recipe.keep}): give one with the schedule cosine or constant that keeps the last weights"
        )


def begin(
    net: VeryDeep,
    data: DataSet,
    recipe: Recipe,
    options: TrainOptions,
    facts: dict[str, Any],
    reporter: Callback,
    callbacks: Sequence[Callback],
    compute: Compute | None = None,
    began: float | None = None,
) -> TrainedRun:
    """Claims a run folder and trains a net in it; ``facts`` go into its run.json.

    ``compute`` is chosen where it is None; ``began`` is when the time of a plan began, by the monotonic clock.
    """
    with claimed(options.out, lambda: default_folder(net, data)) as folder:
        data, images = _prepare(net, data, recipe, options, reporter)
        compute = settle_compute(compute, net, recipe, options, reporter)
        facts["command"] = (
            facts["command"] or f"verydeep.fit(net, {facts['data']!r}, out={str(folder)!r}, ...)  # Python"
        )
        settings = run_settings(net, recipe, options, compute, facts)
        run = Run.create(folder, settings | images, net, make_run_card(net, data, recipe, patience=options.patience))
        return run_to_end(run, net, data, reporter, callbacks, began=began)


def run_settings(
    net: VeryDeep, recipe: Recipe, options: TrainOptions, compute: Compute, facts: dict[str, Any]
) -> dict[str, Any]:
    """What run.json says of a training, beside what it says of its images."""
    return facts | {
        "options": options.as_record(),
        "net": net.geometry.title,
        "recipe": recipe.as_record(),
        "choice": compute.as_record(),
        "frozen": [name for name, parameter in net.named_parameters() if not parameter.requires_grad],
        "processes": processes().size,
        "seed": options.seed,
        "workers": default_workers(options.workers, compute),
        "checkpoint_seconds": options.checkpoint_seconds,
        "environment": environment(),
        "began": now(),
    }


def _prepare(
    net: VeryDeep, data: DataSet, recipe: Recipe, options: TrainOptions, reporter: Callback
) -> tuple[DataSet, dict[str, Any]]:
    """Checks all images and gives a net its scale, classes and input; returns what run.json says of the images too."""
    if options.no_validation:
        data = train_on_all(data)
    net.train_scale = recipe.scales(net.geometry.crop)
    net.mirror = recipe.mirror and data.mirror
    net.classes = net.classes or data.classes
    check_classes(net, data.train)
    reporter.note(describe(data))
    if processes().is_first:
        for finding in examine_quickly(data):
            if finding.severity != "note" or finding.kind == "imbalance":
                reporter.note(f"data: {finding.message}; {finding.remedy}")
    data, skipped = check_images(data, options.skip_damaged, reporter, net.train_scale[1])
    colours = broadcast_from_rank0(lambda: measure_pixels(data.train).as_record())
    if not net.input_is_set:
        net.set_input(colours["mean"], colours["deviation"] if recipe.input_divisor == "deviation" else np.ones(3))
    return data, {
        "fingerprint": data.fingerprint,
        "hold_out": not options.no_validation,
        "skip_damaged": options.skip_damaged,
        "skipped": skipped,
        "colours": colours,
    }


def settle_compute(
    compute: Compute | None, net: VeryDeep, recipe: Recipe, options: TrainOptions, reporter: Callback
) -> Compute:
    """Chooses how all processes compute, where that is open, and says it."""

    def chosen() -> dict[str, Any]:
        whole = as_recorded(compute or choose_compute(net, recipe, options, reporter.note), options, reporter.note)
        return (whole if compute else fit_into_memory(net, recipe, whole, reporter.note)).as_record()

    settled = Compute(**broadcast_from_rank0(chosen))
    if processes().size > 1:
        reporter.note(describe_processes(net, recipe, settled))
    return settled


def check_images(
    data: DataSet, skip_damaged: bool, reporter: Callback, scale: int | None = None
) -> tuple[DataSet, list[str]]:
    """Decodes every image once, the test images too, and holds those to train and validate on if memory allows.

    No image may be too long for ``scale``, the largest S of the training.
    """
    checked: dict[str, ImageSet] = {}
    skipped: list[str] = []
    for split, images in (("train", data.train), ("val", data.val), ("test", data.test)):
        if images is not None:
            memory = 0 if split == "test" else memory_for_images() // num_local_processes()
            checked[split], damaged = images.checked(
                skip_damaged=skip_damaged,
                memory=memory,
                scale=scale,
                progress=reporter.progress,
            )
            skipped += damaged
    if skipped:
        reporter.note(describe_skipped(skipped))
    return replace(data, train=checked["train"], val=checked["val"], test=checked.get("test")), skipped


def has_learnt(card: ModelCard) -> bool:
    """Whether a net's validation error, with its interval, is below chance, on images enough to say so."""
    errors = card.errors or {}
    error, count = errors.get("top1_error"), errors.get("num_images") or 0
    if error is None or count < _FEWEST_VALIDATED:
        return False
    return interval95(error, count)[1] < 1 - 1 / card.num_classes


def _suggest_fine_tuning(net: VeryDeep, data: DataSet, reporter: Callback) -> None:
    """Suggests fine-tuning if there are few training images and runs/ holds a net of this architecture and width."""
    if len(data.train) > _FEW_IMAGES:
        return
    for file in sorted(Path("runs").glob(f"*/{MODEL_FILE}")):
        try:
            card = read_card(file)
        except UserError:
            continue
        same = card.architecture == net.geometry.architecture.name and card.batch_norm == net.geometry.batch_norm
        other = card.data is not None and card.data.fingerprint != data.fingerprint
        if same and other and card.width == net.geometry.width and has_learnt(card):
            reporter.note(
                f"hint: {file.parent} is a trained net of this kind: --init-from {file.parent} --recipe fine-tune"
            )
            return
