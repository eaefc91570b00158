"""Dropout whose masks are drawn for a whole batch: the same for any split of it over processes and parts."""

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor, nn


@dataclass(frozen=True)
class BatchRows:
    """Which images of the batch over all processes a net computes next.

    Attributes:
        seed: of the training, the epoch, and the iteration within it.
        total: images of the batch over all processes.
        rows: of these images.
    """

    seed: tuple[int, int, int]
    total: int
    rows: range


def kept_units(
    seed: tuple[int, int, int], layer: int, total: int, units: int, p: float, device: torch.device | str = "cpu"
) -> Bool[Tensor, "n u"]:
    """Draws the units that dropout keeps, for a whole batch.

    Args:
        seed: of the training, the epoch, and the iteration within it.
        layer: number of the layer, so that two layers of one width have masks of their own.
        total: images of the batch over all processes.
        units: of the layer.
        p: probability of dropping a unit.
        device: where the mask is drawn; other kinds of device draw other masks.
    """
    state = np.random.SeedSequence([*seed, layer]).generate_state(1, np.uint64)
    generator = torch.Generator(device).manual_seed(int(state[0]))
    bits = torch.empty(total, -(-units // 4), dtype=torch.int64, device=device)
    bits.random_(-(2**63), None, generator=generator)
    quarters = bits.view(torch.int16)[:, :units]  # four numbers from each draw: a quarter of its cost
    return quarters >= round(p * 2**16) - 2**15


class Dropout(nn.Module):
    """Zeroes units while training, and scales up those it keeps.

    Args:
        p: probability of zeroing a unit.
        layer: number of the layer.

    Attributes:
        batch: which rows of which batch come next; None draws masks from torch's own generator.

    Paper: section 3.1.
    """

    def __init__(self, p: float, layer: int) -> None:
        super().__init__()
        self.p, self.layer = p, layer
        self.batch: BatchRows | None = None
        self._drawn: tuple[tuple[object, ...], Tensor] | None = None

    def forward(self, map_: Float[Tensor, "n c y x"]) -> Float[Tensor, "n c y x"]:
        """Drops units while training; otherwise gives its input."""
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
            self._drawn = key, kept_units(batch.seed, self.layer, batch.total, units, self.p, device)
        return self._drawn[1]

    def extra_repr(self) -> str:
        """Such as ``p=0.5``."""
        return f"p={self.p}"
