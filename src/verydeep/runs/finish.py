"""The loop of a run folder, from wherever it is to its end, and the errors it ends with."""

import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from verydeep.cli.evaluation_report import errors_of, page_of_result
from verydeep.data.dataset import DataSet, describe
from verydeep.data.image_set import ImageSet
from verydeep.data.pixels import PixelStatistics
from verydeep.device import Compute
from verydeep.distributed import processes
from verydeep.errors import UserError
from verydeep.images.augment import TrainingView, principal_shifts
from verydeep.nets.model_card import DataCard, ModelCard, make_card, selected_on
from verydeep.nets.net import VeryDeep
from verydeep.report.pages import REPORT_FILE, write_page
from verydeep.speed.backend import TorchBackend
from verydeep.testing.evaluate import evaluate
from verydeep.testing.measure import MeanPosterior, measure
from verydeep.testing.metrics import top_error
from verydeep.testing.protocols import at_scales, find_protocol
from verydeep.testing.result import Result
from verydeep.training.callbacks import Reporter
from verydeep.training.loop import Training
from verydeep.training.loop import fit as run_loop
from verydeep.training.recipe import Recipe
from verydeep.training.run_folder import Progress, Run
from verydeep.training.signals import stop_on_signals
from verydeep.weights.resolve import load


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


def make_run_card(
    net: VeryDeep, data: DataSet, recipe: Recipe, epochs: int = 0, errors: dict[str, Any] | None = None
) -> ModelCard:
    """Writes the model card of a net in training."""
    return make_card(
        net,
        recipe=recipe.as_record(),
        data=DataCard(
            name=data.name, fingerprint=data.fingerprint, num_train=len(data.train), validation=data.validation
        ),
        epochs=epochs,
        errors=errors,
    )


def carry_on(
    run: Run,
    net: VeryDeep,
    data: DataSet,
    recipe: Recipe,
    choice: Compute,
    reporter: Reporter,
    *,
    momentum: dict[str, Tensor] | None = None,
    progress: Progress | None = None,
) -> Trained:
    """Runs the loop of a run folder from wherever it is, and measures the errors at its end.

    Args:
        run: the run folder.
        net: as it was saved last.
        data: the data set of the run.
        recipe: how the net is trained.
        choice: how it is computed.
        reporter: is told how it goes.
        momentum: velocities to go on with.
        progress: how far the training has come.

    Raises:
        UserError: the loss is not finite any more, or the run folder cannot be written.
    """
    settings = run.settings
    reporter.expect(recipe.epochs)
    colours = PixelStatistics(np.array(settings["colours"]["mean"]), np.array(settings["colours"]["covariance"]))
    with stop_on_signals() as stop, choice.thread_count():
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
            checkpoint_seconds=settings.get("checkpoint_seconds", 600.0),
            run=run,
            validate=lambda net: _validate(net, data.val, choice),
            card=lambda epochs, errors: make_run_card(net, data, recipe, epochs, errors),
            listener=reporter,
            stop=stop,
        )
        try:
            progress = run_loop(training, momentum, progress)
        except UserError:
            run.discard_if_new()
            raise
        finished = progress.epoch >= recipe.epochs or progress.plateau.ended
        net = load(run.model_file) if finished and recipe.keep == "best" else net.eval()
        result = evaluate(net, data.val, device=choice.device, progress=reporter.progress) if finished else None
    log = run.log_records()
    rates = [line["images_per_second"] for line in log]
    if result is not None and processes().is_first:
        _report(run, result, data, recipe, net, log)
    return Trained(
        run=run.folder,
        model=run.model_file if run.model_file.exists() else run.checkpoint_file,
        epochs=progress.epoch,
        finished=finished,
        split=data.val.split,
        top1_error=result.top1_error if result else None,
        top5_error=result.top5_error if result else None,
        num_images=len(data.val),
        images_per_second=len(rates) / sum(1 / rate for rate in rates) if rates else 0.0,
        net=net,
    )


def _report(run: Run, result: Result, data: DataSet, recipe: Recipe, net: VeryDeep, log: list[dict[str, Any]]) -> None:
    settings = run.settings
    computed = settings["choice"] | {"seed": settings["seed"]} | settings["environment"] | {"began": settings["began"]}
    page = page_of_result(
        f"{net.geometry.title} on {data.name}",
        result,
        errors_of(result, data.val, net),
        selected_on=selected_on(recipe.as_record()),
        log=log,
        commands=[settings["command"], shlex.join(["verydeep", "evaluate", str(run.folder), settings["data"]])],
        facts={
            "The data": {"contents": describe(data), "validation": data.validation, "fingerprint": data.fingerprint},
            "The recipe": settings["recipe"],
            "How it was computed": computed,
        },
    )
    write_page(run.folder / REPORT_FILE, page)


def _validate(net: VeryDeep, images: ImageSet, choice: Compute) -> dict[str, Any]:
    """Measures the central crop, the cheapest protocol, in the precision of the training."""
    test, kept = at_scales(find_protocol("centre"), net), MeanPosterior(len(images), net.geometry.num_classes)
    (measured,) = measure(TorchBackend(net, choice), images, [test], lambda: kept, mirror=net.mirror)
    posteriors = measured.kept
    return {
        "split": images.split,
        "protocol": test.protocol.name,
        "num_images": len(images),
        "top1_error": top_error(posteriors, images.labels, 1),
        "top5_error": top_error(posteriors, images.labels, 5),
    }
