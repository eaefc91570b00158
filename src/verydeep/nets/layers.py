"""The layers of the nets as PyTorch modules, dropout with a seeded generator, and gradient checkpointing.

Paper: sections 2.1, 3.1 and 3.2.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Final

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from verydeep.nets.architecture import Layer
from verydeep.nets.checks import is_jit_traced
from verydeep.paper import constants

_WINDOW_FLOATS: Final = 2**28
"""Largest copy of overlapping windows that a dense fc6 makes: 1 GiB in float32."""


def make_module(layer: Layer, dropout: float) -> nn.Module:
    """Makes the module of a layer, its weights uninitialised."""
    match layer.kind:
        case "convolution":
            return Convolution(layer)
        case "batch-norm":
            return nn.BatchNorm2d(layer.channels)
        case "relu":
            return nn.ReLU()  # in place it would overwrite tapped activations, and is no faster
        case "local-response-norm":
            # PyTorch divides alpha by the size; AlexNet's formula does not
            alpha = constants.LRN_ALPHA * constants.LRN_SIZE
            return nn.LocalResponseNorm(constants.LRN_SIZE, alpha=alpha, beta=constants.LRN_BETA, k=constants.LRN_K)
        case "max-pool":
            return nn.MaxPool2d(2)
        case "fully-connected":
            return FullyConnected(layer)
        case "dropout":
            return Dropout(dropout, int(layer.name.removeprefix("drop")))
    raise AssertionError(layer.kind)


def compute_layer(module: nn.Module, map_: Float[Tensor, "n c y x"]) -> Float[Tensor, "n k v u"]:
    """Computes a layer; a linear layer, which somebody has put in place of fc8, at every position."""
    if isinstance(module, nn.Linear):
        scores: Tensor = module(map_.movedim(1, -1)).movedim(-1, 1)
        return scores
    output: Tensor = module(map_)
    return output


def outputs_of(
    modules: Mapping[str, nn.Module | None], map_: Tensor, names: Sequence[str], *, pooling: str = "max"
) -> dict[str, Tensor]:
    """Computes the outputs of named modules one after the other, and none after the last that is asked for.

    Args:
        modules: by name, from the image to the scores.
        map_: normalised images.
        names: of modules.
        pooling: ``max``, or ``average`` in its place.

    Returns:
        The outputs, n,c,y,x, by name, in the order of ``names``.
    """
    order = list(modules)
    last = max((order.index(name) for name in names), default=-1)
    outputs: dict[str, Tensor] = {}
    for name in order[: last + 1]:
        module = modules[name]
        assert module is not None
        if pooling == "average" and isinstance(module, nn.MaxPool2d):
            map_ = F.avg_pool2d(map_, 2, ceil_mode=module.ceil_mode)
        else:
            map_ = compute_layer(module, map_)
        if name in names:
            outputs[name] = map_
    return {name: outputs[name] for name in names}


class Convolution(nn.Conv2d):
    """A convolution of stride 1 that keeps the resolution."""

    def __init__(self, layer: Layer) -> None:
        super().__init__(layer.in_channels, layer.channels, layer.kernel, padding=layer.kernel // 2)

    def reset_parameters(self) -> None:
        """Leaves the weights uninitialised: PyTorch's default takes seconds and would be overwritten."""


def windows(map_: Float[Tensor, "n y x c"], kernel: int) -> Float[Tensor, "n i j k k c"]:
    """Returns a view of the kernel-sized windows at every position of a map."""
    return map_.unfold(1, kernel, 1).unfold(2, kernel, 1).permute(0, 1, 2, 4, 5, 3)


