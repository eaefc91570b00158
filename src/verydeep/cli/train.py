"""The command line of training.

torch is imported inside the verb, as in the command line itself.
"""

import shlex
import sys
from pathlib import Path
from typing import Annotated

import typer

from verydeep.cli.json_answer import JsonOption, print_json
from verydeep.cli.options import (
    DATA_HELP,
    DamagedOption,
    DeviceOption,
    fetch_weights,
    options_given,
    prepare_process,
    read_changes,
    read_scales,
    skips_damaged,
)
from verydeep.runs.options import TrainOptions


def train(
    context: typer.Context,
    data: Annotated[str | None, typer.Argument(help=DATA_HELP)] = None,
    architecture: Annotated[str, typer.Option(help="A, A-LRN, B, C, D, E or B-5x5; vgg16 and the like too.")] = "A",
    batch_norm: Annotated[bool, typer.Option("--batch-norm", help="A batch norm after every convolution.")] = False,
    recipe: Annotated[
        str, typer.Option(help="paper, paper-chain, small-images, quick, fine-tune ... or a JSON file.")
    ] = "small-images",
    set_: Annotated[list[str] | None, typer.Option("--set", help="Change a field of the recipe: key=value.")] = None,
    crop: Annotated[
        int | None,
        typer.Option(help="Side of the training crop, a multiple of 32. [32 for digits and cifar, else 224]"),
    ] = None,
    width: Annotated[float, typer.Option(help="Factor on the channels of every layer.")] = 1.0,
    train_scale: Annotated[
        str | None, typer.Option(help="S, or Smin,Smax for scale jitter. [256 x crop / 224]")
    ] = None,
    epochs: Annotated[int | None, typer.Option(help="Passes over the training images. [the recipe's]")] = None,
    batch_size: Annotated[int | None, typer.Option(help="Images per update. [the recipe's]")] = None,
    init_from: Annotated[
        str | None, typer.Option(help="Take weights from a model file, run folder or published name.")
    ] = None,
    initialise: Annotated[
        str | None, typer.Option(help="gaussian, gaussian-variance, glorot or kaiming. [the recipe's]")
    ] = None,
    keep: Annotated[str | None, typer.Option(help="last, or best by validation. [the recipe's]")] = None,
    out: Annotated[Path | None, typer.Option(help="The run folder. [a new one under runs/]")] = None,
    resume: Annotated[
        bool,
        typer.Option(
            "--resume", help="Go on with the run in --out; needs nothing else. With DATA: begin it if there is none."
        ),
    ] = False,
    device: DeviceOption = None,
    precision: Annotated[str | None, typer.Option(help="fp32 or bf16. [the faster]")] = None,
    workers: Annotated[
        int | None, typer.Option(help="Processes that make crops. [0 on a processor, one a core for a GPU]")
    ] = None,
    devices: Annotated[int, typer.Option(help="Train in this many processes, one a GPU or share of the cores.")] = 1,
    micro_batch: Annotated[
        int | None, typer.Option(help="Compute this many images at a time: less memory. [the whole batch]")
    ] = None,
    gradient_checkpointing: Annotated[
        bool,
        typer.Option("--gradient-checkpointing", help="Compute activations twice: less memory, a third more time."),
    ] = False,
    checkpoint_minutes: Annotated[float, typer.Option(help="Time between checkpoints within an epoch.")] = 10,
    plan: Annotated[
        bool, typer.Option("--plan", help="Only say what it would take: time, memory, disk; measured for a moment.")
    ] = False,
    seed: Annotated[
        int, typer.Option(min=0, max=2**64 - 1, help="Of the weights, the order, the crops and the dropout.")
    ] = 0,
    no_validation: Annotated[
        bool, typer.Option("--no-validation", help="Train on the validation images too, once the recipe is settled.")
    ] = False,
    damaged: DamagedOption = "fail",
    as_json: JsonOption = False,
) -> None:
    """Train a net into a run folder.

    Example: verydeep train digits --recipe quick --batch-norm --out runs/digits
    """
    scales = None if train_scale is None else read_scales(train_scale, "--train-scale")
    options = TrainOptions(
        architecture=architecture,
        batch_norm=batch_norm,
        recipe=recipe,
        changes=read_changes(set_ or []),
        crop=crop,
        width=width,
        train_scale=scales[0] if scales and len(scales) == 1 else scales,
        epochs=epochs,
        batch_size=batch_size,
        init_from=init_from,
        initialise=initialise,
        keep=keep,
        out=out,
        resume=resume,
        device=device,
        precision=precision,
        workers=workers,
        devices=devices,
        micro_batch=micro_batch,
        gradient_checkpointing=gradient_checkpointing,
        checkpoint_minutes=checkpoint_minutes,
        plan=plan,
        seed=seed,
        no_validation=no_validation,
        damaged="skip" if skips_damaged(damaged) else "fail",
    )
    prepare_process()
    given = options_given(context, besides=("data", "out", "resume", "as_json", "devices"))
    options.check(data, given)
    fetch_weights(init_from)

    from verydeep.cli.printed import print_plan, print_stopped, print_trained
    from verydeep.cli.terminal import reporting
    from verydeep.data.open import open_data
    from verydeep.device import find_device
    from verydeep.distributed import launched
    from verydeep.runs.chain import run_options
    from verydeep.runs.estimate import plan_steps
    from verydeep.runs.launch import launch

    if plan and data is not None:
        with reporting() as reporter:
            plans = plan_steps(data, options, reporter=reporter)
        if as_json:
            records = {title: made.as_record() for title, made in plans.items()}
            print_json(records[recipe] if len(records) == 1 else {"steps": records})
        else:
            for title, made in plans.items():
                print_plan(title, made)
        return
    if devices != 1:
        if data is not None:
            open_data(data)  # an error is reported once, by this process
        raise typer.Exit(launch(devices, sys.argv[1:], find_device(device)))
    with reporting() as reporter:
        command = shlex.join(["verydeep", *sys.argv[1:]])
        trained = run_options(data, options, given=bool(given), reporter=reporter, command=command)
    if not launched().is_first:
        return
    if as_json:
        print_json(trained.as_record())
    elif trained.finished:
        print_trained(trained, data)
    if not trained.finished:
        print_stopped(trained)
        raise typer.Exit(1)
