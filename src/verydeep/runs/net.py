"""The net of a training: what its options say, and where they say nothing, what the net it begins from is."""

from dataclasses import replace
from pathlib import Path

import torch

from verydeep.data.dataset import DataSet
from verydeep.data.open import AnyData, open_data
from verydeep.errors import UsageError
from verydeep.files import free_name
from verydeep.nets.architecture import find_architecture
from verydeep.nets.net import VeryDeep
from verydeep.paper.constants import CROP, TOTAL_STRIDE, TRAIN_SCALE
from verydeep.runs.options import TrainOptions
from verydeep.training.state import Callback
from verydeep.weights.resolve import load, read_card


def settle(options: TrainOptions) -> TrainOptions:
    """Settles architecture, batch norm and width: as given, else as the net in ``init_from`` has them, else A's.

    Another architecture than that net's is grown from it. Other widths and batch norm are refused, for nothing, or
    nothing of use, could be copied.

    Raises:
        UsageError: what was given contradicts the net in ``init_from``.
    """
    if options.start_model is None:
        return replace(
            options,
            init_from=None,
            architecture="A" if options.architecture is None else options.architecture,
            batch_norm=bool(options.batch_norm),
            width=1.0 if options.width is None else options.width,
        )
    source, where = read_card(options.start_model), f"the net in --init-from {options.init_from}"
    named_batch_norm = options.architecture is not None and find_architecture(options.architecture)[1]
    batch_norm = True if named_batch_norm else options.batch_norm
    if batch_norm is not None and batch_norm != source.batch_norm:
        has = "has" if source.batch_norm else "has no"
        raise UsageError(f"{where} {has} batch norm: leave out what says otherwise, or train without --init-from")
    if options.width is not None and options.width != source.width:
        raise UsageError(
            f"--width {options.width:g}: {where} has width {source.width:g}: leave out --width, or --init-from"
        )
    return replace(
        options,
        architecture=source.architecture if options.architecture is None else options.architecture,
        batch_norm=source.batch_norm,
        width=source.width,
    )


def make_net(data: AnyData, options: TrainOptions, reporter: Callback) -> tuple[VeryDeep, DataSet, VeryDeep | None]:
    """Returns a net with random weights, the data, and the net that weights are to be taken from, if any.

    The crop is that of the latter where its layers depend on it.
    """
    options = settle(options)
    assert options.architecture is not None
    assert options.width is not None
    find_architecture(options.architecture)
    recipe = options.find_recipe()
    source_net = load(options.init_from) if options.init_from else None
    whole = source_net if source_net is not None and not source_net.features_only else None
    opened = open_data(data, reporter.progress)
    crop = options.crop
    if crop is None:
        crop = whole.geometry.crop if whole else default_crop(opened)
    net = VeryDeep(
        options.architecture,
        num_classes=len(opened.classes),
        batch_norm=bool(options.batch_norm),
        initialisation=recipe.initialisation,
        crop=crop,
        width=options.width,
        head=whole.geometry.head if whole else "paper",
        dropout=recipe.dropout,
        generator=torch.Generator().manual_seed(options.seed),
    )
    net.classes = opened.classes
    return net, opened, source_net


def default_crop(data: DataSet) -> int:
    """Returns the crop whose training scale is nearest to the size of the images, at most the paper's 224."""
    side = data.train.usual_side()
    if side is None:
        return CROP
    nearest = round(side * CROP / TRAIN_SCALE / TOTAL_STRIDE) * TOTAL_STRIDE
    return min(max(nearest, TOTAL_STRIDE), CROP)


def default_folder(net: VeryDeep, data: DataSet) -> Path:
    name = f"{data.name}-{net.geometry.architecture.name}" + ("-bn" if net.geometry.batch_norm else "")
    return Path("runs") / free_name(name, lambda name: (Path("runs") / name).exists())
