"""The loop of testing: a net, images and a protocol become posteriors."""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, UInt8
from numpy import ndarray
from PIL import Image
from torch import Tensor

from verydeep.data.batches import batches_by_shape
from verydeep.data.image_set import ImageSet
from verydeep.data.sources import FolderSource
from verydeep.device import Compute, synchronise
from verydeep.distributed import all_reduce_sum, processes
from verydeep.evaluation.cost import Cost, macs_of_part, plan_cost
from verydeep.evaluation.protocols import Method, Protocol, check_scales, find_protocol
from verydeep.images.decode import to_rgb
from verydeep.nets.net import VeryDeep
from verydeep.progress import Progress, ignore_progress
from verydeep.speed.accelerate import Accelerated, Computing

BATCH_PIXELS = 16 * 224 * 224
"""Pixels of a batch at most: the first block of the net takes 512 bytes of activations for each."""

Note = Callable[[str], None]
"""Told something worth reading."""


def ignore_note(text: str) -> None:
    """Tells nobody."""


@dataclass(frozen=True, kw_only=True)
class Measured:
    """What testing gave.

    Attributes:
        posteriors: n,k.
        cost: of an image.
        seconds: time taken for all of them.
    """

    posteriors: Float[ndarray, "n k"] = field(repr=False)
    cost: Cost
    seconds: float


