"""What a training will take, said before it starts: ``verydeep train --plan``."""

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
from verydeep.images.augment import TrainingView
from verydeep.nets.net import VeryDeep
from verydeep.runs.memory import fitting_micro_batch, fixed_bytes, saved_bytes
from verydeep.runs.preparation import ComputeOptions, choose_for, default_folder, default_workers
from verydeep.runs.start import make_net
from verydeep.speed.training import place
from verydeep.training.callbacks import Reporter, Silent
from verydeep.training.loop import make_optimiser
from verydeep.training.recipe import Recipe, find_recipe
from verydeep.training.update import update

_LOOKED_AT = 64
"""Images that are read to measure how fast crops come."""

_MEASURED_PIXELS = 8 * 224 * 224
"""Of the images of a measured update at most."""

_CHECKPOINTS = 3
"""Checkpoints on the disk at most: the newest, the one before it, and the one being written."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What a training will take.

    Attributes:
        net: what is trained.
        choice: how it is computed.
        num_images: training images.
        epochs: passes over them at most.
        batch_size: images per update.
        iterations: updates at most.
        parameters: of the net.
        weight_bytes: memory of the weights; gradients and momentum take as much each.
        activation_bytes: memory of what the backward pass needs of the images computed at a time.
        image_bytes: memory of the images held decoded.
        memory_bytes: all of it.
        free_bytes: memory there is.
        computed_per_second: images per second that the net can learn from, measured.
        read_per_second: images per second that are read and cropped, measured.
        images_per_second: of both together.
        seconds: to the end, validation included, if the plateau rule does not end it before.
        disk_bytes: checkpoints and model file.
        free_disk_bytes: space there is.
        warnings: what will not fit, and what helps.
    """

    net: str
    choice: str
    num_images: int
    epochs: int
    batch_size: int
    iterations: int
    parameters: int
    weight_bytes: int
    activation_bytes: int
    image_bytes: int
    memory_bytes: int
    free_bytes: int
    computed_per_second: float
    read_per_second: float
    images_per_second: float
    seconds: float
    disk_bytes: int
    free_disk_bytes: int
    warnings: tuple[str, ...] = ()

    def as_record(self) -> dict[str, Any]:
        """The figures, for JSON."""
        return asdict(self)


def plan(
    data: str | Path | DataSet,
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
    hold_out: bool = True,
    execution: ComputeOptions | None = None,
    devices: int = 1,
    reporter: Reporter | None = None,
) -> Plan:
    """Measures shortly and says what a training will take; nothing is written.

    The arguments are those of ``train``, and ``devices``, the processes that share a batch. Memory is that of one
    process. GPUs add up; processes that share the cores of one machine do not, nor do we measure what they lose.

    Raises:
        UserError: the data or the model cannot be used.
        UsageError: an option that cannot be right.
    """
    reporter, execution = reporter or Silent(), execution or ComputeOptions()
    row = find_recipe(recipe, **(changes or {}))
    net, opened, _ = make_net(
        data,
        architecture,
        batch_norm=batch_norm,
        crop=crop,
        width=width,
        init_from=init_from,
        recipe=row,
        seed=seed,
        reporter=reporter,
    )
    if not hold_out:
        opened = train_on_all(opened)
    choice = choose_for(net, row, execution, reporter)
    computed = _trained_per_second(net, row, choice, -(-row.batch_size // devices)) * (
        devices if choice.device == "cuda" else 1
    )
    held = opened.train.decoded_bytes() + opened.val.decoded_bytes()
    held = held if held <= memory_for_images() else 0
    view = TrainingView(crop=net.geometry.crop, train_scale=row.scales(net.geometry.crop), mirror=True)
    read = _crops_per_second(opened.train, view, held=held > 0)
    workers = default_workers(execution.workers, choice)
    together = min(computed, read * workers * devices) if workers else 1 / (1 / computed + 1 / read)
    parameters = sum(parameter.numel() for parameter in net.parameters())
    share = -(-row.batch_size // devices)
    at_a_time = min(choice.micro_batch or share, share, len(opened.train))
    activations = at_a_time * saved_bytes(net, choice)
    memory = fixed_bytes(net, choice) + activations + (held if choice.device == "cpu" else 0)
    free, free_disk = free_bytes(choice.device), _free_disk(Path(out) if out else default_folder(net, opened))
    disk = 4 * parameters + _CHECKPOINTS * 8 * parameters
    # forward alone takes a third of a training step
    seconds = row.epochs * (len(opened.train) / together + len(opened.val) * (1 / (3 * computed) + 1 / read))
    return Plan(
        net=net.geometry.title,
        choice=str(choice),
        num_images=len(opened.train),
        epochs=row.epochs,
        batch_size=row.batch_size,
        iterations=row.epochs * math.ceil(len(opened.train) / row.batch_size),
        parameters=parameters,
        weight_bytes=4 * parameters,
        activation_bytes=activations,
        image_bytes=held,
        memory_bytes=memory,
        free_bytes=free,
        computed_per_second=computed,
        read_per_second=read,
        images_per_second=together,
        seconds=seconds,
        disk_bytes=disk,
        free_disk_bytes=free_disk,
        warnings=tuple(
            _warnings(net, row, choice, at_a_time, memory - activations, activations // at_a_time, free)
            + _disk_warnings(disk, free_disk)
        ),
    )


def _trained_per_second(net: VeryDeep, recipe: Recipe, choice: Compute, share: int) -> float:
    """Measures how fast a net learns from images that are there: the faster of two updates; the net is changed."""
    crop = net.geometry.crop
    count = max(1, min(share, choice.micro_batch or share, _MEASURED_PIXELS // crop**2))
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (count, crop, crop, 3), dtype=torch.uint8, generator=generator).permute(0, 3, 1, 2)
    labels = torch.arange(count) % net.geometry.num_classes
    place(net, choice)
    net.train()
    # a rate that may be far too high must not end the measurement
    optimiser = make_optimiser(net, replace(recipe, learning_rate=1e-12))
    seconds = []
    with choice.thread_count():
        for _ in range(3):  # the first takes memory
            start = time.perf_counter()
            update(net, optimiser, images, labels, choice)
            synchronise(choice.device)
            seconds.append(time.perf_counter() - start)
    net.zero_grad()
    return count / min(seconds[1:])


def _crops_per_second(images: ImageSet, view: TrainingView, *, held: bool) -> float:
    """Measures how fast training crops come, with or without decoding."""
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
    net: VeryDeep, recipe: Recipe, choice: Compute, at_a_time: int, fixed: int, per_image: int, free: int
) -> list[str]:
    """Says whether the memory will not do, and what helps."""
    needed = fixed + at_a_time * per_image
    if needed <= free:
        return []
    smaller = fitting_micro_batch(fixed, per_image, free)
    ways = [f"--micro-batch {smaller} (an update stays that of {recipe.batch_size} images)"] if smaller else []
    if not choice.gradient_checkpointing:
        ways.append("--gradient-checkpointing")
    ways.append(f"a smaller --crop than {net.geometry.crop}" if net.geometry.crop > 32 else "a smaller --width")
    return [f"memory will not do: {_gib(needed)} of {_gib(free)}; try {', or '.join(ways)}"]


def _disk_warnings(needed: int, free: int) -> list[str]:
    if needed <= free:
        return []
    return [f"the disk will not do: {_gib(needed)} of {_gib(free)}; give --out on a larger one"]


def _gib(count: int) -> str:
    return f"{count / 2**30:.1f} GiB"
