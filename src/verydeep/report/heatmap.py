"""A class score map laid over its photograph: where a net sees a class."""

import math
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, UInt8
from numpy import ndarray
from PIL import Image

from verydeep.paper.constants import TOTAL_STRIDE

_LEAST_RANGE = 1.0
"""Scores that the colours span at least: a map that is all but flat is not stretched into a pattern."""

_OPACITY = 0.55

_VIRIDIS = "440154 472d7b 3b528b 2c728e 21918c 28ae80 5ec962 addc30 fde725"


@dataclass(frozen=True)
class HeatMap:
    """The class score map of one class, in pixels of the rescaled image that it was computed from."""

    scores: Float[ndarray, "i j"]  # before the soft-max
    first: tuple[float, float]  # centre of the first position's window
    size: tuple[int, int]  # width and height of the rescaled image
    step: int = TOTAL_STRIDE  # from position to position

    def over(self, image: Image.Image) -> Image.Image:
        """Lays the map over the image, at the image's own size: dark blue for the lowest score, yellow for the highest.

        Between the centres of the positions the scores are interpolated; beyond the outermost they stay the same.

        Paper: section 3.2.
        """
        levels = Image.fromarray(self.levels(image.size))
        levels.putpalette(colour_table().tobytes())
        return Image.blend(image.convert("L").convert("RGB"), levels.convert("RGB"), _OPACITY)

    def levels(self, size: tuple[int, int]) -> UInt8[ndarray, "h w"]:
        low, high = float(self.scores.min()), float(self.scores.max())
        middle, half = (low + high) / 2, max(high - low, _LEAST_RANGE) / 2
        grey = 255 * (self.scores - middle + half) / (2 * half)
        margins = [math.ceil(side / self.step) + 1 for side in self.first]
        edge = max(margins) + 1  # the last positions lie at most one step farther from their edge than the first
        padded = Image.fromarray(np.pad(grey, edge, mode="edge").astype(np.float32))
        scales = [there / (here * self.step) for there, here in zip(self.size, size, strict=True)]
        shifts = [edge + 0.5 - side / self.step for side in self.first]
        placed = padded.transform(
            size,
            Image.Transform.AFFINE,
            (scales[0], 0, shifts[0], 0, scales[1], shifts[1]),
            resample=Image.Resampling.BILINEAR,
        )
        levels: ndarray = np.rint(np.asarray(placed)).clip(0, 255).astype(np.uint8)
        return levels


def colour_table() -> UInt8[ndarray, "256 3"]:
    """256 colours from dark blue over green to yellow, evenly spaced to the eye."""
    anchors = np.array([list(bytes.fromhex(colour)) for colour in _VIRIDIS.split()], dtype=float)
    where = np.linspace(0, len(anchors) - 1, 256)
    columns = [np.interp(where, range(len(anchors)), channel) for channel in anchors.T]
    table: ndarray = np.rint(np.stack(columns, 1)).astype(np.uint8)
    return table
