"""Training joined with its data and its validation: what ``verydeep train`` and ``verydeep.fit`` do."""

import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from verydeep.apps.preparation import (
    check_images,
    choose_for,
    default_folder,
    default_workers,
    suggest_fine_tuning,
)
from verydeep.apps.report import write_report
from verydeep.apps.reporter import Reporter, Silent
from verydeep.apps.signals import stop_on_signals
from verydeep.convnets.architecture import find_architecture
from verydeep.convnets.grow import grow
from verydeep.convnets.model_file import DataCard, ModelCard, load, make_card
from verydeep.convnets.net import VeryDeep
from verydeep.data.augment import TrainingView, principal_shifts
from verydeep.data.datasets import DataSet, describe, open_data
from verydeep.data.image_set import ImageSet
from verydeep.data.pixels import PixelStatistics, measure_pixels
from verydeep.device import Choice, check_precision, find_device
from verydeep.evaluation.errors import top_error
from verydeep.evaluation.evaluate import check_classes, evaluate, measure_posteriors
from verydeep.evaluation.protocols import default_test_scale, find_protocol
from verydeep.mistakes import MistakeError, WrongUseError
from verydeep.records import environment, now
from verydeep.training.fit import Training
from verydeep.training.fit import fit as run_loop
from verydeep.training.recipes import Recipe, find_recipe
from verydeep.training.run import Progress, Run, check_free


@dataclass(frozen=True, kw_only=True)
class Trained:
    """What a training gave.

    Attributes:
        run: the run folder.
        model: the model file, or the checkpoint of a training that was stopped.
        epochs: epochs done.
        finished: whether it came to its end.
        split: the split of the errors.
        top1_error: a fraction, by protocol ``single``; None when it was stopped.
        top5_error: a fraction; None with fewer than five classes.
        num_images: images the errors were measured on.
        images_per_second: mean rate of the weight updates.
        net: the trained net.
    """

    run: Path
    model: Path
    epochs: int
    finished: bool
    split: str
    top1_error: float | None
    top5_error: float | None
    num_images: int
    images_per_second: float
    net: VeryDeep

    def as_record(self) -> dict[str, Any]:
        """The figures, for JSON."""
        names = ("epochs", "finished", "split", "top1_error", "top5_error", "num_images", "images_per_second")
        return {"run": str(self.run), "model": str(self.model)} | {name: getattr(self, name) for name in names}


def train(
    data: str | Path,
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
    device: str | None = None,
    precision: str | None = None,
    workers: int | None = None,
    skip_damaged: bool = False,
    reporter: Reporter | None = None,
    command: str | None = None,
) -> Trained:
    """Makes a net for a data set and trains it.

    Args:
        data: a built-in name or a folder.
        out: the run folder; by default a new one under runs/.
        architecture: a name of a column of Table 1.
        batch_norm: a batch norm after every convolution.
        crop: side of the training crop, pixels; by default 32 for the built-in data, else 224.
        width: factor on the channels.
        init_from: a model to take weights from.
        recipe: name of a recipe, or a JSON file.
        changes: new values of fields of the recipe.
        seed: of the weights, the order, the crops and the dropout.
        device: cpu, cuda or mps; by default the fastest there is.
        precision: fp32 or bf16; by default the faster.
        workers: processes that make crops; by default none on the processor and one per core for a GPU.
        skip_damaged: leave damaged images out and name them, instead of failing.
        reporter: is told how it goes.
        command: that gives the run again, for its report.

    Returns:
        The trained net, its run folder and its errors on the validation images.

    Raises:
        MistakeError: the data, the model or the run folder cannot be used.
        WrongUseError: an option that cannot be right.
    """
    reporter = reporter or Silent()
    row = find_recipe(recipe, **(changes or {}))
    find_architecture(architecture)
    source = load(init_from) if init_from else None
    opened = open_data(data, reporter.progress)
    if crop is None:
        crop = source.geometry.crop if source else 32 if opened.train.decoded else 224
    generator = torch.Generator().manual_seed(seed)
    net = VeryDeep(
        architecture,
        num_classes=len(opened.classes),
        batch_norm=batch_norm,
        initialisation=row.initialisation,
        crop=crop,
        width=width,
        dropout=row.dropout,
        generator=generator,
    )
    net.classes = opened.classes
    if source:
        reporter.note(f"from {init_from}: {grow(net, source)}")
    else:
        suggest_fine_tuning(net, opened, reporter)
    return fit(
        net,
        opened,
        recipe=row,
        out=out,
        seed=seed,
        device=device,
        precision=precision,
        workers=workers,
        skip_damaged=skip_damaged,
        reporter=reporter,
        data_source=str(data),
        command=command,
    )


