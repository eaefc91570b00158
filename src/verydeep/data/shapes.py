"""The built-in set ``shapes``: drawn images of objects with boxes, made on demand from a seed; nothing is downloaded.

An image has one object of its class, sometimes a second one, before a texture with lines and blobs that belong to no
class; a bar may hide a part of it. Its box is that of the whole object.
"""

import hashlib
import io
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import PurePosixPath

import numpy as np
from jaxtyping import Float64, Int64, UInt8
from numpy import ndarray
from PIL import Image, ImageDraw

from verydeep.data.dataset import DataSet, make_data_set
from verydeep.data.image_set import ImageSet
from verydeep.data.sources import ImageSource, PixelSource

SHAPES = "shapes"
"""The name of the set."""

CLASSES = ("ellipse", "rectangle", "triangle", "star", "cross", "ring", "arrow", "heart")
"""The objects that are drawn; a set has the first of them, six as a rule."""

COUNTS = {"train": 2_000, "val": 400, "test": 600}
SIZES = ((64, 64), (80, 64), (96, 72), (64, 80), (72, 96), (104, 80), (128, 96))
"""Width and height of the images, pixels: each is drawn from these."""

SECOND, HIDDEN = 0.2, 0.4
"""Shares of the images with a second object, and with a bar across the first one."""

_SMALLEST, _LARGEST = 0.4, 0.8  # side of an object, the mean of both, as a share of the image's shorter side
_MOST_HIDDEN = 0.5  # of a second object that counts
_FINE = 3  # objects are drawn so many times larger, and reduced
_SPLITS = {"train": 0, "val": 1, "test": 2}


@dataclass(frozen=True, kw_only=True)
class _Object:
    label: int
    corners: tuple[float, float, float, float]
    colour: tuple[int, int, int]


@dataclass(frozen=True, kw_only=True)
class ShapesSource(PixelSource):
    """Draws the images of the set by their names, such as ``train/00012.png``.

    Attributes:
        seed: the same seed, the same images.
        num_classes: how many of ``CLASSES`` there are.
        sizes: width and height of the images, pixels.
    """

    seed: int = 0
    num_classes: int = 6
    sizes: tuple[tuple[int, int], ...] = SIZES
    parallel_reads: int = field(default=1, init=False)

    def objects(self, name: str) -> tuple[tuple[int, int], list[_Object], np.random.Generator]:
        """The size of an image, its objects, the last one in front, and the generator that draws the rest."""
        path = PurePosixPath(name)
        index = int(path.stem)
        generator = np.random.default_rng([self.seed, _SPLITS[path.parent.name], index])
        size = self.sizes[int(generator.integers(len(self.sizes)))]
        label = index % self.num_classes
        side = min(size) * generator.uniform(_SMALLEST, _LARGEST)
        objects = [_place(generator, size, label, side)]
        if generator.random() < SECOND:  # of any class, smaller, behind the first
            other = int(generator.integers(self.num_classes))
            second = _place(generator, size, other, side * generator.uniform(0.4, 0.7))
            if _share_hidden(second, objects[0]) < _MOST_HIDDEN:
                objects.insert(0, second)
        return size, objects, generator

    def boxes(self, name: str) -> tuple[Int64[ndarray, "m"], Float64[ndarray, "m 4"]]:
        """Labels and boxes of the objects of an image; nothing is drawn for it."""
        _, objects, _ = self.objects(name)
        return np.array([one.label for one in objects]), np.array([one.corners for one in objects])

    def pixels(self, name: str) -> UInt8[ndarray, "h w 3"]:
        size, objects, generator = self.objects(name)
        image = _background(generator, size)
        for index, one in enumerate(objects):
            _draw(image, one)
            if index == len(objects) - 1 and generator.random() < HIDDEN:
                _hide(image, one, generator)
        noise = generator.normal(0, 6, (size[1], size[0], 3))
        return np.clip(np.asarray(image) + noise, 0, 255).astype(np.uint8)

    def read(self, name: str) -> bytes:
        encoded = io.BytesIO()
        Image.fromarray(self.pixels(name)).save(encoded, "PNG")
        return encoded.getvalue()

    def size(self, name: str) -> int:
        return len(self.read(name))

    def where(self, name: str) -> str:
        return f"{SHAPES}/{name}"


