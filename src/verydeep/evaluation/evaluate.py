"""A net, images and a protocol become posteriors and error rates."""

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from numpy import ndarray
from PIL import Image

from verydeep.collectives import processes, sum_over_processes
from verydeep.convnets.model_file import load, read_card
from verydeep.convnets.net import VeryDeep
from verydeep.data.batches import batches_by_shape
from verydeep.data.datasets import open_data
from verydeep.data.image_set import ImageSet, Progress, ignore_progress
from verydeep.data.images import to_rgb
from verydeep.data.stores import FolderStore
from verydeep.device import Choice, find_device
from verydeep.evaluation.errors import interval95, top_error
from verydeep.evaluation.protocols import Protocol, default_test_scale, find_protocol
from verydeep.mistakes import MistakeError, WrongUseError

_BATCH_PIXELS = 16 * 224 * 224
"""Pixels of a batch at most: the first block of the net takes 512 bytes of activations for each."""


@dataclass(frozen=True, kw_only=True)
class Result:
    """What testing a net gave.

    Attributes:
        posteriors: n,k.
        labels: index of the true class of each image.
        names: names of the images.
        classes: names of the classes.
        architecture: the paper's name.
        protocol: name of the protocol.
        test_scales: test scales Q, pixels.
        split: the split it was measured on.
        selected_on: the split that the weights were selected on; None where none was, or a net without its file.
        seconds: time taken.
        skipped: names of damaged images left out.
    """

    posteriors: Float[ndarray, "n k"] = field(repr=False)
    labels: ndarray = field(repr=False)
    names: Sequence[str] = field(repr=False)
    classes: tuple[str, ...]
    architecture: str
    protocol: str
    test_scales: tuple[int, ...]
    split: str
    selected_on: str | None
    seconds: float
    skipped: Sequence[str] = ()

    @property
    def top1_error(self) -> float:
        """Share of images whose most likely class is wrong."""
        error = top_error(self.posteriors, self.labels, 1)
        assert error is not None
        return error

    @property
    def top5_error(self) -> float | None:
        """Share of images whose class is not among the five most likely; None with fewer than five classes."""
        return top_error(self.posteriors, self.labels, 5)

    def as_record(self) -> dict[str, Any]:
        """The figures, for JSON."""
        return {
            "architecture": self.architecture,
            "protocol": self.protocol,
            "test_scales": list(self.test_scales),
            "split": self.split,
            "selected_on": self.selected_on,
            "num_images": len(self.labels),
            "top1_error": self.top1_error,
            "top5_error": self.top5_error,
            "interval95": list(interval95(self.top1_error, len(self.labels))),
            "seconds": self.seconds,
            "skipped": list(self.skipped),
        }


def evaluate(
    model: VeryDeep | str | Path,
    data: str | Path | ImageSet,
    *,
    protocol: str = "single",
    test_scales: Sequence[int] | None = None,
    split: str | None = None,
    device: str | None = None,
    skip_damaged: bool = False,
    progress: Progress = ignore_progress,
) -> Result:
    """Measures the error rates of a net by a protocol.

    Args:
        model: a net, a model file or a run folder.
        data: a built-in name or a folder, or the images themselves.
        protocol: ``centre``, ``single`` or ``adaptive``.
        test_scales: Q, pixels; by default the net's training scale.
        split: train, val or test; by default test where there is one, else val.
        device: cpu, cuda or mps; by default the fastest there is.
        skip_damaged: leave damaged images out and name them, instead of failing.
        progress: told how far it is.

    Raises:
        MistakeError: the model, the data or an image cannot be used; or the classes are not the net's.
        WrongUseError: an unknown protocol or a scale below the crop.

    Paper: section 3.2, section 4.1.
    """
    row = find_protocol(protocol)
    selected_on = None
    if isinstance(model, VeryDeep):
        net = model
    else:
        net, recipe = load(model), read_card(model).recipe or {}
        selected_on = "val" if recipe.get("schedule") == "plateau" or recipe.get("keep") == "best" else None
    scale = _single_scale(net, test_scales)
    images = data if isinstance(data, ImageSet) else open_data(data, progress).split(split)
    check_classes(net, images)
    images, skipped = images.checked(skip_damaged=True) if skip_damaged else (images, [])
    choice = Choice(device=find_device(device), precision="fp32", channels_last=True, threads=torch.get_num_threads())
    start = time.perf_counter()
    posteriors = measure_posteriors(net, images, row, scale, choice, progress)
    return Result(
        posteriors=posteriors,
        labels=images.labels,
        names=images.names,
        classes=images.classes,
        architecture=net.geometry.architecture.name,
        protocol=row.name,
        test_scales=(scale,),
        split=images.split,
        selected_on=selected_on,
        seconds=time.perf_counter() - start,
        skipped=skipped,
    )