def measure_posteriors(
    computing: Computing,
    images: ImageSet,
    protocol: Protocol,
    scales: Sequence[int],
    choice: Compute,
    progress: Progress = ignore_progress,
    note: Note | None = None,
) -> Measured:
    """Computes the posteriors of every image by a protocol.

    Several processes share the images, each image in exactly one of them, and all get all posteriors.

    Args:
        computing: a net, or an accelerated one; the net is put into evaluation mode, and back.
        images: the images; each is decoded once.
        protocol: how to test.
        scales: test scales Q, pixels.
        choice: device, precision and layout.
        progress: told how far it is.
        note: told what it will cost, before it begins and after the first batch.

    Raises:
        UserError: an image cannot be used.
    """
    start = time.perf_counter()
    net = computing.net if isinstance(computing, Accelerated) else computing
    mine = list(processes().share(len(images)))
    share = images.subset(mine)
    told = _Told(net, images, protocol, scales, note) if note is not None and len(images) else None
    sums = np.zeros((len(images), net.geometry.num_classes))
    macs = np.zeros(1, dtype=np.int64)
    flips = 1 + (protocol.mirrored and net.mirror)
    parts = sum(method.parts for method in protocol.methods) * len(scales)
    done = 0
    began = time.perf_counter()
    with _testing(net, choice, moves=computing is net):
        batches = batches_by_shape(share, _views(net, protocol, scales), most_pixels=BATCH_PIXELS)
        for number, indices, batch in batches:
            method = protocol.methods[number]
            (batch,) = choice.move(batch)
            posteriors = _mirrored(method, computing, batch) if flips == 2 else method.posteriors(computing, batch)
            weight = 1 / (len(protocol.methods) * len(scales) * method.parts)
            np.add.at(sums, [mine[index] for index in indices], weight * posteriors.float().cpu().numpy())
            macs += flips * len(indices) * macs_of_part(net, method, *batch.shape[-2:])
            done += len(indices)
            if told is not None:
                synchronise(choice.device)
                told.expected(macs.item(), time.perf_counter() - began, processes().size)
            progress(f"testing on {images.split}", done // parts, len(mine))
    all_reduce_sum(torch.from_numpy(sums))
    all_reduce_sum(torch.from_numpy(macs))
    seconds, count = time.perf_counter() - start, max(1, len(images))
    return Measured(
        posteriors=sums.astype(np.float32),
        cost=Cost(
            forward_passes=protocol.forward_passes(net, scales),
            macs=macs.item() // count,
            seconds_per_image=seconds / count,
        ),
        seconds=seconds,
    )


@contextmanager
def _testing(net: VeryDeep, choice: Compute, *, moves: bool) -> Iterator[None]:
    training = net.training
    if moves:  # an accelerated net has weights of its own
        net.place(choice)
    net.eval()
    try:
        with torch.inference_mode(), choice.autocast():
            yield
    finally:
        net.train(training)


def _mirrored(method: Method, computing: Computing, batch: Tensor) -> Float[Tensor, "n k"]:
    """The mean over parts and their mirror images, which share a batch where there is room: weights are read once."""
    n, _, height, width = batch.shape
    if 2 * n * height * width > BATCH_PIXELS:
        return (method.posteriors(computing, batch) + method.posteriors(computing, batch.flip(3))) / 2
    seen, mirrored = method.posteriors(computing, torch.cat([batch, batch.flip(3)])).chunk(2)
    return (seen + mirrored) / 2


def _views(
    net: VeryDeep, protocol: Protocol, scales: Sequence[int]
) -> Callable[[UInt8[ndarray, "h w 3"]], list[tuple[int, UInt8[ndarray, "y x 3"]]]]:
    crop = net.geometry.crop

    def parts(image: UInt8[ndarray, "h w 3"]) -> list[tuple[int, UInt8[ndarray, "y x 3"]]]:
        return [
            (number, part)
            for number, method in enumerate(protocol.methods)
            for scale in scales
            for part in method.view(image, scale, crop)
        ]

    return parts


class _Told:
    """Says what a test will cost: the work before it begins, the time after its first batch."""

    def __init__(self, net: VeryDeep, images: ImageSet, protocol: Protocol, scales: Sequence[int], note: Note) -> None:
        self.note: Note | None = note
        plan = plan_cost(net, images, protocol, scales)
        self.total, self.num_images = plan.cost.macs * plan.num_images, plan.num_images
        for line in plan.lines(protocol, scales, net.geometry.crop):
            note(line)

    def expected(self, macs: int, seconds: float, num_processes: int) -> None:
        """Says how long it will take; only once."""
        if self.note is not None:
            whole = seconds * self.total / max(1, macs) / num_processes
            self.note(f"about {format_duration(whole)} for {self.num_images:,} images, by the first batch")
            self.note = None


def format_duration(seconds: float) -> str:
    """Writes a duration as a person would."""
    if seconds < 120:
        return f"{seconds:.0f} seconds" if seconds >= 2 else f"{seconds:.1f} seconds"
    return f"{seconds / 60:.0f} minutes" if seconds < 7200 else f"{seconds / 3600:.1f} hours"


def posterior(
    net: Computing,
    image: Image.Image | str | Path,
    *,
    protocol: str = "single",
    test_scales: Sequence[int] | None = None,
) -> Float[ndarray, "k"]:
    """Computes the class posteriors of one image by a protocol.

    Args:
        net: the net, which stays where it is, or an accelerated one.
        image: an image of any mode, or a file.
        protocol: a name in ``PROTOCOLS``, such as ``multi-scale``.
        test_scales: Q, pixels; by default what the protocol says for the net's training scale.

    Returns:
        Probabilities in the order of the classes.

    Raises:
        UserError: the image cannot be read.
        UsageError: an unknown protocol or a scale below the crop.
    """
    row = find_protocol(protocol)
    plain = net.net if isinstance(net, Accelerated) else net
    scales = row.test_scales(plain) if test_scales is None else check_scales(plain, test_scales)
    held = {} if isinstance(image, str | Path) else {0: np.asarray(to_rgb(image))}
    images = ImageSet(
        split="image",
        classes=net.classes or (),
        names=["image" if held else str(image)],
        labels=np.zeros(1, dtype=np.int64),
        source=FolderSource(Path()),
        decoded=held,
    )
    choice = Compute(
        device=next(plain.parameters()).device.type,
        precision="fp32",
        channels_last=True,
        threads=torch.get_num_threads(),
    )
    only: ndarray = measure_posteriors(net, images, row, scales, choice).posteriors[0]
    return only
