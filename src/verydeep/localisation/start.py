"""Starts the training of a localiser, or resumes it: the net it begins from, its layers, its way to train.

Paper: appendix A.
"""

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import torch

from verydeep.data.boxes.boxed import BoxedImages, BoxedSet
from verydeep.data.boxes.open import open_boxed
from verydeep.device import Compute, check_precision, find_device, fp32_choice
from verydeep.distributed import process_group, processes
from verydeep.errors import UsageError, UserError
from verydeep.localisation.cells import num_functions
from verydeep.localisation.classifier import scores_classes
from verydeep.localisation.localiser import read_boxes
from verydeep.localisation.maps import size_of_maps
from verydeep.localisation.options import START, LocaliseOptions
from verydeep.localisation.prepare import VERB, create_run, with_pixels
from verydeep.localisation.train import TrainedLocaliser, default_folder, run_to_end
from verydeep.nets.architecture import scaled_length
from verydeep.nets.boxes_card import BoxesCard
from verydeep.nets.grow import grow
from verydeep.nets.model_card import ModelCard
from verydeep.nets.net import VeryDeep
from verydeep.paper.constants import FINE_TUNING_RATE, GAUSSIAN_STD, TOTAL_STRIDE
from verydeep.runs.start import check_selection
from verydeep.training.recipe import Recipe
from verydeep.training.run_folder import CLASSIFIER_FILE, SETTINGS_FILE, Run, check_same_options, claimed
from verydeep.training.run_lock import locked
from verydeep.training.state import Callback
from verydeep.weights.resolve import load, read_card

_HIDDEN: Final = ((500, 256), (5_000, 512), (50_000, 1024))
"""Channels of new fc6 and fc7 up to so many training images; 4096 of more."""

_NEW_RATE: Final = 1e-2
"""Of new fully connected layers, for maps whose root mean square is 1."""

_SHARE_OF_STABLE: Final = 0.3

_LARGEST_SCALE: Final = 288
"""Of new layers at crop 224: a crop shows two fifths of a photograph."""

_CROPS_STORED: Final = 4_000
_MOST_VIEWS, _FEWEST_VIEWS = 20, 2
"""Maps stored of all images together, and of each."""


def train(
    data: str | Path | BoxedSet,
    options: LocaliseOptions | None = None,
    *,
    reporter: Callback | None = None,
    callbacks: Sequence[Callback] = (),
    command: str | None = None,
) -> TrainedLocaliser:
    """Trains a localiser into a run folder.

    Args:
        data: what ``open_boxed`` opens: a name, a folder or a file with boxes; or data that are open.
        options: of the training.
        reporter: reports the progress.
        callbacks: called by the training loop too.
        command: that reproduces the run; stored in it.

    Raises:
        UserError: the data, the classifier or the run folder cannot be used.
        UsageError: an option that cannot be right.

    Paper: appendix A.
    """
    options, reporter = options or LocaliseOptions(), reporter or Callback()
    options.check(data)
    with process_group(find_device(options.device)):
        boxed = _opened(data, options.damaged == "skip", reporter)
        if options.resume and options.out and (options.out / SETTINGS_FILE).exists():
            began = Run.open(options.out).settings.get("options", {})
            check_same_options(f"the run in {options.out}", began, options.asked)
            return resume(options.out, data=boxed, reporter=reporter, callbacks=callbacks)
        net, recipe, facts = make_localiser(boxed, options, reporter)
        check_selection(recipe, options.of_training)
        facts |= {"command": command, "data": str(data) if isinstance(data, str | Path) else f"<{boxed.name}>"}
        with claimed(options.out, lambda: default_folder(boxed, net)) as folder:
            run, boxed = create_run(folder, net, boxed, recipe, options, facts, reporter)
            return run_to_end(run, net, boxed, reporter, callbacks)


