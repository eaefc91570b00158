"""Settles a training by the recipe ``auto``: the net to begin from, what the user has pinned, and the plan."""

import copy
import time
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
import torch

from verydeep.data.dataset import DataSet
from verydeep.data.open import AnyData, open_data
from verydeep.device import Compute
from verydeep.distributed import processes
from verydeep.errors import UsageError, UserError
from verydeep.nets.architecture import Geometry, find_architecture, layers
from verydeep.nets.net import VeryDeep
from verydeep.paper.constants import CROP
from verydeep.runs.auto import (
    DEFAULT_MINUTES,
    ENOUGH_FOR_NOISE,
    FEWEST_EPOCHS,
    PROCESS_BYTES,
    SHARE_OF_NOISE,
    SMALL_IMAGES,
    SMALLEST_PHOTOGRAPHS,
    linear_plan,
    make_plan,
)
from verydeep.runs.look import look_at
from verydeep.runs.noise import RECIPE as NOISE_RECIPE
from verydeep.runs.noise import plan_from_noise, training_speed
from verydeep.runs.options import AUTO, COMPUTE_FIELDS, TrainOptions
from verydeep.runs.plan import Plan
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
    if options.crop is not None:  # which checks it
        Geometry(architecture=find_architecture("D")[0], batch_norm=False, num_classes=1, crop=options.crop, width=1.0)
    if why is None and options.recipe_changes.get("keep") == "best":
        raise UsageError("--keep best: the recipe auto keeps what a comparison shows: leave it out, or give a --recipe")
    trained = options.recipe_changes.get("trainable", "conv5")
    if why is None and trained not in [f"conv{block}" for block in FEWEST_EPOCHS]:
        raise UsageError(f"--set trainable={trained}: the recipe auto trains from conv3, conv4 or conv5 on")
    if why is None and options.train_scale is not None:
        raise UsageError(
            "--train-scale: the recipe auto trains on views of one size, --crop: leave it out, or give a --recipe"
        )
    if options.start_model is not None and why is None:
        pinned = {"--architecture": options.architecture, "--batch-norm": options.batch_norm, "--width": options.width}
        for name, value in pinned.items():
            if value is not None:
                raise UsageError(
                    f"{name}: the recipe auto keeps the net of --init-from as it is: leave it out, or give --recipe "
                    "fine-tune"
                )


def from_noise(options: TrainOptions) -> str | None:
    """Why a training begins from random weights; None where it begins from a net."""
    if options.start_model is not None:
        return None if options.initialise is None else "--initialise"
    if options.init_from is not None:
        return "--init-from none"
    row, named_batch_norm = find_architecture(options.architecture or "D")
    if row.name != "D":
        return f"there is no net of {row.name} to begin from"
    if options.batch_norm or named_batch_norm:
        return f"{START} has no batch norm"
    if options.width not in (None, 1.0):
        return f"{START} has width 1"
    return "--initialise" if options.initialise is not None else None


def as_in_run(options: TrainOptions) -> tuple[TrainOptions, Plan | None]:
    """Returns the options that the run in ``like`` began with, and its plan; what is asked for beside it is kept.

    Epochs that were reckoned for a number of minutes are those of the run.
    """
    assert options.like is not None
    settings = Run.open(options.like).settings
    record = settings.get("options")
    if not isinstance(record, dict):
        raise UserError(f"--like {options.like}: the run says nothing of its options: give them")
    kept = {name: getattr(options, name) for name in ("out", "resume", "plan", "devices", "like", *COMPUTE_FIELDS)}
    began = TrainOptions.from_record(record)
    began, plan = replace(began, **kept, seed=options.seed or began.seed), settings.get("plan")
    if began.recipe == AUTO:
        return began, Plan.from_record(plan) if plan else None
    return began if began.minutes is None else replace(began, epochs=settings["recipe"]["epochs"]), None