def shapes_data_set(source: ShapesSource | None = None, counts: Mapping[str, int] | None = None) -> DataSet:
    """The set as images of classes: the class of an image is that of its largest object."""
    source, counts = source or ShapesSource(), counts or COUNTS
    splits = {split: _images(source, split, count) for split, count in counts.items()}
    known = hashlib.sha256(f"{source} {counts}".encode()).hexdigest()
    return make_data_set(SHAPES, SHAPES, splits, "images of its own, of the same kind", known_fingerprint=known)


def shapes_boxes(source: ImageSource, name: str) -> tuple[Int64[ndarray, "m"], Float64[ndarray, "m 4"]]:
    """Labels and boxes of an image of the set."""
    assert isinstance(source, ShapesSource)
    return source.boxes(name)


def _images(source: ShapesSource, split: str, count: int) -> ImageSet:
    names = [f"{split}/{index:05d}.png" for index in range(count)]
    return ImageSet(
        split=split,
        classes=CLASSES[: source.num_classes],
        names=names,
        labels=np.arange(count, dtype=np.int64) % source.num_classes,
        source=source,
    )


def _place(generator: np.random.Generator, size: tuple[int, int], label: int, side: float) -> _Object:
    """Draws the place, size, aspect and colour of an object that lies in its image."""
    stretch = math.exp(generator.uniform(-0.45, 0.45))
    width, height = min(size[0] - 2, max(8, side * stretch)), min(size[1] - 2, max(8, side / stretch))
    left, top = generator.uniform(0, size[0] - width), generator.uniform(0, size[1] - height)
    # rounded: the edges that are drawn are those of the box
    corners = tuple(float(round(edge)) for edge in (left, top, left + width, top + height))
    return _Object(label=label, corners=corners, colour=_colour(generator))  # type: ignore[arg-type]  # four of them


def _share_hidden(behind: _Object, front: _Object) -> float:
    """Share of the box of an object that the box of another one covers."""
    (left, top, right, bottom), other = behind.corners, front.corners
    width, height = min(right, other[2]) - max(left, other[0]), min(bottom, other[3]) - max(top, other[1])
    return max(0.0, width) * max(0.0, height) / ((right - left) * (bottom - top))


def _colour(generator: np.random.Generator) -> tuple[int, int, int]:
    red, green, blue = (int(value) for value in generator.integers(0, 256, 3))
    return red, green, blue


def _background(generator: np.random.Generator, size: tuple[int, int]) -> Image.Image:
    """A texture of coarse and fine noise or stripes, with lines and blobs that belong to no class."""
    width, height = size
    coarse = generator.integers(30, 226, (4, 5, 3), dtype=np.uint8)
    pixels = np.asarray(Image.fromarray(coarse).resize(size, Image.Resampling.BICUBIC)).astype(np.float64)
    rows, columns = np.mgrid[:height, :width]
    angle, wavelength = generator.uniform(0, math.pi), generator.uniform(4, 20)
    stripes = np.sin((rows * math.sin(angle) + columns * math.cos(angle)) * 2 * math.pi / wavelength)
    pixels += generator.uniform(0, 35) * stripes[:, :, None]
    image = Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))
    draw = ImageDraw.Draw(image)
    for _ in range(int(generator.integers(2, 7))):
        ends = [(generator.uniform(0, width), generator.uniform(0, height)) for _ in range(2)]
        draw.line(ends, fill=_colour(generator), width=int(generator.integers(1, 4)))
    for _ in range(int(generator.integers(2, 7))):
        x, y, radius = generator.uniform(0, width), generator.uniform(0, height), generator.uniform(1, 5)
        draw.ellipse([x - radius, y - radius, x + radius, y + radius], fill=_colour(generator))
    return image


