"""What ``auto`` looks at before it plans: images, memory, and the speed of this machine, measured for a moment."""

import time
from functools import partial
from typing import Final

import numpy as np
import torch
from torch import Tensor

from verydeep.data.dataset import DataSet
from verydeep.data.image_set import ImageSet
from verydeep.device import Compute, free_bytes
from verydeep.images.views import centre
from verydeep.nets.net import VeryDeep
from verydeep.nets.upper import UpperBlocks
from verydeep.paper.constants import CROP
from verydeep.runs.plan import MEASURED_SIDES, Look
from verydeep.runs.timing import fastest, held_bytes, time_steps
from verydeep.speed.backend import make_backend
from verydeep.speed.train_net import place, release

_IMAGES: Final = 8
"""Computed at a time."""

_READ: Final = 32
"""Images whose reading is timed."""

_FIT_SECONDS: Final = 1e-6
"""For a class, a training image and a dimension of its descriptor: measured on the built-in and shared sets."""


def look_at(data: DataSet, net: VeryDeep, compute: Compute, seconds_used: float) -> Look:
    """Looks at a data set and a machine; ``seconds_used`` are those since the command began."""
    began = time.perf_counter()
    all_images = [images for images in (data.train, data.val, data.test) if images is not None]
    reading = sum(len(images) for images in all_images) * _seconds_to_read(data.train)
    (forward, length), (update, fixed) = _forward(data.train, net, compute), _update(net, compute)
    numbers = len(data.train) * net.geometry.last_channels * len(data.classes)
    return Look(
        num_train=len(data.train),
        num_val=len(data.val),
        num_classes=len(data.classes),
        side=data.train.usual_side() or CROP,
        mirror=data.mirror,
        forward=forward,
        update=update,
        update_fixed=fixed,
        classifier_seconds=_FIT_SECONDS * numbers,
        seconds_used=seconds_used + reading + time.perf_counter() - began,
        free_bytes=free_bytes("cpu"),
        image_bytes=held_bytes(data),
        length=length,
    )


def _seconds_to_read(images: ImageSet) -> float:
    begin = time.perf_counter()
    num_read = len(images.some_pixels(_READ))
    # decoded in as many threads as there are cores
    return (time.perf_counter() - begin) / num_read / max(1, torch.get_num_threads())


def _forward(images: ImageSet, net: VeryDeep, compute: Compute) -> tuple[tuple[float, float], float]:
    """Seconds of an image at each side, and the length of a descriptor."""
    backend = make_backend(net, compute, layer="pool5")
    pixels = images.some_pixels(_IMAGES)
    seconds, length = [], 1.0
    for side in MEASURED_SIDES:
        views = [centre(one, side, side)[0] for one in pixels]
        views *= (MEASURED_SIDES[-1] // side) ** 2  # as many pixels at each side, as in a batch of views
        given = np.stack(views)
        times = []
        for _ in range(3):  # the first takes memory
            begin = time.perf_counter()
            maps = backend.maps(given, "pool5")
            times.append(time.perf_counter() - begin)
        seconds.append(min(times[1:]) / len(views))
        length = float(np.linalg.norm(maps.mean((2, 3), np.float64), axis=1).mean())
    return (seconds[0], seconds[1]), max(length, 1e-6)


def _update(net: VeryDeep, compute: Compute) -> tuple[tuple[float, float], float]:
    """Seconds of an image at each side in an update of the last block, and of an update beside that."""
    place(net, compute)
    upper = UpperBlocks(net, 5)
    channels = net.get_parameter("conv5_1.weight").shape[1]
    learns = {parameter: parameter.requires_grad for parameter in net.parameters()}
    for name, parameter in net.named_parameters():
        parameter.requires_grad_(name.startswith("conv5"))
    optimiser = torch.optim.SGD([p for p in net.parameters() if p.requires_grad], lr=0, momentum=0.9, fused=True)

    def random_maps(side: int) -> Tensor:
        maps = torch.rand(many, channels, side // 16, side // 16, device=compute.device)
        return maps.contiguous(memory_format=torch.channels_last)

    def step(maps: Tensor, number: int) -> None:
        with compute.autocast():
            upper.features(maps[:number]).sum().backward()
        optimiser.step()
        optimiser.zero_grad()

    few, many = _IMAGES, 4 * _IMAGES
    small, large = (partial(step, random_maps(side)) for side in MEASURED_SIDES)
    try:
        found = time_steps(small, few, many, compute.device)
        large(2 * few)  # which takes memory
        of_large = (fastest(large, 2 * few, compute.device) - found.fixed) / (2 * few)
        return (found.per_image, max(found.per_image, of_large)), found.fixed
    finally:
        for parameter, before in learns.items():
            parameter.requires_grad_(before)
            parameter.grad = None
        release(net)
