"""Images too large to compute in one piece: the same map, tile by tile, in bounded memory.

A place after the last pooling sees a square of the image as large as the receptive field there. A tile that reaches
that far beyond its places, in whole strides, gives them exactly as the whole image does: the padding inside the net
touches only places that are thrown away, or stands at the true border of the image.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise

import torch
from jaxtyping import Float, Num
from torch import Tensor

from verydeep.nets.architecture import Geometry, feature_macs, layers, map_side
from verydeep.paper import constants
from verydeep.speed.accelerate import Computing

MOST_AT_ONCE = 2**21
"""Pixels that the convolutions take at once: the first block needs 512 bytes of activations for each."""

MOST_WINDOW_FLOATS = 2**26
"""Numbers that the windows of fc6 may hold at once: 256 MiB in float32."""


@dataclass(frozen=True)
class Span:
    """A part of one side of an image.

    Attributes:
        first: of the places that it gives.
        last: of them, exclusive.
        start: of the pixels that it needs, a multiple of the stride.
        stop: of them, exclusive.
    """

    first: int
    last: int
    start: int
    stop: int


def margin(geometry: Geometry) -> int:
    """Pixels that a place after the last pooling sees beyond its own 32, rounded up to whole strides."""
    field = next(layer.receptive_field for layer in layers(geometry) if layer.name == "pool5")
    return math.ceil((field - constants.TOTAL_STRIDE) / 2 / constants.TOTAL_STRIDE) * constants.TOTAL_STRIDE


def spans(side: int, margin: int, most: int, *, ceil: bool = False) -> list[Span]:
    """Divides one side of an image evenly into as few spans as fit.

    Args:
        side: pixels.
        margin: pixels that a span needs beyond its places, a multiple of the stride.
        most: pixels of a span at most, where that leaves room for a place.
        ceil: whether pooling rounds sizes up.
    """
    stride, places = constants.TOTAL_STRIDE, map_side(side, ceil=ceil)
    count = 1 if side <= most else math.ceil(places / max(1, (most - 2 * margin) // stride))
    edges = [places * index // count for index in range(count + 1)]
    return [
        Span(
            first,
            last,
            max(0, stride * first - margin),
            side if last == places else min(side, stride * last + margin),
        )
        for first, last in pairwise(edges)
    ]


def tiles(
    geometry: Geometry, height: int, width: int, *, ceil: bool = False, most: int = MOST_AT_ONCE
) -> tuple[list[Span], list[Span]]:
    """Divides an image into tiles: the spans of its rows and of its columns.

    Args:
        geometry: of the net.
        height: of the image, pixels.
        width: of the image, pixels.
        ceil: whether pooling rounds sizes up.
        most: pixels of a tile at most, where that leaves room for a place and its surroundings.
    """
    side = math.isqrt(most)
    if height * width <= most:
        tall, wide = height, width
    elif height <= side:
        tall, wide = height, most // height
    elif width <= side:
        tall, wide = most // width, width
    else:
        tall, wide = side, side
    edge = margin(geometry)
    return spans(height, edge, tall, ceil=ceil), spans(width, edge, wide, ceil=ceil)


def tiled_map(
    features: Callable[[Num[Tensor, "n 3 y x"]], Float[Tensor, "n c i j"]],
    images: Num[Tensor, "n 3 h w"],
    rows: list[Span],
    columns: list[Span],
) -> Float[Tensor, "n c p q"]:
    """Computes the map after the last pooling tile by tile.

    Args:
        features: computes it for a tile.
        images: RGB in 0..255.
        rows: of the tiles.
        columns: of the tiles.
    """
    if len(rows) == len(columns) == 1:
        return features(images)
    strips = []
    for row in rows:
        parts = []
        for column in columns:
            map_ = features(images[:, :, row.start : row.stop, column.start : column.stop])
            top, left = (span.first - span.start // constants.TOTAL_STRIDE for span in (row, column))
            parts.append(map_[:, :, top : top + row.last - row.first, left : left + column.last - column.first].clone())
        strips.append(torch.cat(parts, 3))
    return torch.cat(strips, 2)


def mean_scores(net: Computing, map_: Float[Tensor, "n c y x"], most: int = MOST_WINDOW_FLOATS) -> Float[Tensor, "n k"]:
    """Computes the mean over the places of the class score map, a part of the places at a time.

    Args:
        net: the net.
        map_: after the last pooling.
        most: numbers that the windows of fc6 may hold at once, where that leaves room for a place.

    Paper: section 3.2.
    """
    kernel = net.geometry.fc6_kernel
    n, channels, height, width = map_.shape
    rows, columns = height - kernel + 1, width - kernel + 1
    fit = max(1, most // (n * channels * kernel**2))
    if rows * columns <= fit:
        return net.head(map_).mean((2, 3))
    wide = min(columns, fit)
    tall = max(1, fit // wide)
    precision = torch.promote_types(map_.dtype, torch.float32)
    total = torch.zeros(n, net.geometry.num_classes, dtype=precision, device=map_.device)
    for top, left in _corners(rows, columns, tall, wide):
        part = map_[:, :, top : top + tall + kernel - 1, left : left + wide + kernel - 1]
        total += net.head(part).sum((2, 3))
    return total / (rows * columns)


def _corners(rows: int, columns: int, tall: int, wide: int) -> Iterator[tuple[int, int]]:
    return ((top, left) for top in range(0, rows, tall) for left in range(0, columns, wide))


def map_macs(geometry: Geometry, height: int, width: int, *, ceil: bool = False, most: int = MOST_AT_ONCE) -> int:
    """Counts the multiplications of the map after the last pooling: what two tiles compute counts twice.

    Args:
        geometry: of the net.
        height: of the image, pixels.
        width: of the image, pixels.
        ceil: whether pooling rounds sizes up.
        most: pixels of a tile at most.
    """
    rows, columns = tiles(geometry, height, width, ceil=ceil, most=most)
    return sum(
        feature_macs(geometry, row.stop - row.start, column.stop - column.start, ceil=ceil)
        for row in rows
        for column in columns
    )
