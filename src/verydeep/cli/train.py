"""``train``: a net trained into a run folder, planned, or resumed."""

import shlex
import sys
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

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
    skips_damaged,
)
from verydeep.cli.output import fetch_models, is_first_process, percent, print_json, print_table, reporting
from verydeep.errors import UsageError

if TYPE_CHECKING:
    from verydeep.runs.estimate import Plan
    from verydeep.runs.finish import Trained

_SPLITS = {"val": "validation", "test": "test", "train": "training"}


@dataclass(frozen=True, kw_only=True)
class TrainOptions:
    """The options of ``train``."""

    architecture: str = "A"
    "A, A-LRN, B, C, D, E or B-5x5; vgg16 and the like too."
    batch_norm: bool = False
    "A batch norm after every convolution."
    recipe: str = "small-images"
    "paper, paper-chain, small-images, quick, fine-tune ... or a JSON file."
    changes: dict[str, Any] = field(default_factory=dict)
    "Change a field of the recipe: key=value."
    crop: int | None = None
    "Side of the training crop, a multiple of 32. [32 for digits and cifar, else 224]"
    width: float = 1.0
    "Factor on the channels of every layer."
    train_scale: int | tuple[int, ...] | None = None
    "S, or Smin,Smax for scale jitter. [256 x crop / 224]"
    epochs: int | None = None
    "Passes over the training images. [the recipe's]"
    batch_size: int | None = None
    "Images per update. [the recipe's]"
    init_from: str | None = None
    "Take weights from a model file, run folder or published name."
    initialise: str | None = None
    "gaussian, gaussian-variance, glorot or kaiming. [the recipe's]"
    keep: str | None = None
    "last, or best by validation. [the recipe's]"
    out: Path | None = None
    "The run folder. [a new one under runs/]"
    resume: bool = False
    "Go on with the run in --out; needs nothing else. With DATA: begin it if there is none."
    device: str | None = None
    "cpu, cuda or mps; by default the fastest there is."
    precision: str | None = None
    "fp32 or bf16. [the faster]"
    workers: int | None = None
    "Processes that make crops. [0 on a CPU, one a core for a GPU]"
    devices: int = 1
    "Train in this many processes, one a GPU or share of the cores."
    micro_batch: int | None = None
    "Compute this many images at a time: less memory. [the whole batch]"
    gradient_checkpointing: bool = False
    "Compute activations twice: less memory, a third more time."
    checkpoint_minutes: float = 10
    "Time between checkpoints within an epoch."
    plan: bool = False
    "Only say what it would take: time, memory, disk; measured for a moment."
    seed: int = 0
    "Of the weights, the order, the crops and the dropout."
    no_validation: bool = False
    "Train on the validation images too, once the recipe is settled."
    damaged: str = "fail"
    "What to do with damaged images: fail, or skip and count them."


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
    recipe_options = {
        "epochs": options.epochs,
        "batch_size": options.batch_size,
        "initialisation": options.initialise,
        "keep": options.keep,
    }
    changes = dict(options.changes) | {name: value for name, value in recipe_options.items() if value is not None}
    if options.train_scale is not None:
        changes["train_scale"] = options.train_scale
    skip_damaged = skips_damaged(options.damaged)
    if not 0 <= options.seed < 2**64:
        raise UsageError(f"--seed {options.seed}: give a number from 0 to {2**64 - 1}")
    prepare_process()

    from verydeep.runs.preparation import ComputeOptions
    from verydeep.runs.verb import Asked, make_plans, run, start_processes

    net = {
        "architecture": options.architecture,
        "batch_norm": options.batch_norm,
        "crop": options.crop,
        "width": options.width,
        "seed": options.seed,
    }
    if options.no_validation:
        net["hold_out"] = False
    asked = Asked(
        data=data,
        out=options.out,
        recipe=options.recipe,
        changes=changes,
        resume=options.resume,
        others=options_given(options, besides=("out", "resume", "devices")),
        net=net | {"init_from": options.init_from},
        execution=ComputeOptions(
            device=options.device,
            precision=options.precision,
            workers=options.workers,
            micro_batch=options.micro_batch,
            gradient_checkpointing=options.gradient_checkpointing,
            checkpoint_seconds=60 * options.checkpoint_minutes,
        ),
        skip_damaged=skip_damaged,
        command=shlex.join(["verydeep", *sys.argv[1:]]),
    )
    asked.check()
    fetch_models(options.init_from)
    if options.plan:
        with reporting() as reporter:
            plans = make_plans(asked, options.devices, reporter)
        if json:
            records = {title: made.as_record() for title, made in plans.items()}
            print_json(records[options.recipe] if len(records) == 1 else {"steps": records})
        else:
            for title, made in plans.items():
                _print_plan(title, made)
        return 0
    if options.devices != 1:
        return start_processes(asked, options.devices)
    with reporting() as reporter:
        trained = run(asked, reporter)
    if not is_first_process():
        return 0
    if json:
        print_json(trained.as_record())
    elif trained.finished:
        _print(trained, data)
    if not trained.finished:
        print(f"stopped in epoch {trained.epochs + 1}; everything is saved. Go on with:", file=sys.stderr)
        print(f"  verydeep train --resume --out {shlex.quote(str(trained.run))}", file=sys.stderr)
        return 1
    return 0


def _print(trained: "Trained", data: str | None) -> None:
    """Prints the errors of a finished training and what comes next."""
    top5 = "" if trained.top5_error is None else f", top-5 error {percent(trained.top5_error)}"
    images = f"{trained.num_images:,} {_SPLITS[trained.split]} images"
    print(
        f"{trained.model}: top-1 error {percent(trained.top1_error)}{top5} on {images} after"
        f" {trained.epochs} epoch{'s' if trained.epochs > 1 else ''} ({trained.images_per_second:,.0f} images/s)"
    )
    print(f"{trained.run / 'report.html'} shows the curves and the worst mistakes. Next:")
    run = shlex.quote(str(trained.run))
    print(f"  verydeep evaluate {run} {shlex.quote(data) if data else 'DATA'}")
    print(f"  verydeep predict {run} IMAGE...")


def _print_plan(recipe: str, plan: "Plan") -> None:
    """Prints what a training would take."""
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
        "rate": f"{plan.images_per_second:,.3g} images/s: {plan.computed_per_second:,.3g} computed, "
        f"{plan.read_per_second:,.3g} read and cropped in each process",
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
