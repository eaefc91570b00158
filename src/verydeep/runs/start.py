"""What ``verydeep train`` and ``verydeep.fit`` do before the loop: make a net and a run, or find them again."""

from pathlib import Path
from typing import Any

import numpy as np
import torch

from verydeep.data.dataset import DataSet, describe, train_on_all
from verydeep.data.open import open_data
from verydeep.data.pixels import measure_pixels
from verydeep.device import Compute, check_precision, find_device
from verydeep.distributed import broadcast_from_rank0, process_group, processes
from verydeep.errors import UsageError, UserError
from verydeep.machine import environment, now
from verydeep.nets.architecture import find_architecture
from verydeep.nets.grow import grow
from verydeep.nets.net import VeryDeep
from verydeep.paper.constants import CROP
from verydeep.runs.finish import Trained, carry_on, make_run_card
from verydeep.runs.memory import fit_into_memory
from verydeep.runs.preparation import (
    ComputeOptions,
    check_images,
    choose_for,
    default_folder,
    default_workers,
    reopen_images,
    say_what_is_wrong,
    suggest_fine_tuning,
)
from verydeep.testing.evaluate import check_classes
from verydeep.training.callbacks import Reporter, Silent
from verydeep.training.recipe import Recipe, find_recipe
from verydeep.training.run_folder import SETTINGS_FILE, Run, check_asked_alike, check_free
from verydeep.weights.resolve import load

_OTHER_MASKS = "0.1.0"
"""The version that drew the masks of dropout otherwise."""


def train(
    data: str | Path | DataSet,
    *,
    out: str | Path | None = None,
    architecture: str = "A",
    batch_norm: bool = False,
    crop: int | None = None,
    width: float = 1.0,
    init_from: str | Path | None = None,
    recipe: str = "small-images",
    changes: dict[str, Any] | None = None,
    seed: int = 0,
    execution: ComputeOptions | None = None,
    hold_out: bool = True,
    skip_damaged: bool = False,
    go_on: bool = False,
    reporter: Reporter | None = None,
    command: str | None = None,
    data_source: str | None = None,
    chain: dict[str, Any] | None = None,
) -> Trained:
    """Makes a net for a data set and trains it.

    Args:
        data: a built-in name or a folder; or a data set that is open.
        out: the run folder; by default a new one under runs/.
        architecture: a name of a column of Table 1.
        batch_norm: a batch norm after every convolution.
        crop: side of the training crop, pixels; by default 32 for the built-in data, else 224.
        width: factor on the channels.
        init_from: a model to take weights from.
        recipe: name of a recipe, or a JSON file.
        changes: new values of fields of the recipe.
        seed: of the weights, the order, the crops and the dropout.
        execution: device, precision and the like; by default the fastest there is.
        hold_out: keep the validation images for validation; without it they are trained on too.
        skip_damaged: leave damaged images out and name them, instead of failing.
        go_on: go on with the run in ``out`` where there is one already that was asked for alike.
        reporter: is told how it goes.
        command: that gives the run again, for its report.
        data_source: where the data came from, if ``data`` is a data set.
        chain: what the chain that this is a step of was asked for, for ``run.json``.

    Returns:
        The trained net, its run folder and its errors on the validation images.

    Raises:
        UserError: the data, the model or the run folder cannot be used.
        UsageError: an option that cannot be right, or a run in ``out`` that was asked for otherwise.
    """
    reporter, execution = reporter or Silent(), execution or ComputeOptions()
    row = find_recipe(recipe, **(changes or {}))
    with process_group(find_device(execution.device)):
        if processes().size > 1 and out is None:
            raise UsageError("several processes need --out: the run folder that all of them can see")
        net, opened, source = make_net(
            data,
            architecture,
            batch_norm=batch_norm,
            crop=crop,
            width=width,
            init_from=init_from,
            recipe=row,
            seed=seed,
            reporter=reporter,
        )
        if go_on and out and (Path(out) / SETTINGS_FILE).exists():
            began = Run.open(Path(out)).settings
            check_asked_alike(
                f"the run in {out}",
                {"net": began.get("net"), "seed": began["seed"], "hold_out": began.get("hold_out", True)}
                | began["recipe"],
                {"net": net.geometry.title, "seed": seed, "hold_out": hold_out} | row.as_record(),
            )
            return resume(out, data=opened, data_source=data_source or str(data), reporter=reporter)
        origin = None
        if source:
            grown = grow(net, source)
            reporter.note(f"from {init_from}: {grown}")
            origin = {"model": str(init_from), "copied": list(grown.copied), "new": list(grown.new)}
        else:
            suggest_fine_tuning(net, opened, reporter)
        return fit(
            net,
            opened,
            recipe=row,
            out=out,
            seed=seed,
            execution=execution,
            hold_out=hold_out,
            skip_damaged=skip_damaged,
            reporter=reporter,
            data_source=data_source or str(data),
            origin=origin,
            command=command,
            chain=chain,
        )