def fit(
    net: VeryDeep,
    data: str | Path | DataSet,
    *,
    recipe: str | Recipe = "small-images",
    out: str | Path | None = None,
    seed: int = 0,
    device: str | None = None,
    precision: str | None = None,
    workers: int | None = None,
    skip_damaged: bool = False,
    reporter: Reporter | None = None,
    data_source: str | None = None,
    command: str | None = None,
) -> Trained:
    """Trains a net on a data set into a run folder.

    The mean of the training pixels becomes part of the net, unless it has one that belongs to its weights. A run that
    is interrupted (Ctrl-C) saves itself and can go on by ``resume``.

    Args:
        net: is changed.
        data: a built-in name, a folder, or a data set.
        recipe: a recipe, its name, or a JSON file.
        out: the run folder; by default a new one under runs/.
        seed: of the order, the crops and the dropout.
        device: cpu, cuda or mps; by default the fastest there is.
        precision: fp32 or bf16; by default the faster.
        workers: processes that make crops; by default none on the processor and one per core for a GPU.
        skip_damaged: leave damaged images out and name them, instead of failing.
        reporter: is told how it goes.
        data_source: where the data came from, if ``data`` is a data set.
        command: that gives the run again, for its report.

    Returns:
        The trained net, its run folder and its errors on the validation images.

    Raises:
        MistakeError: the data or the run folder cannot be used, or do not fit the net.
        WrongUseError: an option that cannot be right.
    """
    reporter = reporter or Silent()
    row = recipe if isinstance(recipe, Recipe) else find_recipe(recipe)
    find_device(device)
    check_precision(precision)
    if workers is not None and workers < 0:
        raise WrongUseError(f"{workers} workers: give 0 or more")
    opened = data if isinstance(data, DataSet) else open_data(data, reporter.progress)
    net.train_scale = row.scales(net.geometry.crop)
    net.mirror = row.mirror and opened.mirror
    net.classes = net.classes or opened.classes
    check_classes(net, opened.train)
    folder = Path(out) if out else default_folder(net, opened)
    check_free(folder)
    reporter.note(describe(opened))
    opened, skipped = check_images(opened, skip_damaged, reporter)
    colours = measure_pixels(opened.train)
    if not net.input_is_set:
        divisor = colours.deviation if row.input_divisor == "deviation" else np.ones(3)
        net.set_input(colours.mean.tolist(), divisor.tolist())
    choice = choose_for(net, row, device, precision, reporter)
    run = Run.create(
        folder,
        {
            "command": command
            or f"verydeep.fit(net, {data_source or str(data)!r}, out={str(folder)!r}, ...)  # Python",
            "data": data_source or str(data),
            "fingerprint": opened.fingerprint,
            "recipe": row.as_record(),
            "choice": choice.as_record(),
            "seed": seed,
            "workers": default_workers(workers, choice),
            "skip_damaged": skip_damaged,
            "skipped": skipped,
            "colours": {"mean": colours.mean.tolist(), "covariance": colours.covariance.tolist()},
            "environment": environment(),
            "began": now(),
        },
    )
    return _go_on(run, net, opened, row, choice, reporter)


