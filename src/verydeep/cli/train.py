"""``train``: a net trained into a run folder, planned, or resumed."""

import shlex
import sys
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter
from rich.table import Table

from verydeep.cli.options import (
    Data,
    Json,
    Set,
    options_given,
    prepare_process,
    read_changes,
    read_scales,
)
from verydeep.cli.output import (
    FEW_IMAGES,
    between,
    fetch_models,
    is_first_process,
    percent,
    print_json,
    print_table,
    reporting,
)
from verydeep.cli.plain import print
from verydeep.errors import UsageError
from verydeep.files import format_number
from verydeep.runs.options import AUTO, TrainOptions

if TYPE_CHECKING:
    from verydeep.runs.estimate import Estimate
    from verydeep.runs.finish import TrainedRun
    from verydeep.runs.plan import Plan

_SPLITS = {"val": "validation", "test": "test", "train": "training"}


def train(
    data: Data | None = None,
    /,
    *,
    options: Annotated[TrainOptions, Parameter(name="*", parse="^(?!changes$|train_scale$)")] = TrainOptions(),
    set: Set = (),
    train_scale: Annotated[str | None, Parameter(help="S, or Smin,Smax for scale jitter. [256 x crop / 224]")] = None,
    json: Json = False,
) -> int:
    """Train a net into a run folder.

    Example: verydeep train digits --recipe quick --batch-norm --out runs/digits
    """
    scales = None if train_scale is None else read_scales(train_scale, "--train-scale")
    options = replace(
        options, changes=read_changes(set), train_scale=scales[0] if scales and len(scales) == 1 else scales
    )
    if not 0 <= options.seed < 2**64:
        raise UsageError(f"--seed {options.seed}: give a number from 0 to {2**64 - 1}")
    prepare_process()
    given = options_given(options, besides=("out", "resume", "devices"))
    options.check(data, given)
    fetch_models(None if options.start_model is None else str(options.start_model))

    from verydeep.data.open import open_data
    from verydeep.device import find_device
    from verydeep.distributed import launch
    from verydeep.runs.auto_start import as_in_run, check_auto, plan_training
    from verydeep.runs.chain import plan_steps, run_options

    if data is not None and options.recipe == AUTO and options.like is None:
        check_auto(options)
    made = None
    if options.plan and options.like is not None:
        options, made = as_in_run(options)
    if options.plan and data is not None and options.recipe == AUTO:
        with reporting() as reporter:
            auto_plan = plan_training(data, options, reporter, 0.0, made).plan
        if json:
            print_json(auto_plan.as_record())
        else:
            _print_auto_plan(auto_plan)
        return 0
    if options.plan and data is not None:
        with reporting() as reporter:
            plans = plan_steps(data, options, reporter=reporter)
        if json:
            records = {title: plan.as_record() for title, plan in plans.items()}
            print_json(records[options.recipe] if len(records) == 1 else {"steps": records})
        else:
            for title, plan in plans.items():
                _print_plan(title, plan)
        return 0
    if options.devices != 1:
        if data is not None:
            open_data(data)  # an error is reported once, by this process
        return launch(options.devices, sys.argv[1:], find_device(options.device))
    command = shlex.join(["verydeep", *sys.argv[1:]])
    with reporting() as reporter:
        trained = run_options(data, options, given=bool(given), reporter=reporter, command=command)
    if not is_first_process():
        return 0
    if json:
        print_json(trained.as_record())
    elif trained.finished:
        _print(trained, data)
    if not trained.finished:
        print(f"stopped in epoch {trained.epochs + 1}; everything is saved. Resume with:", file=sys.stderr)
        print(f"  verydeep train --resume --out {shlex.quote(str(trained.run))}", file=sys.stderr)
        return 1
    return 0


def _print(trained: "TrainedRun", data: str | None) -> None:
    top5 = "" if trained.top5_error is None else f", top-5 error {percent(trained.top5_error)}"
    images = f"{trained.num_images:,} {_SPLITS[trained.split]} images by {trained.protocol}"
    if trained.num_images < FEW_IMAGES and trained.top1_error is not None:
        images += f", so few that the error may be {between(trained.top1_error, trained.num_images)}"
    epochs = f"{trained.epochs} epoch{'s' if trained.epochs > 1 else ''}"
    rate = f"{format_number(trained.images_per_second)} images/s"
    how = f"after {epochs} ({rate})" if trained.epochs else "by the linear classifier"
    print(f"{trained.model}: top-1 error {percent(trained.top1_error)}{top5} on {images} {how}")
    if trained.longer is not None:
        print(trained.longer)
    print(f"{trained.run / 'report.html'} shows the curves and the worst errors. Next:")
    run, given = shlex.quote(str(trained.run)), shlex.quote(data) if data else "DATA"
    print(f"  verydeep evaluate {run} {given}")
    print(f"  verydeep predict {run} IMAGE...")
    if trained.longer is not None:
        print(f"  verydeep train {given} --like {run}   # the same once more")


def _print_auto_plan(plan: "Plan") -> None:
    for reason in plan.reasons:
        print(reason)
    print(f"time: {plan.expected_seconds / 60:.1f} of {plan.seconds / 60:g} minutes, as measured for a moment")
    print(f"memory: {plan.memory_bytes / 2**30:.1f} GiB")


def _print_plan(recipe: str, plan: "Estimate") -> None:
    table = Table("", title=f"{plan.net}, recipe {recipe}", title_justify="left", show_header=False, box=None)
    gib = 2**30
    hours = plan.seconds / 3600
    time = (
        f"{60 * hours:.1f} minutes" if hours < 2 else f"{hours:.1f} hours" if hours < 72 else f"{hours / 24:.1f} days"
    )
    rows = {
        "images": f"{plan.num_images:,}, {plan.epochs} epochs at most",
        "updates": f"{plan.iterations:,} of {plan.batch_size} images",
        "parameters": f"{plan.parameters:,}",
        "computed on": plan.choice,
        "rate": f"{format_number(plan.images_per_second)} images/s: "
        f"{format_number(plan.computed_per_second)} computed, "
        f"{format_number(plan.read_per_second)} read and cropped in each process",
        "time": f"{time}, validation included",
        "memory": f"{plan.memory_bytes / gib:.2f} GiB of {plan.free_bytes / gib:.1f} free: "
        f"weights, gradients, momentum {plan.weight_bytes / gib:.2f} each, "
        f"activations {plan.activation_bytes / gib:.2f}, images {plan.image_bytes / gib:.2f}",
        "disk": f"{plan.disk_bytes / gib:.2f} GiB of {plan.free_disk_bytes / gib:.1f} free: model, two checkpoints and "
        "one being written",
    }
    for name, value in rows.items():
        table.add_row(name, value)
    print_table(table)
    for warning in plan.warnings:
        print(f"warning: {warning}")