def make_net(
    data: str | Path | DataSet,
    architecture: str,
    *,
    batch_norm: bool,
    crop: int | None,
    width: float,
    init_from: str | Path | None,
    recipe: Recipe,
    seed: int,
    reporter: Reporter,
) -> tuple[VeryDeep, DataSet, VeryDeep | None]:
    """Makes the net for a data set, its weights random; the arguments are those of ``train``.

    Returns:
        The net, the data, and the net that weights are to be taken from, if any.
    """
    find_architecture(architecture)
    source = load(init_from) if init_from else None
    opened = data if isinstance(data, DataSet) else open_data(data, reporter.progress)
    if crop is None:
        crop = source.geometry.crop if source else default_crop(opened)
    net = VeryDeep(
        architecture,
        num_classes=len(opened.classes),
        batch_norm=batch_norm,
        initialisation=recipe.initialisation,
        crop=crop,
        width=width,
        dropout=recipe.dropout,
        generator=torch.Generator().manual_seed(seed),
    )
    net.classes = opened.classes
    return net, opened, source


def default_crop(data: DataSet) -> int:
    """The crop for a data set where none is given: 32 for the sets of small images, else the paper's."""
    return 32 if data.train.decoded else CROP


def fit(
    net: VeryDeep,
    data: str | Path | DataSet,
    *,
    recipe: str | Recipe = "small-images",
    out: str | Path | None = None,
    seed: int = 0,
    execution: ComputeOptions | None = None,
    hold_out: bool = True,
    skip_damaged: bool = False,
    reporter: Reporter | None = None,
    data_source: str | None = None,
    origin: dict[str, Any] | None = None,
    command: str | None = None,
    chain: dict[str, Any] | None = None,
) -> Trained:
    """Trains a net on a data set into a run folder.

    The mean of the training pixels becomes part of the net, unless it has one that belongs to its weights. A run that
    is interrupted (Ctrl-C) saves itself and can go on by ``resume``.

    Args:
        net: is changed, but for parameters that do not require gradients.
        data: a built-in name, a folder, or a data set.
        recipe: a recipe, its name, or a JSON file.
        out: the run folder; by default a new one under runs/.
        seed: of the order, the crops and the dropout.
        execution: device, precision and the like; by default the fastest there is.
        hold_out: keep the validation images for validation; without it they are trained on too, and the errors at the
            end are of images that were trained on.
        skip_damaged: leave damaged images out and name them, instead of failing.
        reporter: is told how it goes.
        data_source: where the data came from, if ``data`` is a data set.
        origin: where the first weights come from, tensor by tensor, for ``run.json``.
        command: that gives the run again, for its report.
        chain: what the chain that this is a step of was asked for, for ``run.json``.

    Returns:
        The trained net, its run folder and its errors on the validation images.

    Raises:
        UserError: the data or the run folder cannot be used, or do not fit the net.
        UsageError: an option that cannot be right.
    """
    reporter, execution = reporter or Silent(), execution or ComputeOptions()
    row = recipe if isinstance(recipe, Recipe) else find_recipe(recipe)
    execution.check()
    if not hold_out and row.selects_on_validation():
        raise UsageError(
            f"--no-validation: the recipe {row.name} chooses by the validation error (schedule {row.schedule}, keep "
            f"{row.keep}): give one with the schedule cosine or constant that keeps the last weights"
        )
    with process_group(find_device(execution.device)) as members:
        opened = data if isinstance(data, DataSet) else open_data(data, reporter.progress)
        if not hold_out:
            opened = train_on_all(opened)
        net.train_scale = row.scales(net.geometry.crop)
        net.mirror = row.mirror and opened.mirror
        net.classes = net.classes or opened.classes
        check_classes(net, opened.train)
        folder = Path(broadcast_from_rank0(lambda: {"out": str(_free_folder(out, net, opened))})["out"])
        reporter.note(describe(opened))
        if members.is_first:
            say_what_is_wrong(opened, reporter)
        opened, skipped = check_images(opened, skip_damaged, reporter, net.train_scale[1])
        colours = broadcast_from_rank0(lambda: measure_pixels(opened.train).as_record())
        if not net.input_is_set:
            divisor = colours["deviation"] if row.input_divisor == "deviation" else np.ones(3)
            net.set_input(colours["mean"], divisor)
        choice = Compute(**broadcast_from_rank0(lambda: _choose(net, row, execution, reporter).as_record()))
        if members.size > 1:
            reporter.note(_describe_processes(net, row, choice))
        settings = {
            "command": command
            or f"verydeep.fit(net, {data_source or str(data)!r}, out={str(folder)!r}, ...)  # Python",
            "net": net.geometry.title,
            "data": data_source or str(data),
            "fingerprint": opened.fingerprint,
            "recipe": row.as_record(),
            "choice": choice.as_record(),
            "frozen": [name for name, parameter in net.named_parameters() if not parameter.requires_grad],
            "origin": origin,
            "processes": members.size,
            "seed": seed,
            "workers": default_workers(execution.workers, choice),
            "checkpoint_seconds": execution.checkpoint_seconds,
            "hold_out": hold_out,
            "skip_damaged": skip_damaged,
            "skipped": skipped,
            "colours": colours,
            "environment": environment(),
            "began": now(),
        } | ({} if chain is None else {"chain": chain})
        run = Run.create(folder, settings, net, make_run_card(net, opened, row))
        return carry_on(run, net, opened, row, choice, reporter)