class FullyConnected(nn.Conv2d):
    """A fully connected layer as an unpadded convolution, computed as one matrix multiplication.

    Where the map has exactly one position this costs what ``nn.Linear`` costs. Weights and input are flattened in the
    order in which the weights lie in memory, so that neither layout copies them.

    Paper: section 3.2.
    """

    def __init__(self, layer: Layer) -> None:
        super().__init__(layer.in_channels, layer.channels, layer.kernel)

    def reset_parameters(self) -> None:
        """Leaves the weights uninitialised, as Convolution does."""

    def forward(self, map_: Float[Tensor, "n c h w"]) -> Float[Tensor, "n k i j"]:
        """Computes the scores at every position where the kernel fits."""
        kernel = self.kernel_size[0]
        if is_jit_traced(map_):  # a trace has no numbers to choose by, and may be used for other sizes
            return super().forward(map_)
        n, c, h, w = map_.shape
        i, j = h - kernel + 1, w - kernel + 1
        if n * i * j * c * kernel**2 > _WINDOW_FLOATS:
            return super().forward(map_)
        if kernel > 1 and self.weight.stride(1) == 1:
            positions = windows(map_.permute(0, 2, 3, 1), kernel)
            weight = self.weight.permute(0, 2, 3, 1)
        else:
            positions = windows(map_.permute(0, 2, 3, 1), kernel).permute(0, 1, 2, 5, 3, 4)
            weight = self.weight
        scores = F.linear(positions.reshape(n, i * j, c * kernel**2), weight.reshape(self.out_channels, -1), self.bias)
        return scores.reshape(n, i, j, self.out_channels).permute(0, 3, 1, 2)


@dataclass(frozen=True)
class BatchRows:
    """Which images of the batch over all processes a net computes next.

    Attributes:
        seed: seed of the training, epoch, and iteration within it.
        total: images of the batch over all processes.
        rows: of these images.
    """

    seed: tuple[int, int, int]
    total: int
    rows: range


class Dropout(nn.Module):
    """Zeroes units while training, and scales up those it keeps.

    Masks are drawn for a whole batch: they are the same for any split of it over processes and micro-batches.

    Args:
        p: probability of zeroing a unit.
        layer: number of the layer.

    Attributes:
        batch: which rows of which batch come next; None draws masks from torch's global generator.

    Paper: section 3.1.
    """

    def __init__(self, p: float, layer: int) -> None:
        super().__init__()
        self.p, self.layer = p, layer
        self.batch: BatchRows | None = None
        self._drawn: tuple[tuple[object, ...], Tensor] | None = None

    def forward(self, map_: Float[Tensor, "n c y x"]) -> Float[Tensor, "n c y x"]:
        """Drops units while training; otherwise returns its input."""
        if not self.training or self.p == 0:
            return map_
        if self.batch is None:
            return F.dropout(map_, self.p)
        rows = self.batch.rows
        kept = self._kept(self.batch, map_[0].numel(), map_.device)[rows.start : rows.stop : rows.step]
        return map_ * (kept.view_as(map_).to(map_.dtype) / (1 - self.p))

    def _kept(self, batch: BatchRows, units: int, device: torch.device) -> Bool[Tensor, "n u"]:
        """The mask of the whole batch, drawn once for all its parts."""
        key = (batch.seed, batch.total, units, device, self.p)
        if self._drawn is None or self._drawn[0] != key:
            self._drawn = key, kept_units(batch.seed, self.layer, batch.total, units, self.p).to(device)
        return self._drawn[1]

    def extra_repr(self) -> str:
        """Such as ``p=0.5``."""
        return f"p={self.p}"


def kept_units(seed: tuple[int, int, int], layer: int, total: int, units: int, p: float) -> Bool[Tensor, "n u"]:
    """Draws the units that dropout keeps, on the CPU: the same for every device. Each layer has masks of its own."""
    state = np.random.SeedSequence([*seed, layer]).generate_state(1, np.uint64)
    generator = torch.Generator().manual_seed(int(state[0]))
    bits = torch.empty(total, -(-units // 4), dtype=torch.int64)
    bits.random_(-(2**63), None, generator=generator)
    quarters = bits.view(torch.int16)[:, :units]  # four numbers from each draw: a quarter of its cost
    return quarters >= round(p * 2**16) - 2**15


def recomputed(block: nn.Module, map_: Float[Tensor, "n c y x"]) -> Float[Tensor, "n d v u"]:
    """Computes a block and keeps its input alone for the backward pass, which computes its activations again."""
    output: Tensor = checkpoint(
        block, map_, use_reentrant=False, context_fn=lambda: (nullcontext(), _frozen_statistics(block))
    )
    return output


@contextmanager
def _frozen_statistics(block: nn.Module) -> Iterator[None]:
    """Keeps batch norm from counting a batch twice in its running statistics."""
    norms = [module for module in block.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)]
    before = [norm.momentum for norm in norms]
    for norm in norms:
        norm.momentum = 0.0
    try:
        yield
    finally:
        for norm, momentum in zip(norms, before, strict=True):
            norm.momentum = momentum
