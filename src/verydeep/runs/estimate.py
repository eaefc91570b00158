"""What a training will take, estimated before it starts: ``verydeep train --plan``."""

import math
import shutil
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from verydeep.data.dataset import DataSet, train_on_all
from verydeep.device import Compute, free_bytes
from verydeep.errors import UsageError
from verydeep.nets.net import VeryDeep
from verydeep.runs.compute import choose_compute, fitting_micro_batch, fixed_bytes, saved_bytes
from verydeep.runs.net import default_folder, make_net
from verydeep.runs.options import TrainOptions
from verydeep.runs.timing import held_bytes, rates_of, time_update
from verydeep.training.recipe import Recipe
from verydeep.training.state import Callback

_SHARE_OF_TIME = 0.9
"""Of --minutes, that is planned for epochs."""

_CHECKPOINTS = 3
"""Checkpoints on the disk at most: the newest, the one before it, and the one being written."""


@dataclass(frozen=True, kw_only=True)
class Estimate:
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


def plan(data: str | Path | DataSet, options: TrainOptions, *, reporter: Callback | None = None) -> Estimate:
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
    return Estimate(
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
