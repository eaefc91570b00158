"""Operations as data: what the writers of all targets go through, one after the other."""

from dataclasses import dataclass, field
from typing import Final, Literal

from numpy import ndarray

from verydeep.export.options import Layout

Kind = Literal[
    "planes",  # n,h,w,3 -> n,3,h,w
    "rescale",  # number: the shorter side, pixels
    "trim",  # number: both sides become multiples of it, about the centre
    "mirror",
    "normalise",  # constants: mean and divisor; uint8 -> float32
    "narrow",  # float32 -> the precision of the weights
    "widen",  # and back
    "convolution",  # constants: weight and bias; number: padding
    "relu",
    "response-norm",
    "max-pool",
    "mean",  # over positions: n,c,y,x -> n,c
    "maximum",
    "root",  # of each number, with its sign
    "unit-length",
    "average",  # of values of one shape
    "stack",  # along c
    "linear",  # constants: weight and bias
    "softmax",
    "sigmoid",
]
"""What an operation does to values n,3,h,w or n,c,y,x or n,c."""

IMAGES: Final = "images"
"""Name of the input."""

METADATA: Final = ("verydeep", "verydeep.export", "classes")
"""Keys of what a file says of itself, all JSON: the model card, what was exported and how, the names of the classes."""


@dataclass(frozen=True, kw_only=True)
class Operation:
    kind: Kind
    inputs: tuple[str, ...]
    output: str  # the name of its value
    constants: tuple[str, ...] = ()
    number: int = 0


@dataclass(frozen=True)
class Output:
    """An output of the file, with the names of its axes: of an axis of fixed length that length."""

    name: str
    axes: tuple[str | int, ...]
    meaning: str


@dataclass(kw_only=True, eq=False)
class Program:
    """The operations in their order.

    Attributes:
        layout: of the images.
        operations: the first takes ``images``.
        constants: weights and biases by name, float32; not copied where they are the net's own.
        outputs: what the file gives.
    """

    layout: Layout
    operations: list[Operation] = field(default_factory=list)
    constants: dict[str, ndarray] = field(default_factory=dict)
    outputs: list[Output] = field(default_factory=list)

    def add(
        self, kind: Kind, *inputs: str, name: str, constants: dict[str, ndarray] | None = None, number: int = 0
    ) -> str:
        """Adds an operation, and returns the name of its value."""
        arrays = constants or {}
        self.constants |= {key: value for key, value in arrays.items() if key not in self.constants}
        self.operations.append(Operation(kind=kind, inputs=inputs, output=name, constants=tuple(arrays), number=number))
        return name

    @property
    def num_bytes(self) -> int:
        """Of the constants, in float32."""
        return sum(array.nbytes for array in self.constants.values())
