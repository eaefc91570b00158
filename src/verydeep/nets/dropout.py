"""Dropout whose masks belong to the images: the same for any split of a batch over processes and parts."""

from collections.abc import Sequence
from typing import Final

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int64
from torch import Tensor, nn

# the constants of SplitMix64 (Steele, Lea and Flood, 2014), as signed numbers: torch's integers wrap around
_STEP: Final = 0x9E3779B97F4A7C15 - 2**64
_FIRST: Final = 0xBF58476D1CE4E5B9 - 2**64
_SECOND: Final = 0x94D049BB133111EB - 2**64


def _mixed(x: Int64[Tensor, "..."]) -> Int64[Tensor, "..."]:
    x = (x ^ _shifted(x, 30)).mul(_FIRST)
    x = (x ^ _shifted(x, 27)).mul(_SECOND)
    return x ^ _shifted(x, 31)


def _shifted(x: Int64[Tensor, "..."], by: int) -> Int64[Tensor, "..."]:
    """Shifts to the right without the sign."""
    return x.bitwise_right_shift(by).bitwise_and(2 ** (64 - by) - 1)


def image_keys(seed: int, epoch: int, images: Sequence[int] | Int64[Tensor, "n"]) -> Int64[Tensor, "n"]:
    """Gives each use of an image in a training a random number of its own.

    Args:
        seed: of the whole training.
        epoch: counted from 0.
        images: which images of the training set.

    Returns:
        64 random bits for each image.
    """
    key = torch.zeros(len(images), dtype=torch.int64)
    for part in (seed, epoch, torch.as_tensor(images, dtype=torch.int64)):
        key = _mixed(key + _STEP + part)
    return key


def kept_units(keys: Int64[Tensor, "n"], layer: int, units: int, p: float) -> Bool[Tensor, "n u"]:
    """Draws the units that dropout keeps.

    Args:
        keys: one for each image.
        layer: number of the layer, so that two layers of one width have masks of their own.
        units: of the layer.
        p: probability of dropping a unit.
    """
    counter = torch.arange(1, -(-units // 4) + 1, device=keys.device) * _STEP
    bits = _mixed(_mixed(keys + layer)[:, None] + counter)
    quarters = bits.view(torch.int16)[:, :units]  # four numbers from each hash: a quarter of its cost
    return quarters >= round(p * 2**16) - 2**15


class Dropout(nn.Module):
    """Zeroes units while training, and scales up those it keeps.

    Args:
        p: probability of zeroing a unit.
        layer: number of the layer.

    Attributes:
        keys: a random number for each image of the next batch; None draws masks from torch's own generator.

    Paper: section 3.1.
    """

    def __init__(self, p: float, layer: int) -> None:
        super().__init__()
        self.p, self.layer = p, layer
        self.keys: Int64[Tensor, "n"] | None = None

    def forward(self, map_: Float[Tensor, "n c y x"]) -> Float[Tensor, "n c y x"]:
        """Drops units while training; otherwise gives its input."""
        if not self.training or self.p == 0:
            return map_
        if self.keys is None:
            return F.dropout(map_, self.p)
        kept = kept_units(self.keys, self.layer, map_[0].numel(), self.p).view_as(map_)
        return map_ * (kept.to(map_.dtype) / (1 - self.p))

    def extra_repr(self) -> str:
        """Such as ``p=0.5``."""
        return f"p={self.p}"
