"""Settles a training by the recipe ``auto``: the net to begin from, what the user has pinned, and the plan."""

import copy
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np

from verydeep.data.dataset import DataSet
from verydeep.data.open import AnyData, open_data
from verydeep.device import Compute
from verydeep.distributed import processes
from verydeep.errors import UsageError, UserError
from verydeep.nets.architecture import find_architecture
from verydeep.nets.net import VeryDeep
from verydeep.runs.auto import DEFAULT_MINUTES, FEWEST_EPOCHS, Plan, make_plan
from verydeep.runs.look import look_at
from verydeep.runs.options import AUTO, COMPUTE_FIELDS, TrainOptions
from verydeep.speed.train_net import choose_training
from verydeep.training.recipe import Recipe, find_recipe
from verydeep.training.run_folder import Run
from verydeep.training.state import Callback
from verydeep.transfer.classifier import LinearClassifier
from verydeep.transfer.write import linear_net
from verydeep.weights.resolve import load

START: Final = "vgg16-features"
"""The net that comes with the package: the convolutions of the authors' own D."""


@dataclass(frozen=True, kw_only=True)
class Planned:
    """A training as it was planned: the net at its beginning, the data, the recipe and the plan."""

    net: VeryDeep
    data: DataSet
    recipe: Recipe
    compute: Compute
    plan: Plan


def check_auto(options: TrainOptions) -> None:
    """Raises UsageError where an option cannot be kept by ``auto``."""
    if options.devices != 1 or processes().size > 1:
        raise UsageError("the recipe auto runs in one process: leave out --devices, or give a --recipe")
    if options.no_validation:
        raise UsageError(
            "--no-validation: the recipe auto compares on the validation images: leave it out, or give a --recipe"
        )
    if options.minutes is not None and not 0.1 <= options.minutes <= 1e5:
        raise UsageError(f"--minutes {options.minutes:g}: give a number of minutes from 0.1 to 100,000")
    why = from_noise(options)
    if why is None and options.recipe_changes.get("keep") == "best":
        raise UsageError("--keep best: the recipe auto keeps what a comparison shows: leave it out, or give a --recipe")
    trained = options.recipe_changes.get("trainable", "conv5")
    if why is None and trained not in [f"conv{block}" for block in FEWEST_EPOCHS]:
        raise UsageError(f"--set trainable={trained}: the recipe auto trains from conv3, conv4 or conv5 on")
    if why is None and options.train_scale is not None:
        raise UsageError(
            "--train-scale: the recipe auto trains on views of one size, --crop: leave it out, or give a --recipe"
        )
    if is_given(options.init_from) and why is None:
        pinned = {"--architecture": options.architecture, "--batch-norm": options.batch_norm, "--width": options.width}
        for name, value in pinned.items():
            if value is not None:
                raise UsageError(
                    f"{name}: the recipe auto keeps the net of --init-from as it is: leave it out, or give --recipe "
                    "fine-tune"
                )


def is_given(init_from: object) -> bool:
    """Whether a net to begin from is named: ``none`` asks for random weights."""
    return init_from is not None and str(init_from) != "none"


def from_noise(options: TrainOptions) -> str | None:
    """Why a training begins from random weights; None where it begins from a net."""
    if is_given(options.init_from):
        return None if options.initialise is None else "--initialise"
    if options.init_from is not None:
        return "--init-from none"
    architecture, named_batch_norm = (
        ("D", False)
        if options.architecture is None
        else (find_architecture(options.architecture)[0].name, find_architecture(options.architecture)[1])
    )
    if architecture != "D":
        return f"there is no net of {architecture} to begin from"
    if options.batch_norm or named_batch_norm:
        return f"{START} has no batch norm"
    if options.width not in (None, 1.0):
        return f"{START} has width 1"
    return "--initialise" if options.initialise is not None else None


def as_in_run(options: TrainOptions) -> tuple[TrainOptions, Plan | None]:
    """Returns the options that the run in ``like`` began with, and its plan; what is asked for beside it is kept."""
    assert options.like is not None
    settings = Run.open(options.like).settings
    record = settings.get("options")
    if not isinstance(record, dict):
        raise UserError(f"--like {options.like}: the run says nothing of its options: give them")
    kept = {name: getattr(options, name) for name in ("out", "resume", "plan", "devices", *COMPUTE_FIELDS)}
    began = TrainOptions.from_record(record)
    plan = settings.get("plan")
    return (
        replace(began, **kept, seed=options.seed or began.seed),
        Plan.from_record(plan) if began.recipe == AUTO and plan else None,
    )


def plan_training(
    data: AnyData, options: TrainOptions, reporter: Callback, seconds_used: float, plan: Plan | None = None
) -> Planned:
    """Looks at data and machine, and plans, where there is no plan yet; ``seconds_used`` since the command began."""
    check_auto(options)
    opened = open_data(data, reporter.progress)
    name = str(options.init_from) if is_given(options.init_from) else START
    start = load(name)
    compute = choose_training(
        start.geometry, device=options.device, precision=options.precision, micro_batch=options.micro_batch
    )
    if plan is None:
        plan = _new_plan(opened, start, name, compute, options, seconds_used)
    recipe = find_recipe("auto", **plan.changes | options.recipe_changes)
    zeros = np.zeros((len(opened.classes), start.geometry.last_channels))
    untrained = LinearClassifier(
        weight=zeros, bias=zeros[:, 0], kind="logistic", c=1.0, held_out={}, scale=1.0, temperature=1.0
    )
    net = copy.deepcopy(linear_net(start, untrained, opened.classes, plan.side))
    return Planned(net=net, data=opened, recipe=recipe, compute=compute, plan=plan)


def _new_plan(
    data: DataSet, start: VeryDeep, name: str, compute: Compute, options: TrainOptions, seconds_used: float
) -> Plan:
    seconds = 60 * (options.minutes or DEFAULT_MINUTES)
    look = look_at(data, start, compute, seconds_used)
    pinned: dict[str, Any] = options.recipe_changes | ({} if options.crop is None else {"side": options.crop})
    plan = make_plan(start.geometry, name, look, seconds=seconds, pinned=pinned)
    about = "the convolutions of the authors' own D, which come with the package" if name == START else "as asked"
    longer = make_plan(start.geometry, name, look, seconds=2 * seconds, pinned=pinned)
    more = f"with --minutes {seconds / 30:g}: {longer.title}" if longer.title != plan.title else ""
    reasons = (f"start: {name}: {about}", *plan.reasons, *([more] if more else []))
    return replace(plan, reasons=reasons)