def resume(
    out: str | Path,
    *,
    data: str | Path | BoxedSet | None = None,
    reporter: Callback | None = None,
    callbacks: Sequence[Callback] = (),
) -> TrainedLocaliser:
    """Resumes the training of a localiser, as if nothing had happened.

    Args:
        out: the run folder.
        data: where its data lie now, if they were moved; or these data.
        reporter: reports the progress.
        callbacks: called by the training loop too.

    Raises:
        UserError: the folder holds no run of a localiser, or its data have changed.
    """
    reporter, run = reporter or Callback(), Run.open(Path(out))
    settings = run.settings
    if run.verb != VERB:
        raise UserError(f"{out} is a run of verydeep train: {run.resume_command}")
    run.check_resumable()
    find_device(settings["choice"]["device"])
    check_precision(settings["choice"]["precision"])
    began = str(settings["data"])
    if data is None and began.startswith("<"):
        raise UserError(f"{out} began with data that were given in Python, {began}: give them to resume as data")
    with process_group(settings["choice"]["device"]), locked(run.folder):
        boxed = _opened(began if data is None else data, settings["skip_damaged"], reporter)
        if boxed.fingerprint != settings["fingerprint"]:
            raise UserError(
                f"the data of {boxed.name} are not those the run began with: restore them, or train anew; if they were "
                f"moved: verydeep localise train NEW --resume --out {out}"
            )
        net, momentum, position, problem = run.restore()
        if problem:
            reporter.note(f"{problem}; resuming from the checkpoint before it")
        left_out = settings["skipped"]
        boxed = replace(
            boxed,
            train=with_pixels(boxed.train, boxed.train.images.without(left_out)),
            val=with_pixels(boxed.val, boxed.val.images.without(left_out)),
        )
        reporter.note(f"resuming {run.folder} after epoch {position.epoch}, update {position.iteration}")
        return run_to_end(run, net, boxed, reporter, callbacks, momentum=momentum, position=position)


def _opened(data: str | Path | BoxedSet, skip_damaged: bool, reporter: Callback) -> BoxedSet:
    if isinstance(data, BoxedSet):
        return data
    return open_boxed(data, skip_damaged=skip_damaged, progress=reporter.progress)


def make_localiser(
    boxed: BoxedSet, options: LocaliseOptions, reporter: Callback
) -> tuple[VeryDeep, Recipe, dict[str, Any]]:
    """Makes the net that a training begins with, its recipe, and what run.json says of both."""
    origin = str(options.init_from or START)
    card = read_card(origin)
    if card.boxes is not None and (card.boxes.classes, card.boxes.regression) != (boxed.classes, options.regression):
        raise UsageError(
            f"--init-from {origin} is a localiser of other classes, or not {options.regression}: give the classifier "
            "that one grew from"
        )
    has_head = card.head == "paper" and not card.features_only
    on_maps = not has_head and options.finetune != "all"
    if has_head:
        for name, value in (("--hidden", options.hidden), ("--views", options.views)):
            if value is not None:
                raise UsageError(f"{name} is of new layers: {origin} has fc6 and fc7, leave it out")
    if on_maps and (options.devices != 1 or processes().size > 1):
        raise UsageError("--devices: new layers on stored maps are trained in one process: leave it out")
    if on_maps and options.train_scale is not None:
        raise UsageError("--train-scale: views of random windows are stored, of many scales: leave it out")
    recipe = options.find_recipe(on_maps=on_maps)
    classes, source = boxed.classes, load(origin)
    side = (options.crop or card.crop) // TOTAL_STRIDE
    if on_maps and options.hidden is not None and options.hidden < side**2:
        raise UsageError(f"--hidden {options.hidden}: give {side**2} or more, one for each position of the map")
    net = VeryDeep(
        card.architecture,
        batch_norm=card.batch_norm,
        num_classes=4 if options.regression == "scr" else 4 * len(classes),
        initialisation=recipe.initialisation,
        crop=options.crop or card.crop,
        width=card.width,
        hidden=card.hidden if has_head else options.hidden or hidden_for(len(boxed.train), len(classes), side),
        dropout=recipe.dropout,
        generator=torch.Generator().manual_seed(options.seed),
    )
    grown = grow(net, source)
    net.train_scale = recipe.scales(net.geometry.crop)
    if options.train_scale is None:
        net.train_scale = _scales(card, net.geometry.crop, has_head=has_head)
    reporter.note(f"from {origin}: {grown}")
    generator = torch.Generator().manual_seed(options.seed + 1)
    with torch.no_grad():
        net.get_parameter("fc8.weight").normal_(0, GAUSSIAN_STD, generator=generator)
    if card.boxes is not None:  # it goes on from there
        net.get_submodule("fc8").load_state_dict(source.get_submodule("fc8").state_dict())
    if not on_maps:
        compute = fp32_choice(find_device(options.device))
        recipe = options.find_recipe(on_maps=False, rates=find_rates(net, boxed.train, card, compute, grown.new))
    classifier = classifier_of(card, origin, classes)
    net.boxes = BoxesCard(regression=options.regression, classes=classes, classifier=classifier)
    origin_record = {"model": origin, "copied": list(grown.copied), "new": list(grown.new)}
    facts: dict[str, Any] = {"origin": origin_record, "on_maps": on_maps, "views": None, "new_fc8": card.boxes is None}
    if on_maps:
        facts["views"] = options.views or views_for(len(boxed.train))
        reporter.note(
            f"fc6 and fc7 are new, of {net.geometry.hidden} channels: fc6 is fitted to the maps of {facts['views']} "
            f"random views of each of the {len(boxed.train):,} images, fc7 and fc8 learn on them"
        )
    return net, recipe, facts


