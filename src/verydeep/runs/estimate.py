"""What a training will take, estimated before it starts: ``verydeep train --plan``."""

import math
import shutil
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from verydeep.data.dataset import DataSet, train_on_all
from verydeep.data.image_set import ImageSet, memory_for_images
from verydeep.device import Compute, free_bytes, synchronise
from verydeep.errors import UsageError
from verydeep.images.augment import TrainingView
from verydeep.nets.net import VeryDeep
from verydeep.progress import Progress, ignore_progress
from verydeep.runs.compute import choose_compute, default_workers, fitting_micro_batch, fixed_bytes, saved_bytes
from verydeep.runs.net import default_folder, make_net
from verydeep.runs.options import TrainOptions
from verydeep.speed.train_net import place
from verydeep.training.loop import make_optimiser
from verydeep.training.recipe import Recipe
from verydeep.training.state import Callback
from verydeep.training.update import update

_LOOKED_AT = 64
"""Images that are read to measure how fast crops come."""

_MEASURED_PIXELS = 4 * 224 * 224
"""Of the images of a measured update at most; on a device other than the CPU twice as many."""

_REPEATED_BELOW = 0.3
"""Seconds below which a measurement is made again, up to five times; the fastest counts."""

_SHARE_OF_TIME = 0.9
"""Of --minutes, that is planned for epochs."""

_CHECKPOINTS = 3
"""Checkpoints on the disk at most: the newest, the one before it, and the one being written."""


@dataclass(frozen=True, kw_only=True)
class UpdateTime:
    """Seconds of a weight update: ``fixed``, whatever its images, such as of the weights' own change, and for each."""

    fixed: float
    per_image: float

    def images_per_second(self, num_images: int) -> float:
        return num_images / (self.fixed + self.per_image * num_images)

    def scaled(self, factor: float) -> "UpdateTime":
        """Returns the time of a net with ``factor`` times as many multiplications an image."""
        return replace(self, per_image=factor * self.per_image)


@dataclass(frozen=True, kw_only=True)
class Rates:
    """Images a second of a training."""

    computed: float  # that the net can learn from
    read: float  # read and cropped in one process
    together: float

    def seconds(self, data: DataSet, epochs: int) -> float:
        """Seconds of a training with its validation; forward alone takes a third of an update."""
        validation = len(data.val) * (1 / (3 * self.computed) + 1 / self.read)
        return epochs * (len(data.train) / self.together + validation)


@dataclass(frozen=True, kw_only=True)
class Plan:
    net: str
    choice: str  # how it is computed
    num_images: int
    epochs: int  # at most
    batch_size: int
    iterations: int  # updates at most
    parameters: int
    weight_bytes: int  # gradients and momentum take as much each
    activation_bytes: int  # what the backward pass needs of the images computed at a time
    image_bytes: int  # images held decoded
    memory_bytes: int  # all of it
    free_bytes: int
    computed_per_second: float  # images that the net can learn from, measured
    read_per_second: float  # images read and cropped, measured
    images_per_second: float  # both together
    seconds: float  # to the end, validation included, if the plateau rule does not end it before
    disk_bytes: int  # checkpoints and model file
    free_disk_bytes: int
    warnings: tuple[str, ...] = ()  # what will not fit, and what helps

    def as_record(self) -> dict[str, Any]:
        return asdict(self)