def _draw(image: Image.Image, one: _Object) -> None:
    """Draws an object into its box, edge to edge, with an outline of the opposite brightness."""
    left, top, right, bottom = (int(edge) for edge in one.corners)
    mask = _mask(one.label, right - left, bottom - top)
    inner = _mask(one.label, max(4, right - left - 4), max(4, bottom - top - 4))
    bright = sum(one.colour) > 382
    outline = tuple(value // 3 if bright else 255 - (255 - value) // 3 for value in one.colour)
    image.paste(outline, (left, top), mask)
    image.paste(one.colour, (left + 2, top + 2), inner)


@cache
def _outline(label: int) -> tuple[tuple[float, float], ...]:
    """The corners of an object that is a polygon, as shares of its box."""
    name = CLASSES[label]
    if name == "triangle":
        return (0.5, 0.0), (1.0, 1.0), (0.0, 1.0)
    if name == "cross":
        return ((0.33, 0.0), (0.67, 0.0), (0.67, 0.33), (1.0, 0.33), (1.0, 0.67), (0.67, 0.67), (0.67, 1.0),
                (0.33, 1.0), (0.33, 0.67), (0.0, 0.67), (0.0, 0.33), (0.33, 0.33))  # fmt: skip
    if name == "arrow":
        return (0.0, 0.3), (0.55, 0.3), (0.55, 0.0), (1.0, 0.5), (0.55, 1.0), (0.55, 0.7), (0.0, 0.7)
    assert name in ("star", "heart")
    turns = np.linspace(0, 2 * math.pi, 11 if name == "star" else 61)[:-1]
    if name == "star":
        radius = np.where(np.arange(10) % 2 == 0, 1.0, 0.42)
        x, y = radius * np.sin(turns), -radius * np.cos(turns)
    else:
        x = np.sin(turns) ** 3
        y = -(13 * np.cos(turns) - 5 * np.cos(2 * turns) - 2 * np.cos(3 * turns) - np.cos(4 * turns)) / 16
    x, y = (x - x.min()) / np.ptp(x), (y - y.min()) / np.ptp(y)
    return tuple(zip(x.tolist(), y.tolist(), strict=True))


def _mask(label: int, width: int, height: int) -> Image.Image:
    """The pixels of an object that fills a box."""
    fine = (width * _FINE, height * _FINE)
    mask = Image.new("L", fine)
    draw = ImageDraw.Draw(mask)
    box = [0, 0, fine[0] - 1, fine[1] - 1]
    name = CLASSES[label]
    if name in ("ellipse", "ring"):
        draw.ellipse(box, fill=255)
    elif name == "rectangle":
        draw.rectangle(box, fill=255)
    else:
        draw.polygon([(x * (fine[0] - 1), y * (fine[1] - 1)) for x, y in _outline(label)], fill=255)
    if name == "ring":
        draw.ellipse([0.28 * fine[0], 0.28 * fine[1], 0.72 * fine[0], 0.72 * fine[1]], fill=0)
    return mask.resize((width, height), Image.Resampling.BOX)


def _hide(image: Image.Image, one: _Object, generator: np.random.Generator) -> None:
    """Draws a bar across an object, away from its edges."""
    left, top, right, bottom = one.corners
    share = generator.uniform(0.1, 0.25)
    start = generator.uniform(0.2, 0.8 - share)
    colour = _colour(generator)
    if generator.random() < 0.5:
        x = left + start * (right - left)
        bar = [x, top - 4, x + share * (right - left), bottom + 4]
    else:
        y = top + start * (bottom - top)
        bar = [left - 4, y, right + 4, y + share * (bottom - top)]
    ImageDraw.Draw(image).rectangle(bar, fill=colour)