def find_rates(
    net: VeryDeep, boxed: BoxedImages, card: ModelCard, compute: Compute, new: Sequence[str]
) -> dict[str, float]:
    """The rates of a training on images; a new fc6, and fc7, are made ready for it.

    Choice: a tenth of the rate that the classifier was trained with, as the paper's 1e-3 is of its 1e-2; 1e-3 where
    that is not known. fc8, which begins from noise, has a rate of its own: its loss is a sum of squares, for which a
    step is stable up to about one over the sum of the squares of its inputs; a third of that is taken.

    Maps of the authors' convolutions are large: their root mean square is 13. With the weights of a new fc6 and fc7
    divided by the root of it, activations are of size 1 after fc7, and a step of either changes the outputs as much.
    """
    known = (card.recipe or {}).get("learning_rate") if card.boxes is None else None
    rate = FINE_TUNING_RATE if known is None else float(known) / 10
    scale, _ = size_of_maps(net, boxed, compute)
    if "fc6.weight" in new:
        with torch.no_grad():
            for name in ("fc6", "fc7"):
                net.get_parameter(f"{name}.weight").div_(math.sqrt(scale))
        rate = _NEW_RATE / scale
    _, power = size_of_maps(net, boxed, compute)
    return {"learning_rate": rate, "head_rate": _SHARE_OF_STABLE / (rate * max(power, 1e-6))}


def classifier_of(card: ModelCard, origin: str, classes: tuple[str, ...]) -> str | None:
    """Who gives the class scores: nobody for one class, the classifier it grows from, or one that is to be fitted."""
    if len(classes) == 1:
        return None
    if card.boxes is not None:
        return _lasting(read_boxes(origin).classifier)
    if scores_classes(card, classes):
        return _lasting(origin)
    return CLASSIFIER_FILE


def _lasting(model: str | None) -> str | None:
    """A MODEL as it can be found from any folder."""
    return str(Path(model).resolve()) if model is not None and Path(model).exists() else model


def hidden_for(num_images: int, num_classes: int, side: int) -> int:
    """Channels of new fc6 and fc7: what so many images can feed, and a map of each function that fc6 is fitted to."""
    by_images = next((channels for most, channels in _HIDDEN if num_images <= most), 4096)
    return max(by_images, math.ceil(num_functions(num_classes) * side**2 / 32) * 32)


def views_for(num_images: int) -> int:
    """Views of each image whose maps are stored."""
    return min(max(_CROPS_STORED // num_images, _FEWEST_VIEWS), _MOST_VIEWS)


def _scales(card: ModelCard, crop: int, *, has_head: bool) -> tuple[int, int]:
    """S of the classifier; new layers see windows of two fifths of an image and more, as crops of S up to 288 do."""
    if has_head and card.train_scale[0] >= crop:
        return card.train_scale
    return crop, scaled_length(_LARGEST_SCALE, crop)