def plan(data: str | Path | DataSet, options: TrainOptions, *, reporter: Callback | None = None) -> Plan:
    """Estimates what a training will take, after a short measurement; nothing is written.

    Memory is that of one process of ``devices``. GPUs add up; processes that share the cores of one machine do not, nor
    is what they lose measured.
    """
    reporter, recipe, devices = reporter or Callback(), options.find_recipe(), options.devices
    net, opened, _ = make_net(data, options, reporter)
    if options.no_validation:
        opened = train_on_all(opened)
    compute = choose_compute(net, recipe, options, reporter.note)
    share = -(-recipe.batch_size // devices)
    update_time = time_update(net, recipe, compute, share, reporter.progress)
    rates = rates_of(opened, options, net.geometry.crop, compute, update_time)
    held = held_bytes(opened)
    parameters = sum(parameter.numel() for parameter in net.parameters())
    at_a_time = min(compute.micro_batch or share, share, len(opened.train))
    activations = at_a_time * saved_bytes(net, compute)
    memory = fixed_bytes(net, compute) + activations + (held if compute.device == "cpu" else 0)
    free, free_disk = free_bytes(compute.device), _free_disk(options.out or default_folder(net, opened))
    disk = 4 * parameters + _CHECKPOINTS * 8 * parameters
    return Plan(
        net=net.geometry.title,
        choice=str(compute),
        num_images=len(opened.train),
        epochs=recipe.epochs,
        batch_size=recipe.batch_size,
        iterations=recipe.epochs * math.ceil(len(opened.train) / recipe.batch_size),
        parameters=parameters,
        weight_bytes=4 * parameters,
        activation_bytes=activations,
        image_bytes=held,
        memory_bytes=memory,
        free_bytes=free,
        computed_per_second=rates.computed,
        read_per_second=rates.read,
        images_per_second=rates.together,
        seconds=rates.seconds(opened, recipe.epochs),
        disk_bytes=disk,
        free_disk_bytes=free_disk,
        warnings=tuple(
            _warnings(net, recipe, compute, at_a_time, memory - activations, activations // at_a_time, free)
            + _disk_warnings(disk, free_disk)
        ),
    )


def epochs_in_time(data: DataSet, options: TrainOptions, reporter: Callback, seconds_used: float) -> int:
    """Epochs of a recipe that ``minutes`` suffice for, at most as many as it has; measured for a moment.

    Raises:
        UsageError: not even one does.
    """
    assert options.minutes is not None
    begin = time.monotonic()
    planned = plan(data, options, reporter=reporter)
    left = _SHARE_OF_TIME * 60 * options.minutes - seconds_used - (time.monotonic() - begin)
    each = planned.seconds / planned.epochs
    epochs = min(planned.epochs, int(left / each))
    if epochs < 1:
        raise UsageError(
            f"--minutes {options.minutes:g}: an epoch of {planned.num_images:,} images takes about {each / 60:.1f}: "
            "give more, a smaller --crop or --width, or leave --recipe out"
        )
    reporter.note(f"{epochs} of {planned.epochs} epochs, so that it ends in {options.minutes:g} minutes")
    return epochs


def time_update(
    net: VeryDeep, recipe: Recipe, compute: Compute, share: int, progress: Progress = ignore_progress
) -> UpdateTime:
    """Measures updates of two sizes: what does not depend on the images would weigh too much in one of few images."""
    crop = net.geometry.crop
    pixels = _MEASURED_PIXELS if compute.device == "cpu" else 2 * _MEASURED_PIXELS
    count = max(1, min(share, compute.micro_batch or share, pixels // crop**2))
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (count, crop, crop, 3), dtype=torch.uint8, generator=generator).permute(0, 3, 1, 2)
    labels = torch.arange(count) % net.geometry.num_classes
    place(net, compute)
    net.train()
    # a rate that may be far too high must not end the measurement
    optimiser = make_optimiser(net, replace(recipe, learning_rate=1e-12))

    def seconds(number: int) -> float:
        start = time.perf_counter()
        update(net, optimiser, images[:number], labels[:number], compute)
        synchronise(compute.device)
        return time.perf_counter() - start

    def fastest(number: int) -> float:
        found = [seconds(number)]
        while found[-1] < _REPEATED_BELOW and len(found) < 5:
            found.append(seconds(number))
        return min(found)

    measured = []
    with compute.thread_count():
        for done, (measure, number) in enumerate([(seconds, count), (fastest, -(-count // 2)), (fastest, count)]):
            measured.append(measure(number))  # the first takes memory
            progress(f"timing {net.geometry.title}", done + 1, 3)
    net.zero_grad()
    _, half, all_ = measured
    slope = (all_ - half) / (count - -(-count // 2)) if count > 1 else all_
    per_image = min(max(slope, all_ / (2 * count)), all_ / count)  # bounds, for timings beside other processes
    return UpdateTime(fixed=all_ - per_image * count, per_image=per_image)


def rates_of(data: DataSet, options: TrainOptions, crop: int, compute: Compute, update_time: UpdateTime) -> Rates:
    """Measures how fast crops come, and adds up."""
    recipe, devices = options.find_recipe(), options.devices
    share = -(-recipe.batch_size // devices)
    computed = update_time.images_per_second(share) * (devices if compute.device == "cuda" else 1)
    view = TrainingView(crop=crop, train_scale=recipe.scales(crop), mirror=True)
    read = _crops_per_second(data.train, view, held=held_bytes(data) > 0)
    workers = default_workers(options.workers, compute)
    together = min(computed, read * workers * devices) if workers else 1 / (1 / computed + 1 / read)
    return Rates(computed=computed, read=read, together=together)


def held_bytes(data: DataSet) -> int:
    """Bytes of the images that are held decoded; 0 where they do not fit."""
    held = data.train.decoded_bytes() + data.val.decoded_bytes()
    return held if held <= memory_for_images() else 0


def _crops_per_second(images: ImageSet, view: TrainingView, *, held: bool) -> float:
    some = np.linspace(0, len(images) - 1, min(_LOOKED_AT, len(images))).astype(int).tolist()
    decoded = {index: images.pixels(index) for index in some} if held else {}
    read: Callable[[int], Any] = decoded.__getitem__ if held else images.pixels
    generator, start = np.random.default_rng(0), time.perf_counter()
    for index in some:
        view(read(index), generator)
    return len(some) / (time.perf_counter() - start)


def _free_disk(folder: Path) -> int:
    there = next(parent for parent in (folder.absolute(), *folder.absolute().parents) if parent.exists())
    return shutil.disk_usage(there).free


def _warnings(
    net: VeryDeep, recipe: Recipe, compute: Compute, at_a_time: int, fixed: int, per_image: int, free: int
) -> list[str]:
    needed = fixed + at_a_time * per_image
    if needed <= free:
        return []
    smaller = fitting_micro_batch(fixed, per_image, free)
    ways = [f"--micro-batch {smaller} (an update stays that of {recipe.batch_size} images)"] if smaller else []
    if not compute.gradient_checkpointing:
        ways.append("--gradient-checkpointing")
    ways.append(f"a smaller --crop than {net.geometry.crop}" if net.geometry.crop > 32 else "a smaller --width")
    return [f"memory will not do: {_gib(needed)} of {_gib(free)}; try {', or '.join(ways)}"]


def _disk_warnings(needed: int, free: int) -> list[str]:
    if needed <= free:
        return []
    return [f"the disk will not do: {_gib(needed)} of {_gib(free)}; give --out on a larger one"]


def _gib(count: int) -> str:
    return f"{count / 2**30:.1f} GiB"
