"""Class score maps of images of any size, in bounded memory: tile by tile, the same as of the whole image.

A position after the last pooling sees a square of the image as large as the receptive field there. A tile that reaches
that far beyond its positions, in whole strides, gives them exactly as the whole image does: the padding inside the net
touches only positions that are thrown away, or stands at the true border of the image.
"""

import functools
import itertools
import math
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from jaxtyping import Float, UInt8
from numpy import ndarray

from verydeep.nets.architecture import ARCHITECTURES, Geometry, layers
from verydeep.paper import constants
from verydeep.speed.backend import Backend
from verydeep.speed.memory import Pixels

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


def spans(side: int, margin: int, most: int, *, rounds_up: bool = False, window: int = 1) -> list[Span]:
    """Divides one side of an image evenly into as few spans as fit, each with a margin beyond its positions.

    The positions are those of the map after the last pooling, or of windows of several of these, as fc6 has them.
    """
    stride, more = constants.TOTAL_STRIDE, window - 1
    positions = (-(-side // stride) if rounds_up else side // stride) - more
    count = 1 if side <= most else math.ceil(positions / max(1, (most - 2 * margin) // stride - more))
    edges = [positions * index // count for index in range(count + 1)]
    return [
        Span(
            first,
            last,
            max(0, stride * first - margin),
            side if last == positions else min(side, stride * (last + more) + margin),
        )
        for first, last in pairwise(edges)
    ]


def tiles(
    height: int, width: int, *, rounds_up: bool = False, window: int = 1, most: int = MOST_AT_ONCE
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
    divide = functools.partial(spans, margin=widest_margin(), rounds_up=rounds_up, window=window)
    return divide(height, most=tall), divide(width, most=wide)


def pool5_map(
    backend: Backend, images: Pixels, *, rounds_up: bool = False, most: int = MOST_AT_ONCE
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
    backend: Backend, images: Pixels, *, rounds_up: bool = False, most: int = MOST_AT_ONCE
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


@dataclass(frozen=True)
class LayerMap:
    """Where the positions of a layer's map lie."""

    name: str
    channels: int
    stride: int  # pixels from one position to the next: 1 to 32
    window: int  # positions of the map after the last pooling that one sees: the side of fc6 after it, else 1
    is_fully_connected: bool  # stands after the last pooling

    @property
    def smallest_side(self) -> int:
        """Shorter side of the smallest image that has a position, pixels; that of pool5 for the layers before it."""
        return self.window * constants.TOTAL_STRIDE


def layer_map(geometry: Geometry, name: str) -> LayerMap:
    stride, window, connected = 1, 1, False
    for layer in layers(geometry):
        if layer.kind == "max-pool":
            stride *= 2
        if layer.kind == "fully-connected":
            window, connected = geometry.head_kernel, True
        if layer.name == name:
            return LayerMap(name, layer.channels, stride, window, connected)
    raise AssertionError(f"no layer {name}")


def pooled_map(
    backend: Backend,
    images: UInt8[ndarray, "n h w 3"],
    layer: LayerMap,
    *,
    maximum: bool = False,
    most: int = MOST_AT_ONCE,
) -> Float[ndarray, "n c"]:
    """Averages the map of a layer over its positions, or takes their maximum; in bounded memory.

    Args:
        backend: computes the map.
        images: RGB, their sides multiples of 32.
        layer: any layer.
        maximum: over positions, instead of the mean.
        most: pixels that the convolutions take at once.
    """
    rows, columns = tiles(*images.shape[1:3], window=layer.window, most=most)
    if len(rows) == len(columns) == 1:
        return _over_positions(backend.maps(images, layer.name), maximum)
    finer = constants.TOTAL_STRIDE // layer.stride
    parts, shares = [], []
    for row, column in itertools.product(rows, columns):
        map_ = backend.maps(images[:, row.start : row.stop, column.start : column.stop], layer.name)
        (top, height), (left, width) = (
            (finer * (span.first - span.start // constants.TOTAL_STRIDE), finer * (span.last - span.first))
            for span in (row, column)
        )
        parts.append(_over_positions(map_[:, :, top : top + height, left : left + width], maximum))
        shares.append(height * width)
    result: ndarray = np.max(parts, 0) if maximum else np.average(parts, 0, shares).astype(np.float32)
    return result


def _over_positions(map_: Float[ndarray, "n c y x"], maximum: bool) -> Float[ndarray, "n c"]:
    if maximum:
        largest: ndarray = map_.max((2, 3))
        return largest
    # in float64: in float32 NumPy loses four digits of a mean over the positions of a large map
    mean: ndarray = map_.mean((2, 3), np.float64).astype(np.float32)
    return mean


def score_map_rounded_up(backend: Backend, images: UInt8[ndarray, "n h w 3"]) -> Float[ndarray, "n k i j"]:
    """The same for a backend whose pooling rounds sizes up, so that the last rows and columns count too: Caffe's."""
    return score_map(backend, images, rounds_up=True)


def adaptive_score_map(backend: Backend, images: UInt8[ndarray, "n h w 3"]) -> Float[ndarray, "n k 1 1"]:
    """The scores of the last map pooled to fc6's size: not the paper's, but what torchvision computes."""
    map_, side = pool5_map(backend, images), backend.head_kernel
    rows, columns = (_bins(length, side) for length in map_.shape[2:])
    pooled = [[map_[:, :, row, column].mean((2, 3), np.float64) for column in columns] for row in rows]
    return backend.head(np.array(pooled, np.float32).transpose(2, 3, 0, 1))


def _bins(length: int, count: int) -> list[slice]:
    """Divides the positions of a side as adaptive pooling does, each bin rounded outwards."""
    return [slice(index * length // count, -(-(index + 1) * length // count)) for index in range(count)]