def resume(out: str | Path, *, data: str | Path | None = None, reporter: Reporter | None = None) -> Trained:
    """Goes on with a run that was interrupted, as if nothing had happened.

    Args:
        out: the run folder.
        data: where its data lie now, if they were moved.
        reporter: is told how it goes.

    Raises:
        MistakeError: the folder holds no run, or its data have changed.
    """
    reporter = reporter or Silent()
    run = Run.open(Path(out))
    settings = run.settings
    source = str(data or settings["data"])
    opened = open_data(source, reporter.progress)
    if opened.fingerprint != settings["fingerprint"]:
        raise MistakeError(f"the data in {source} are not those the run began with: restore them, or train anew")
    net, momentum, progress = run.restore()
    opened, _ = check_images(opened, settings["skip_damaged"], reporter)
    reporter.note(f"going on with {run.folder} after epoch {progress.epoch}, update {progress.iteration}")
    choice = Choice(**settings["choice"])
    find_device(choice.device)
    recipe = Recipe(**settings["recipe"])
    return _go_on(run, net, opened, recipe, choice, reporter, momentum=momentum, progress=progress)


def _go_on(
    run: Run,
    net: VeryDeep,
    data: DataSet,
    recipe: Recipe,
    choice: Choice,
    reporter: Reporter,
    *,
    momentum: dict[str, torch.Tensor] | None = None,
    progress: Progress | None = None,
) -> Trained:
    """Runs the loop of a run folder from wherever it is, and measures the errors at its end."""
    settings = run.settings
    colours = PixelStatistics(np.array(settings["colours"]["mean"]), np.array(settings["colours"]["covariance"]))

    def card(epochs: int, errors: dict[str, Any] | None) -> ModelCard:
        return make_card(
            net,
            recipe=recipe.as_record(),
            data=DataCard(
                name=data.name,
                fingerprint=data.fingerprint,
                num_train=len(data.train),
                validation=data.validation,
            ),
            epochs=epochs,
            errors=errors,
        )

    with stop_on_signals() as stop:
        training = Training(
            net=net,
            images=data.train,
            view=TrainingView(
                crop=net.geometry.crop,
                train_scale=net.train_scale,
                mirror=net.mirror,
                colour_shift=principal_shifts(colours.covariance) if recipe.colour_shift else None,
            ),
            recipe=recipe,
            choice=choice,
            seed=settings["seed"],
            workers=settings["workers"],
            run=run,
            validate=lambda net: _validate(net, data.val, choice),
            card=card,
            listener=reporter,
            stop=stop,
        )
        try:
            progress = run_loop(training, momentum, progress)
        except BaseException:
            run.discard()
            raise
    finished = progress.epoch >= recipe.epochs or progress.plateau.ended
    log = run.log_records()
    rates = [line["images_per_second"] for line in log]
    model = run.model_file if run.model_file.exists() else run.checkpoint_file
    net = load(model) if finished and recipe.keep == "best" else net.eval()
    result = evaluate(net, data.val, device=choice.device, progress=reporter.progress) if finished else None
    if result is not None:
        record = result.as_record() | {"selected_on": "val" if recipe.selects_on_validation() else None}
        write_report(
            run.folder,
            title=f"{net.geometry.title} on {data.name}",
            result=record,
            data={"contents": describe(data), "validation": data.validation, "fingerprint": data.fingerprint},
            log=log,
            settings=settings,
            commands=[settings["command"], f"verydeep evaluate {run.folder} {shlex.quote(settings['data'])}"],
        )
    return Trained(
        run=run.folder,
        model=model,
        epochs=progress.epoch,
        finished=finished,
        split="val",
        top1_error=result.top1_error if result else None,
        top5_error=result.top5_error if result else None,
        num_images=len(data.val),
        images_per_second=len(rates) / sum(1 / rate for rate in rates) if rates else 0.0,
        net=net,
    )


def _validate(net: VeryDeep, images: ImageSet, choice: Choice) -> dict[str, Any]:
    """Measures the central crop, the cheapest protocol, in the precision of the training."""
    protocol, scale = find_protocol("centre"), default_test_scale(net)
    posteriors = measure_posteriors(net, images, protocol, scale, choice)
    return {
        "split": images.split,
        "protocol": protocol.name,
        "num_images": len(images),
        "top1_error": top_error(posteriors, images.labels, 1),
        "top5_error": top_error(posteriors, images.labels, 5),
    }