def _choose(net: VeryDeep, recipe: Recipe, execution: ComputeOptions, reporter: Reporter) -> Compute:
    return fit_into_memory(net, recipe, choose_for(net, recipe, execution, reporter), reporter.note)


def _free_folder(out: str | Path | None, net: VeryDeep, data: DataSet) -> Path:
    folder = Path(out) if out else default_folder(net, data)
    check_free(folder)
    return folder


def _describe_processes(net: VeryDeep, recipe: Recipe, choice: Compute) -> str:
    members = processes()
    each = -(-recipe.batch_size // members.size)
    said = f"{members}, each with {each} of the {recipe.batch_size} images of a batch; gradients are averaged"
    if net.geometry.batch_norm:
        said += "; batch norm's statistics are " + (
            "those of the whole batch" if choice.device == "cuda" else "each process's own"
        )
    return said


def resume(
    out: str | Path,
    *,
    data: str | Path | DataSet | None = None,
    reporter: Reporter | None = None,
    data_source: str | None = None,
) -> Trained:
    """Goes on with a run that was interrupted, as if nothing had happened.

    Args:
        out: the run folder.
        data: where its data lie now, if they were moved; or these data.
        reporter: is told how it goes.
        data_source: where the data came from, if ``data`` is a data set.

    Raises:
        UserError: the folder holds no run, or its data have changed.
    """
    reporter = reporter or Silent()
    run = Run.open(Path(out))
    settings = run.settings
    choice = Compute(**settings["choice"])
    find_device(choice.device)
    check_precision(choice.precision)
    opened = data if isinstance(data, DataSet) else None
    source = data_source or str(settings["data"] if data is None or opened else data)
    with process_group(choice.device) as members:
        opened = opened or open_data(source, reporter.progress)
        if not settings.get("hold_out", True):
            opened = train_on_all(opened)
        if opened.fingerprint != settings["fingerprint"]:
            raise UserError(f"the data in {source} are not those the run began with: restore them, or train anew")
        net, momentum, progress, problem = run.restore()
        for name in settings.get("frozen", ()):
            net.get_parameter(name).requires_grad_(False)
        if problem:
            reporter.note(f"{problem}; going on from the checkpoint before it")
        opened = reopen_images(opened, settings["skipped"], reporter)
        reporter.note(f"going on with {run.folder} after epoch {progress.epoch}, update {progress.iteration}")
        if members.size != settings.get("processes", 1):
            reporter.note(
                f"the run began with {settings.get('processes', 1)} processes and goes on with {members.size}"
            )
        recipe = Recipe(**settings["recipe"])
        if settings["environment"]["verydeep"] == _OTHER_MASKS and recipe.dropout:
            reporter.note(f"the run began with verydeep {_OTHER_MASKS}: from here on its dropout draws other masks")
        return carry_on(run, net, opened, recipe, choice, reporter, momentum=momentum, progress=progress)
