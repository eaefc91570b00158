"""How a training is computed on this machine: device, processes, and micro-batches where memory is short."""

import math
import os
from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor

from verydeep.device import Compute, find_device, free_bytes
from verydeep.distributed import num_local_processes, processes
from verydeep.errors import UsageError, UserError
from verydeep.nets.architecture import layers
from verydeep.nets.net import VeryDeep
from verydeep.runs.options import TrainOptions
from verydeep.speed.train_net import choose_training, place
from verydeep.training.recipe import Recipe
from verydeep.training.run_folder import Run

_IN_FLIGHT = 5
"""Buffers of the size of the largest activation that the passes take for gradients and workspace: measured."""


def choose_compute(net: VeryDeep, recipe: Recipe, options: TrainOptions, note: Callable[[str], None]) -> Compute:
    share = -(-recipe.batch_size // processes().size)
    compute = choose_training(
        net.geometry,
        device=options.device,
        precision=options.precision,
        threads=max(1, torch.get_num_threads() // num_local_processes()),
        micro_batch=options.micro_batch if options.micro_batch and options.micro_batch < share else None,
        gradient_checkpointing=options.gradient_checkpointing,
    )
    note(f"{net.geometry.title} on {compute}")
    return compute


def as_recorded(compute: Compute, options: TrainOptions, note: Callable[[str], None]) -> Compute:
    """Returns how the run in ``like`` computed: device, precision, backend, layout, threads and micro-batches.

    What is asked for beside it is kept; ``compute`` is what this machine chooses without it, and stays where the device
    of the run is missing here.
    """
    if options.like is None or options.device is not None or options.precision is not None:
        return compute
    recorded = Compute(**Run.open(options.like).settings["choice"])
    try:
        find_device(recorded.device)
    except UsageError:
        note(f"{options.like} computed on {recorded.device}, which this machine has not: other rounding")
        return compute
    asked = {name: value for name in ("micro_batch", "gradient_checkpointing") if (value := getattr(options, name))}
    recorded = replace(recorded, **asked)
    if recorded != compute:
        note(f"as in {options.like}: {recorded}")
    return recorded


def default_workers(workers: int | None, compute: Compute) -> int:
    """Processes that make crops: none on the CPU, where they would take its cores, else one a core."""
    if workers is not None:
        return workers
    local = num_local_processes()
    return 0 if compute.device == "cpu" else min(os.cpu_count() or 1, 16 * local) // local


def describe_processes(net: VeryDeep, recipe: Recipe, compute: Compute) -> str:
    members = processes()
    each = -(-recipe.batch_size // members.size)
    text = f"{members}, each with {each} of the {recipe.batch_size} images of a batch; gradients are averaged"
    if net.geometry.batch_norm:
        text += "; batch norm's statistics are " + (
            "those of the whole batch" if compute.device == "cuda" else "each process's own"
        )
    return text


def fixed_bytes(net: VeryDeep, compute: Compute) -> int:
    """Memory of weights, gradients and momentum, and of the weights' copies in bf16."""
    parameters = sum(parameter.numel() for parameter in net.parameters())
    return (4 * 3 + (2 if compute.precision == "bf16" else 0)) * parameters


def saved_bytes(net: VeryDeep, compute: Compute) -> int:
    """Measures the memory of what the backward pass needs of one image.

    With gradient checkpointing that is the input of each block, and at any time the inside of one block.
    """
    count = 5  # no tensor of weights has a size that is a multiple of it, but for fc8 perhaps, which is left out
    weights = {parameter.numel() for parameter in net.parameters()}
    kept: dict[int, int] = {}

    def keep(tensor: Tensor) -> Tensor:
        if tensor.numel() % count == 0 and tensor.numel() not in weights:
            kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
            alive.append(tensor)
        return tensor

    place(net, compute)
    net.train()
    alive: list[Tensor] = []
    inputs, insides, largest = [], [], 0
    (images,) = compute.move(torch.zeros(count, 3, net.geometry.crop, net.geometry.crop, dtype=torch.uint8))
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor), compute.autocast():
        x = net.normalise(images)
        parts: tuple[Callable[[Tensor], Tensor], ...] = (*net.blocks(), net.head)
        for block in parts:
            inputs.append(x.untyped_storage().nbytes())
            kept.clear()
            x = block(x)
            insides.append(sum(kept.values()))
            largest = max(largest, *kept.values())
    total = sum(inputs) + max(insides) if compute.gradient_checkpointing else sum(insides)
    return (total + _IN_FLIGHT * largest) // count


def fitting_micro_batch(fixed: int, per_image: int, free: int) -> int:
    """The largest power of two of images that fits at a time; 0 where not even one does."""
    fitting = (free - fixed) // per_image if fixed < free else 0
    return int(2 ** int(math.log2(fitting))) if fitting else 0


def fit_into_memory(net: VeryDeep, recipe: Recipe, compute: Compute, note: Callable[[str], None]) -> Compute:
    """Adds a micro-batch where a whole batch does not fit into the memory."""
    share = -(-recipe.batch_size // processes().size)
    free = free_bytes(compute.device)
    roughly = 4 * sum(row.channels * row.side**2 for row in layers(net.geometry))
    if compute.micro_batch or share * roughly < free / 4:
        return compute
    fixed, per_image = fixed_bytes(net, compute), saved_bytes(net, compute)
    if fixed + share * per_image <= free:
        return compute
    smaller = fitting_micro_batch(fixed, per_image, free)
    if not smaller:
        raise UserError(
            f"{free / 2**30:.1f} GiB of memory do not do for one image: try --gradient-checkpointing, "
            "a smaller --crop or a smaller --width"
        )
    statistics = ", batch norm takes its statistics over these" if net.geometry.batch_norm else ""
    needed = (fixed + share * per_image) / 2**30
    note(
        f"{share} images at a time take about {needed:.1f} GiB, {free / 2**30:.1f} are free: "
        f"{smaller} at a time, their gradients add up{statistics}"
    )
    return replace(compute, micro_batch=smaller)