def plan_training(
    data: AnyData, options: TrainOptions, reporter: Callback, seconds_used: float, plan: Plan | None = None
) -> Planned:
    """Looks at data and machine, and plans, where there is no plan yet; ``seconds_used`` since the command began."""
    check_auto(options)
    opened = open_data(data, reporter.progress)
    if plan is None:
        plan = _new_plan(opened, options, time.monotonic() - seconds_used)
    if plan.net is not None:
        recipe = replace(find_recipe(NOISE_RECIPE, **plan.changes | options.recipe_changes), name=AUTO)
        net = VeryDeep(
            num_classes=len(opened.classes),
            initialisation=recipe.initialisation,
            dropout=recipe.dropout,
            generator=torch.Generator().manual_seed(options.seed),
            **plan.net,
        )
    else:
        recipe = find_recipe(AUTO, **plan.changes | options.recipe_changes)
        net = _untrained(load(plan.begun_from), opened, plan.side)
    compute = choose_training(
        net.geometry, device=options.device, precision=options.precision, micro_batch=options.micro_batch
    )
    return Planned(net=net, data=opened, recipe=recipe, compute=compute, plan=plan)


def _untrained(start: VeryDeep, data: DataSet, side: int) -> VeryDeep:
    """The convolutions of a net under a classifier of zeros, which is fitted later."""
    zeros = np.zeros((len(data.classes), start.geometry.last_channels))
    nothing = LinearClassifier(
        weight=zeros, bias=zeros[:, 0], kind="logistic", c=1.0, held_out={}, scale=1.0, temperature=1.0
    )
    return copy.deepcopy(linear_net(start, nothing, data.classes, side))


def _new_plan(data: DataSet, options: TrainOptions, began: float) -> Plan:
    seconds = 60 * (options.minutes or DEFAULT_MINUTES)
    why, side = from_noise(options), data.train.usual_side()
    if why is None and options.start_model is None and side is not None and side < SMALLEST_PHOTOGRAPHS:
        why = f"images of {side} pixels show no photographs"
    if why is not None:
        plan = Plan(seconds=seconds, start=None, side=0, reasons=(f"start: random weights: {why}",))
        return _with_noise(plan, data, options, SHARE_OF_NOISE * seconds - (time.monotonic() - began))
    name = str(options.start_model or START)
    start = load(name)
    compute = choose_training(start.geometry, device=options.device, precision=options.precision)
    look = look_at(data, start, compute, time.monotonic() - began)
    pinned: dict[str, Any] = options.recipe_changes | ({} if options.crop is None else {"side": options.crop})
    about = "the convolutions of the authors' own D, which come with the package" if name == START else "as asked"
    plan = make_plan(start.geometry, name, look, seconds=seconds, pinned=pinned)
    plan = replace(plan, reasons=(f"start: {name}: {about}", *plan.reasons))
    if look.side <= SMALL_IMAGES and look.num_train >= ENOUGH_FOR_NOISE and not pinned:
        linear = linear_plan(start.geometry, name, look, seconds=seconds)
        linear = replace(linear, reasons=(plan.reasons[0], *linear.reasons))
        return _with_noise(linear, data, options, SHARE_OF_NOISE * seconds - linear.expected_seconds)
    longer = make_plan(start.geometry, name, look, seconds=2 * seconds, pinned=pinned)
    says = "the same: more images would help more" if longer.title == plan.title else longer.title
    return replace(plan, longer=f"more time, --minutes {seconds / 30:g}: {says}")


def _with_noise(plan: Plan, data: DataSet, options: TrainOptions, seconds: float) -> Plan:
    """Adds a training from noise to a plan, with what is pinned."""
    row, named_batch_norm = find_architecture(options.architecture or "A")
    pinned = {
        "architecture": options.architecture and row.name,
        "batch_norm": named_batch_norm or options.batch_norm,
        "width": options.width,
        "crop": options.crop,
        "batch_size": options.recipe_changes.get("batch_size"),
    }
    found = plan_from_noise(
        num_images=len(data.train),
        num_classes=len(data.classes),
        side=data.train.usual_side() or CROP,
        mirror=data.mirror,
        seconds=seconds,
        speed=lambda geometry, batch_size: training_speed(data, geometry, batch_size, options),
        pinned={name: value for name, value in pinned.items() if value is not None},
    )
    weights = sum(layer.parameters for layer in layers(found.geometry(len(data.classes))))
    return replace(
        plan,
        side=plan.side or found.crop,
        then="noise",
        net=found.net,
        changes=found.recipe_changes(),
        expected_seconds=plan.seconds,
        memory_bytes=max(plan.memory_bytes, PROCESS_BYTES + 16 * weights),
        reasons=(*plan.reasons, f"training: {found.reason}"),
    )