def _single_scale(net: VeryDeep, test_scales: Sequence[int] | None) -> int:
    if test_scales is None:
        return default_test_scale(net)
    if len(test_scales) != 1:
        raise WrongUseError(f"{len(test_scales)} test scales: this protocol takes one")
    check_scale(net, test_scales[0])
    return test_scales[0]


def check_scale(net: VeryDeep, scale: int) -> None:
    """Checks that a test scale leaves room for the crop.

    Raises:
        WrongUseError: it does not.
    """
    if scale < net.geometry.crop:
        raise WrongUseError(f"test scale {scale} is below the net's crop of {net.geometry.crop}: give that or more")


def check_classes(net: VeryDeep, images: ImageSet) -> None:
    """Checks that the scores of a net mean the classes of the images.

    Raises:
        MistakeError: they do not; the message names a class that differs.
    """
    if net.geometry.num_classes != len(images.classes):
        raise MistakeError(
            f"the net has {net.geometry.num_classes} classes and the data {len(images.classes)}: "
            "test on the data it was trained for"
        )
    if net.classes is not None and net.classes != images.classes:
        ours, theirs = next(pair for pair in zip(net.classes, images.classes, strict=True) if pair[0] != pair[1])
        raise MistakeError(f"the net's classes are not the data's: it has {ours!r} where the data have {theirs!r}")


def measure_posteriors(
    net: VeryDeep,
    images: ImageSet,
    protocol: Protocol,
    scale: int,
    choice: Choice,
    progress: Progress = ignore_progress,
) -> Float[ndarray, "n k"]:
    """Computes the posteriors of every image by a protocol at one test scale.

    Several processes share the images, each image in exactly one of them, and all get all posteriors.

    Args:
        net: is put into evaluation mode, and back.
        images: the images.
        protocol: how to test.
        scale: Q, pixels.
        choice: device, precision and layout.
        progress: told how far it is.
    """
    crop, mirrored = net.geometry.crop, protocol.mirrored and net.mirror
    posteriors = np.zeros((len(images), net.geometry.num_classes), dtype=np.float32)
    training, done = net.training, 0
    mine = list(processes().share(len(images)))
    net.place(choice)
    net.eval()
    try:
        with torch.inference_mode(), choice.autocast():
            batches = batches_by_shape(
                images.subset(mine),
                lambda image: protocol.view(image, scale, crop),
                most_pixels=_BATCH_PIXELS // (1 + mirrored),
            )
            for indices, batch in batches:
                (batch,) = choice.move(batch)
                posterior = protocol.posteriors(net, batch)
                if mirrored:
                    posterior = (posterior + protocol.posteriors(net, batch.flip(3))) / 2
                posteriors[[mine[index] for index in indices]] = posterior.float().cpu().numpy()
                done += len(indices)
                progress(f"testing on {images.split}", done, len(mine))
    finally:
        net.train(training)
    sum_over_processes(torch.from_numpy(posteriors))
    return posteriors


def posterior(
    net: VeryDeep,
    image: Image.Image | str | Path,
    *,
    protocol: str = "single",
    test_scales: Sequence[int] | None = None,
) -> Float[ndarray, "k"]:
    """Computes the class posteriors of one image by a protocol.

    Args:
        net: the net; it stays where it is.
        image: an image of any mode, or a file.
        protocol: ``centre``, ``single`` or ``adaptive``.
        test_scales: Q, pixels; by default the net's training scale.

    Returns:
        Probabilities in the order of the classes.

    Raises:
        MistakeError: the image cannot be read.
        WrongUseError: an unknown protocol or a scale below the crop.
    """
    held = {} if isinstance(image, str | Path) else {0: to_rgb(image)}
    images = ImageSet(
        split="image",
        classes=net.classes or (),
        names=["image" if held else str(image)],
        labels=np.zeros(1, dtype=np.int64),
        store=FolderStore(Path()),
        decoded=held,
    )
    choice = Choice(
        device=next(net.parameters()).device.type, precision="fp32", channels_last=True, threads=torch.get_num_threads()
    )
    row: ndarray = measure_posteriors(net, images, find_protocol(protocol), _single_scale(net, test_scales), choice)[0]
    return row
