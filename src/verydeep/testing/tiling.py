"""Class score maps of images of any size, in bounded memory: tile by tile, the same as of the whole image.

A position after the last pooling sees a square of the image as large as the receptive field there. A tile that reaches
that far beyond its positions, in whole strides, gives them exactly as the whole image does: the padding inside the net
touches only positions that are thrown away, or stands at the true border of the image.
"""

import functools
import math
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, UInt8
from numpy import ndarray

from verydeep.nets.architecture import ARCHITECTURES, Geometry, layers
from verydeep.paper import constants
from verydeep.speed.backend import Backend

MOST_AT_ONCE = 2**21
"""Pixels that the convolutions take at once: the first block needs 512 bytes of activations for each."""

MOST_WINDOW_FLOATS = 2**26
"""Numbers that the windows of fc6 may hold at once: 256 MiB in float32."""

_MOST_CHANNELS = 512
"""Of the map after the last pooling, at width 1."""


@dataclass(frozen=True)
class Span:
    first: int  # of the positions that it gives
    last: int  # of them, exclusive
    start: int  # of the pixels that it needs, a multiple of the stride
    stop: int  # of them, exclusive


def margin(geometry: Geometry) -> int:
    """Pixels that a position after the last pooling sees beyond its own 32, rounded up to whole strides."""
    field = next(layer.receptive_field for layer in layers(geometry) if layer.name == "pool5")
    return math.ceil((field - constants.TOTAL_STRIDE) / 2 / constants.TOTAL_STRIDE) * constants.TOTAL_STRIDE


@functools.cache
def widest_margin() -> int:
    """The margin that is enough for every column of Table 1."""
    return max(margin(Geometry(architecture=row)) for row in ARCHITECTURES.values())


def spans(side: int, margin: int, most: int, *, rounds_up: bool = False) -> list[Span]:
    """Divides one side of an image evenly into as few spans as fit, each with a margin beyond its positions."""
    stride = constants.TOTAL_STRIDE
    positions = -(-side // stride) if rounds_up else side // stride
    count = 1 if side <= most else math.ceil(positions / max(1, (most - 2 * margin) // stride))
    edges = [positions * index // count for index in range(count + 1)]
    return [
        Span(
            first,
            last,
            max(0, stride * first - margin),
            side if last == positions else min(side, stride * last + margin),
        )
        for first, last in pairwise(edges)
    ]


def tiles(
    height: int, width: int, *, rounds_up: bool = False, most: int = MOST_AT_ONCE
) -> tuple[list[Span], list[Span]]:
    side = math.isqrt(most)
    if height * width <= most:
        tall, wide = height, width
    elif height <= side:
        tall, wide = height, most // height
    elif width <= side:
        tall, wide = most // width, width
    else:
        tall, wide = side, side
    edge = widest_margin()
    return spans(height, edge, tall, rounds_up=rounds_up), spans(width, edge, wide, rounds_up=rounds_up)


def pool5_map(
    backend: Backend, images: UInt8[ndarray, "n h w 3"], *, rounds_up: bool = False, most: int = MOST_AT_ONCE
) -> Float[ndarray, "n c p q"]:
    """Computes the map after the last pooling, of large images tile by tile."""
    rows, columns = tiles(*images.shape[1:3], rounds_up=rounds_up, most=most)
    if len(rows) == len(columns) == 1:
        return backend.maps(images, "pool5")
    strips = []
    for row in rows:
        parts = []
        for column in columns:
            map_ = backend.maps(images[:, row.start : row.stop, column.start : column.stop], "pool5")
            top, left = (span.first - span.start // constants.TOTAL_STRIDE for span in (row, column))
            parts.append(map_[:, :, top : top + row.last - row.first, left : left + column.last - column.first].copy())
        strips.append(np.concatenate(parts, 3))
    return np.concatenate(strips, 2)


def head_in_parts(
    backend: Backend, map_: Float[ndarray, "n c y x"], most: int = MOST_WINDOW_FLOATS
) -> Float[ndarray, "n k i j"]:
    """Computes the class score map from the map after the last pooling, a part of the positions at a time."""
    kernel = backend.head_kernel
    n, channels, height, width = map_.shape
    rows, columns = height - kernel + 1, width - kernel + 1
    fit = max(1, most // (n * channels * kernel**2))
    wide = min(columns, fit)
    tall = max(1, fit // wide)
    strips = []
    for top in range(0, rows, tall):
        across = slice(top, top + tall + kernel - 1)
        parts = [backend.head(map_[:, :, across, left : left + wide + kernel - 1]) for left in range(0, columns, wide)]
        strips.append(np.concatenate(parts, 3))
    return np.concatenate(strips, 2)


def score_map(
    backend: Backend, images: UInt8[ndarray, "n h w 3"], *, rounds_up: bool = False, most: int = MOST_AT_ONCE
) -> Float[ndarray, "n k i j"]:
    """Computes the class score map of images of any size in bounded memory.

    Paper: section 3.2.
    """
    n, height, width, _ = images.shape
    windows = n * height * width // constants.TOTAL_STRIDE**2 * _MOST_CHANNELS * backend.head_kernel**2
    is_crop = height == width == backend.crop
    if is_crop or "pool5" not in backend.layers or (height * width <= most and windows <= MOST_WINDOW_FLOATS):
        return backend.maps(images)
    return head_in_parts(backend, pool5_map(backend, images, rounds_up=rounds_up, most=most))


def score_map_rounded_up(backend: Backend, images: UInt8[ndarray, "n h w 3"]) -> Float[ndarray, "n k i j"]:
    """The same for a backend whose pooling rounds sizes up, so that the last rows and columns count too: Caffe's."""
    return score_map(backend, images, rounds_up=True)


def adaptive_score_map(backend: Backend, images: UInt8[ndarray, "n h w 3"]) -> Float[ndarray, "n k 1 1"]:
    """The scores of the last map pooled to fc6's size: not the paper's, but what torchvision computes."""
    side = backend.head_kernel
    pooled = F.adaptive_avg_pool2d(torch.from_numpy(pool5_map(backend, images)), (side, side))
    return backend.head(pooled.numpy())
