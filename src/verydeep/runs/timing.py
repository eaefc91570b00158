"""How fast this machine trains a net, measured for a moment: weight updates, and the crops that they take."""

import time
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch

from verydeep.data.dataset import DataSet
from verydeep.data.image_set import ImageSet, memory_for_images
from verydeep.device import Compute, synchronise
from verydeep.images.augment import TrainingView
from verydeep.nets.net import VeryDeep
from verydeep.progress import Progress, ignore_progress
from verydeep.runs.compute import default_workers
from verydeep.runs.options import TrainOptions
from verydeep.speed.train_net import place
from verydeep.training.loop import make_optimiser
from verydeep.training.recipe import Recipe
from verydeep.training.update import update

_LOOKED_AT = 64
"""Images that are read to measure how fast crops come."""

_MEASURED_PIXELS = 4 * 224 * 224
"""Of the images of a measured update at most; on a device other than the CPU twice as many."""

_REPEATED_BELOW = 0.3
"""Seconds below which a measurement is made again, up to five times."""


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


Average = Callable[[list[float]], float]


def fastest(step: Callable[[int], object], number: int, device: str, *, most: int = 5, average: Average = min) -> float:
    """Seconds of a step of so many images: of ``most`` steps, unless one takes long, the fastest or an ``average``."""
    found: list[float] = []
    while not found or (found[-1] < _REPEATED_BELOW and len(found) < most):
        start = time.perf_counter()
        step(number)
        synchronise(device)
        found.append(time.perf_counter() - start)
    return average(found)


def time_steps(
    step: Callable[[int], object],
    few: int,
    many: int,
    device: str,
    *,
    average: Average = min,
    what: str = "timing",
    progress: Progress = ignore_progress,
) -> UpdateTime:
    """Measures steps of two sizes: what does not depend on the images would weigh too much in one of few images."""
    measured = []
    for done, (number, most) in enumerate([(many, 1), (few, 5), (many, 5)]):
        measured.append(fastest(step, number, device, most=most, average=average))  # the first takes memory
        progress(what, done + 1, 3)
    _, less, more = measured
    slope = (more - less) / (many - few) if many > few else more / many
    per_image = min(max(slope, more * few / many**2), more / many)  # bounds, for timings beside other processes
    return UpdateTime(fixed=more - per_image * many, per_image=per_image)


def time_update(
    net: VeryDeep,
    recipe: Recipe,
    compute: Compute,
    share: int,
    progress: Progress = ignore_progress,
    average: Average = min,
) -> UpdateTime:
    """Measures weight updates of a net; where it has no weights it gets zeros, which take the same time."""
    net, crop = filled(net), net.geometry.crop
    pixels = _MEASURED_PIXELS if compute.device == "cpu" else 2 * _MEASURED_PIXELS
    count = max(1, min(share, compute.micro_batch or share, pixels // crop**2))
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (count, crop, crop, 3), dtype=torch.uint8, generator=generator).permute(0, 3, 1, 2)
    labels = torch.arange(count) % net.geometry.num_classes
    place(net, compute)
    net.train()
    # a rate that may be far too high must not end the measurement
    optimiser = make_optimiser(net, replace(recipe, learning_rate=1e-12))

    def step(number: int) -> None:
        update(net, optimiser, images[:number], labels[:number], compute)

    what = f"timing {net.geometry.title}"
    with compute.thread_count():
        found = time_steps(step, -(-count // 2), count, compute.device, average=average, what=what, progress=progress)
    net.zero_grad()
    return found


def filled(net: VeryDeep) -> VeryDeep:
    """The net with zeros for weights where it has none."""
    if not net.mean.is_meta:
        return net
    net = net.to_empty(device="cpu")
    for tensor in net.state_dict().values():
        tensor.zero_()
    net.divisor.fill_(1)
    return net


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
    generator, start = np.random.default_rng(0), time.perf_counter()
    some = images.some_pixels(_LOOKED_AT)
    if held:  # then they are decoded once
        start = time.perf_counter()
    for pixels in some:
        view(pixels, generator)
    return len(some) / (time.perf_counter() - start)
