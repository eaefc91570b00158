"""What the graph of an .onnx file takes: the order of its axes, its side, and what is done to the pixels first."""

import re
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from verydeep.errors import UserError
from verydeep.nets.net import IMAGENET_MEAN
from verydeep.nets.reuse import TORCHVISION_MEAN, TORCHVISION_STD
from verydeep.weights.imported import A_GUESS, KERAS_WORDS, Triple, mean_and_divisor
from verydeep.weights.readers.torch import pixels

_MEAN, _STD = np.array(TORCHVISION_MEAN), np.array(TORCHVISION_STD)


@dataclass(kw_only=True)
class ImageInput:
    """The image that a graph takes.

    Attributes:
        sizes: of the axes; -1 where any goes.
        factor: of what happens to the pixels before the first convolution, factor * pixel + offset.
        offset: likewise.
        first_names: of the first convolution and its weight.
        is_normalised: whether the graph takes what torchvision's transforms give, as a twin of a net of ours does.
    """

    sizes: list[int]
    factor: NDArray[np.float64] = field(default_factory=lambda: np.ones(3))
    offset: NDArray[np.float64] = field(default_factory=lambda: np.zeros(3))
    first_names: tuple[str, str] = ("", "")
    is_normalised: bool = False

    @property
    def axes(self) -> str:
        """The order: nchw or nhwc."""
        return "nhwc" if len(self.sizes) == 4 and self.sizes[3] == 3 and self.sizes[1] != 3 else "nchw"

    @property
    def sides(self) -> list[int]:
        """Height and width, -1 where any goes; none where there are no sizes."""
        return self.sizes[1:3] if self.axes == "nhwc" else self.sizes[2:4]

    @property
    def side(self) -> int:
        """Of a square image, pixels; -1 where any goes."""
        return self.sides[0] if len(self.sides) == 2 and self.sides[0] == self.sides[1] else -1

    @property
    def batch(self) -> int:
        """Number of images, -1 where any number goes."""
        return self.sizes[0] if self.sizes else -1

    @property
    def bgr(self) -> bool:
        """Whether it is taken for blue, green, red: where the graph does nothing to it, and the names are Keras's."""
        return self.is_bare and any(re.search(r"\bblock1_conv1", name) for name in self.first_names)

    @property
    def is_bare(self) -> bool:
        """Whether the graph does nothing to the pixels."""
        return bool((self.factor == 1).all() and (self.offset == 0).all())

    @property
    def largest(self) -> float:
        """Of a pixel: 1 where the mean and divisor are that small, else 255."""
        with np.errstate(all="ignore"):
            numbers = [*(-self.offset / self.factor), *(1 / self.factor)]
        if self.is_normalised:
            return 255.0
        return 1.0 if all(number <= 1 for number in numbers) else 255.0

    def change(self, operation: str, numbers: NDArray[np.float64], name: str) -> None:
        """Takes one of ONNX's Add, Sub, Mul and Div of a number, or of three, by the name that these have."""
        if "torchvision_scale" in name and not self.is_normalised:
            self.is_normalised = True
            self.factor, self.offset = 1 / (255 * _STD), -_MEAN / _STD
        with np.errstate(all="ignore"):
            if operation in ("Add", "Sub"):
                self.offset = self.offset + (numbers if operation == "Add" else -numbers)
            else:
                scale = np.multiply if operation == "Mul" else np.divide
                self.factor, self.offset = scale(self.factor, numbers), scale(self.offset, numbers)

    def convention(self) -> tuple[Triple, Triple, str]:
        """The mean and divisor, RGB in 0..255, from the graph; where it says nothing, Keras's or torchvision's."""
        if self.bgr:
            return IMAGENET_MEAN, (1, 1, 1), f"{KERAS_WORDS}, by the names of its layers: {A_GUESS}"
        if self.is_bare:
            words = f"RGB in 0..1, torchvision's mean and deviation: {A_GUESS}"
            return pixels(TORCHVISION_MEAN), pixels(TORCHVISION_STD), words
        found = mean_and_divisor(self.factor * (self.largest / 255), self.offset)
        if found is None:
            raise UserError("what its graph does to the pixels has no usable mean and divisor")
        if self.is_normalised:
            return *found, "RGB as torchvision normalises it, turned by the graph into what the net was trained on"
        words = f"RGB in 0..{self.largest:g}, mean and divisor of the graph's own first nodes; the range is {A_GUESS}"
        return *found, words
