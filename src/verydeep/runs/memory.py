"""The memory of a training: what it needs, and what to do where there is less."""

import math
from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor

from verydeep.device import Compute, free_bytes
from verydeep.distributed import processes
from verydeep.errors import UserError
from verydeep.nets.architecture import layers
from verydeep.nets.net import VeryDeep
from verydeep.speed.training import place
from verydeep.training.recipe import Recipe

_IN_FLIGHT = 5
"""Buffers of the size of the largest activation that the passes take for gradients and workspace: measured."""


def fixed_bytes(net: VeryDeep, choice: Compute) -> int:
    """Memory of weights, gradients and momentum, and of the weights' copies in bf16."""
    parameters = sum(parameter.numel() for parameter in net.parameters())
    return (4 * 3 + (2 if choice.precision == "bf16" else 0)) * parameters


def saved_bytes(net: VeryDeep, choice: Compute) -> int:
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

    place(net, choice)
    net.train()
    alive: list[Tensor] = []
    inputs, insides, largest = [], [], 0
    (images,) = choice.move(torch.zeros(count, 3, net.geometry.crop, net.geometry.crop, dtype=torch.uint8))
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor), choice.autocast():
        x = net.normalise(images)
        parts: tuple[Callable[[Tensor], Tensor], ...] = (*net.blocks(), net.head)
        for block in parts:
            inputs.append(x.untyped_storage().nbytes())
            kept.clear()
            x = block(x)
            insides.append(sum(kept.values()))
            largest = max(largest, *kept.values())
    total = sum(inputs) + max(insides) if choice.gradient_checkpointing else sum(insides)
    return (total + _IN_FLIGHT * largest) // count


def fitting_micro_batch(fixed: int, per_image: int, free: int) -> int:
    """The largest power of two of images that fits at a time; 0 where not even one does."""
    fitting = (free - fixed) // per_image if fixed < free else 0
    return int(2 ** int(math.log2(fitting))) if fitting else 0


def fit_into_memory(net: VeryDeep, recipe: Recipe, choice: Compute, say: Callable[[str], None]) -> Compute:
    """Computes a batch in parts where the memory does not do for the whole.

    Args:
        net: the net.
        recipe: says how large a batch is.
        choice: how the net is computed, without parts.
        say: is told if parts are chosen.

    Returns:
        The choice, with a micro-batch where it is needed.

    Raises:
        UserError: not even one image fits.
    """
    share = -(-recipe.batch_size // processes().size)
    free = free_bytes(choice.device)
    roughly = 4 * sum(row.channels * row.side**2 for row in layers(net.geometry))
    if choice.micro_batch or share * roughly < free / 4:
        return choice
    fixed, per_image = fixed_bytes(net, choice), saved_bytes(net, choice)
    if fixed + share * per_image <= free:
        return choice
    smaller = fitting_micro_batch(fixed, per_image, free)
    if not smaller:
        raise UserError(
            f"{free / 2**30:.1f} GiB of memory do not do for one image: try --gradient-checkpointing, "
            "a smaller --crop or a smaller --width"
        )
    statistics = ", batch norm takes its statistics over these" if net.geometry.batch_norm else ""
    needed = (fixed + share * per_image) / 2**30
    say(
        f"{share} images at a time take about {needed:.1f} GiB, {free / 2**30:.1f} are free: "
        f"{smaller} at a time, their gradients add up{statistics}"
    )
    return replace(choice, micro_batch=smaller)
