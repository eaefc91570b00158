"""Trains a localiser into a run folder: from a classifier, or from convolutions under new fully connected layers.

Paper: appendix A.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor

from verydeep.data.batches import training_batches
from verydeep.data.boxes.boxed import BoxedSet
from verydeep.data.dataset import DataSet
from verydeep.device import Compute
from verydeep.distributed import broadcast_from_rank0, processes
from verydeep.errors import UserError
from verydeep.files import free_name
from verydeep.localisation.cells import begin_from_cells
from verydeep.localisation.classifier import fit_linear
from verydeep.localisation.localiser import Localiser
from verydeep.localisation.maps import central_maps, central_places, store_views
from verydeep.localisation.objective import BoxRegression, chance_of_boxes, mean_codes
from verydeep.localisation.page import write_page_of_boxes
from verydeep.localisation.targets import BoxTargets, central_targets, errors_on_centres
from verydeep.nets.boxes_card import Regression
from verydeep.nets.net import VeryDeep
from verydeep.nets.upper import UpperBlocks
from verydeep.runs.finish import Loop, run_loop, state_at, view_of
from verydeep.runs.live_report import LiveReport
from verydeep.speed.torch_backend import TorchBackend
from verydeep.speed.train_net import release
from verydeep.testing.protocols import default_test_scale
from verydeep.training.callbacks import StopOnSignals
from verydeep.training.run_folder import CLASSIFIER_FILE, Run
from verydeep.training.run_lock import locked
from verydeep.training.state import Callback, Position, TrainState
from verydeep.training.update import NotFiniteError
from verydeep.weights.resolve import read_card

_AT_ONCE: Final = 16
"""Central crops that are validated at a time."""


@dataclass(frozen=True, kw_only=True)
class TrainedLocaliser:
    """The run folder of a localiser, and its error given the true class on the validation images."""

    run: Path
    model: Path  # the model file, or the checkpoint of a training that was stopped
    epochs: int  # done
    finished: bool
    split: str
    protocol: str = "centre"
    localisation_error: float | None  # a fraction; None when it was stopped
    num_images: int
    images_per_second: float
    net: VeryDeep = field(repr=False)

    def as_record(self) -> dict[str, Any]:
        names = ("epochs", "finished", "split", "protocol", "localisation_error", "num_images", "images_per_second")
        return {"run": str(self.run), "model": str(self.model)} | {name: getattr(self, name) for name in names}

    @property
    def localiser(self) -> Localiser:
        return Localiser.load(self.run)


def default_folder(boxed: BoxedSet, net: VeryDeep) -> Path:
    name = f"{boxed.name}-{net.geometry.architecture.name}-boxes"
    return Path("runs") / free_name(name, lambda name: (Path("runs") / name).exists())


def run_to_end(
    run: Run,
    net: VeryDeep,
    boxed: BoxedSet,
    reporter: Callback,
    callbacks: Sequence[Callback] = (),
    *,
    momentum: dict[str, Tensor] | None = None,
    position: Position | None = None,
) -> TrainedLocaliser:
    """Trains from a position to the end, and writes the report."""
    assert net.boxes is not None
    compute = Compute(**run.settings["choice"])
    data = boxed.as_data_set()
    state: TrainState | None = None
    live = LiveReport.of_run(run, f"Boxes: {net.geometry.title} on {data.name}", data)
    with locked(run.folder), StopOnSignals() as stop, compute.thread_count():

        def progress(what: str, done: int, total: int) -> None:
            if stop.wants_stop():
                raise _StoppedError
            live.progress(what, done, total)
            reporter.progress(what, done, total)

        try:
            _ensure_classifier(run, net, data, compute, reporter, progress)
            if run.settings["on_maps"]:
                state, loop = _on_maps(run, net, boxed, compute, momentum, position, progress)
            else:
                state = state_at(run, net, data, momentum, position)
                loop = _on_images(run, state, boxed)
            run_loop(run, state, data, loop, reporter, [stop], callbacks)
        except _StoppedError:
            return _finish(run, net, boxed, None)
        except NotFiniteError as error:
            rate = run.settings["recipe"]["learning_rate"]
            raise UserError(
                f"{error}: the rate is too high: train anew with --set learning_rate={rate / 10:g}"
            ) from error
        except UserError:
            if position is None:
                run.discard_if_new()
            raise
        finally:
            release(net)
        return _finish(run, net, boxed, state if state.finished else None)


def _ensure_classifier(
    run: Run,
    net: VeryDeep,
    data: DataSet,
    compute: Compute,
    reporter: Callback,
    progress: Callable[[str, int, int], None],
) -> None:
    """Fits the classifier that gives the class scores, where the localiser grows from none."""
    assert net.boxes is not None
    file = run.folder / CLASSIFIER_FILE
    is_missing = broadcast_from_rank0(lambda: {"is_missing": not file.exists()})["is_missing"]
    if net.boxes.classifier != CLASSIFIER_FILE or not is_missing:
        return
    source = run.settings["origin"]["model"]
    seed = run.settings["seed"]
    errors = fit_linear(net, data, compute, file, seed=seed, source=source, progress=progress)
    reporter.note(
        f"classifier: linear, on the convolutions of {source}: {100 * errors['top1_error']:.2f}% of "
        f"{errors['num_images']} validation images wrong; {file}"
    )


class _StoppedError(Exception):
    """Ctrl-C before the loop, which has a checkpoint of its own."""


def _on_maps(
    run: Run,
    net: VeryDeep,
    boxed: BoxedSet,
    compute: Compute,
    momentum: dict[str, Tensor] | None,
    position: Position | None,
    progress: Callable[[str, int, int], None],
) -> tuple[TrainState, Loop]:
    """New fully connected layers on the stored maps of views: fc6 is fitted, fc7 and fc8 are trained."""
    assert net.boxes is not None
    seed, regression = run.settings["seed"], net.boxes.regression
    stored = store_views(
        net, boxed.train, compute, views=run.settings["views"], seed=seed, mirror=net.mirror, progress=progress
    )
    maps, places = central_maps(net, boxed.val, default_test_scale(net), compute, progress)
    targets = torch.cat(list(stored.targets))
    num_classes = len(boxed.classes)
    if position is None or position == Position():
        begin_from_cells(net, stored, num_classes)
        begin_at_mean(net, targets, regression, num_classes)
    for part in ("weight", "bias"):  # what least squares have fitted stays
        net.get_parameter(f"fc6.{part}").requires_grad_(False)
    state = state_at(run, net, boxed.as_data_set(), momentum, position, num_samples=stored.num_samples)
    upper = UpperBlocks(net, 6)
    state.model = upper

    def validate(net: VeryDeep) -> dict[str, Any]:
        was_training = net.training
        net.eval()
        with torch.inference_mode():
            outputs = torch.cat([upper(*compute.move(part)).float().cpu() for part in maps.split(256)])
        net.train(was_training)
        return errors_on_centres(outputs, regression, boxed.val, places)

    return state, Loop(
        batches=stored.batches(state.recipe, seed=seed),
        validate=validate,
        objective=BoxRegression(regression),
        chance=chance_of_boxes(targets, regression, num_classes),
        view=None,
    )


def _on_images(run: Run, state: TrainState, boxed: BoxedSet) -> Loop:
    """Random crops of the images, each with the box it shows best."""
    net, recipe = state.net, state.recipe
    assert net.boxes is not None
    regression, crop, num_classes = net.boxes.regression, net.geometry.crop, len(boxed.classes)
    scale = default_test_scale(net)
    places = central_places(boxed.val, scale, crop)
    targets = central_targets(boxed.train, central_places(boxed.train, scale, crop))
    if state.position == Position() and run.settings["new_fc8"]:
        begin_at_mean(net, targets, regression, num_classes)
    view = view_of(run, state)
    batches = partial(
        training_batches,
        boxed.train.images,
        view,
        batch_size=recipe.batch_size,
        seed=state.seed,
        workers=run.settings["workers"],
        members=processes(),
        targets=BoxTargets(boxed.train),
    )

    def validate(net: VeryDeep) -> dict[str, Any]:
        backend = TorchBackend(net, state.compute)
        images, outputs = boxed.val.images, []
        for first in range(0, len(places), _AT_ONCE):
            part = range(first, min(first + _AT_ONCE, len(places)))
            crops = np.stack([places[index].cut(images.pixels(index)) for index in part])
            outputs.append(torch.from_numpy(backend.maps(crops)).mean((2, 3)))
        return errors_on_centres(torch.cat(outputs), regression, boxed.val, places)

    return Loop(
        batches=batches,
        validate=validate,
        objective=BoxRegression(regression),
        chance=chance_of_boxes(targets, regression, num_classes),
        view=view,
    )


def begin_at_mean(net: VeryDeep, targets: Tensor, regression: Regression, num_classes: int) -> None:
    """Sets the bias of fc8 to the mean box, so that the first updates need not find it.

    Choice: the paper's last layer begins from noise, and says nothing of its bias.
    """
    bias = net.get_submodule("fc8").bias
    assert isinstance(bias, Tensor)
    with torch.no_grad():
        bias.copy_(mean_codes(targets, regression, num_classes))


def _finish(run: Run, net: VeryDeep, boxed: BoxedSet, state: TrainState | None) -> TrainedLocaliser:
    """Stores the error at the end; without a state it was stopped before."""
    errors = None
    if state is not None:
        errors = read_card(run.model_file).errors
    log = run.log_records()
    trained = TrainedLocaliser(
        run=run.folder,
        model=run.model_file if run.model_file.exists() else run.checkpoint_file,
        epochs=len(log),
        finished=state is not None,
        split=boxed.val.images.split,
        localisation_error=errors["localisation_error"] if errors else None,
        num_images=len(boxed.val),
        images_per_second=len(log) / sum(1 / line["images_per_second"] for line in log) if log else 0.0,
        net=net.eval(),
    )
    if state is not None and processes().is_first:
        run.save_result(trained.as_record())
        write_page_of_boxes(run, net, boxed)
    return trained
