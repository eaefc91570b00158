"""Table 1 as rows, and what follows from a row: layers, shapes, parameters, MACs, receptive field.

A MAC is a multiplication with an addition.

Paper: sections 2.1, 2.2 and 2.3, Table 1, Table 2.
"""

from dataclasses import dataclass
from functools import cache
from typing import Final, Literal, get_args

from verydeep.errors import UsageError
from verydeep.paper import constants

BLOCK_CHANNELS: Final = (64, 128, 256, 512, 512)
"""Channels of the five blocks: doubled after each max-pooling until 512 (section 2.1)."""

FC_CHANNELS: Final = 4096
"""Channels of the first two fully connected layers (section 2.1)."""

Head = Literal["paper", "linear"]

HEADS: Final[tuple[Head, ...]] = get_args(Head)
"""What follows the last pooling: fc6, fc7 and fc8, or fc8 alone, a linear classifier of mean descriptors."""


@dataclass(frozen=True, kw_only=True)
class Architecture:
    """A column of Table 1.

    Attributes:
        name: the paper's name.
        aliases: other names in use; case, spaces, hyphens and underscores do not count.
        blocks: kernel sizes of the convolutions of each of the five blocks.
        local_response_norm: whether the first convolution is followed by local response normalisation.
        remark: what sets it apart.

    Paper: section 2.1, Table 1.
    """

    name: str
    aliases: tuple[str, ...]
    blocks: tuple[tuple[int, ...], ...]
    local_response_norm: bool = False
    remark: str

    @property
    def weight_layers(self) -> int:
        """Convolutions and fully connected layers, the depth the paper counts."""
        return sum(len(block) for block in self.blocks) + 3

    @property
    def title(self) -> str:
        """The paper's name with the name most people know."""
        return f"{self.name} ({self.aliases[0]})"


_ROWS = (
    Architecture(
        name="A",
        aliases=("VGG-11", "VGG-A"),
        blocks=((3,), (3,), (3, 3), (3, 3), (3, 3)),
        remark="the shallowest; deeper nets grow from it",
    ),
    Architecture(
        name="A-LRN",
        aliases=("VGG-11-LRN", "VGG-A-LRN"),
        blocks=((3,), (3,), (3, 3), (3, 3), (3, 3)),
        local_response_norm=True,
        remark="A with local response normalisation after conv1_1",
    ),
    Architecture(
        name="B",
        aliases=("VGG-13", "VGG-B"),
        blocks=((3, 3), (3, 3), (3, 3), (3, 3), (3, 3)),
        remark="two convolutions in every block",
    ),
    Architecture(
        name="C",
        aliases=("VGG-16-C", "VGG-C"),
        blocks=((3, 3), (3, 3), (3, 3, 1), (3, 3, 1), (3, 3, 1)),
        remark="B with a 1x1 convolution at the end of blocks 3, 4 and 5",
    ),
    Architecture(
        name="D",
        aliases=("VGG-16", "VGG-D"),
        blocks=((3, 3), (3, 3), (3, 3, 3), (3, 3, 3), (3, 3, 3)),
        remark="the sixteen-layer net",
    ),
    Architecture(
        name="E",
        aliases=("VGG-19", "VGG-E"),
        blocks=((3, 3), (3, 3), (3, 3, 3, 3), (3, 3, 3, 3), (3, 3, 3, 3)),
        remark="the nineteen-layer net",
    ),
    Architecture(
        name="B-5x5",
        aliases=("VGG-8-5x5",),
        blocks=((5,), (5,), (5,), (5,), (5,)),
        remark="the shallow twin of B: a 5x5 convolution for each pair of 3x3 (section 2.3)",
    ),
)

ARCHITECTURES: dict[str, Architecture] = {row.name: row for row in _ROWS}
"""The rows by the paper's name."""


def find_architecture(name: str) -> tuple[Architecture, bool]:
    """Finds the row of a name such as ``D``, ``vgg16`` or ``D-bn``, and whether the name asks for batch norm."""
    plain = _plain(name)
    if plain in _BY_PLAIN_NAME:
        return _BY_PLAIN_NAME[plain], False
    if plain.endswith("bn") and plain[:-2] in _BY_PLAIN_NAME:
        return _BY_PLAIN_NAME[plain[:-2]], True
    known = ", ".join(row.title for row in _ROWS)
    raise UsageError(f"unknown architecture {name!r}: choose one of {known}")


def _plain(name: str) -> str:
    return name.casefold().replace("-", "").replace("_", "").replace(" ", "")


_BY_PLAIN_NAME = {_plain(name): row for row in _ROWS for name in (row.name, *row.aliases)}


def find_head(name: str) -> Head:
    """Finds a head by its name, ``paper`` or ``linear``."""
    for head in HEADS:
        if head == name:
            return head
    raise UsageError(f"unknown head {name!r}: choose {' or '.join(HEADS)}")


def scaled_channels(channels: int, width: float, multiple: int) -> int:
    """Scales a number of channels by the width factor, rounded to a multiple and never to zero.

    Choice: multiples of 8 for convolutions and of 32 for fully connected layers.
    """
    return max(multiple, round(channels * width / multiple) * multiple)


def scaled_length(length: int, crop: int) -> int:
    """Scales one of the paper's lengths for 224-pixel crops (S or Q) to another crop, rounded to the nearest integer.

    Choice: a length grows with the crop, so that 256 at crop 224 is 37 at crop 32.
    """
    return (2 * length * crop + constants.CROP) // (2 * constants.CROP)


@dataclass(frozen=True, kw_only=True)
class Geometry:
    """The numbers that fix the shapes of a net.

    Attributes:
        architecture: a row of Table 1.
        batch_norm: whether a batch norm follows each convolution.
        num_classes: outputs of fc8.
        crop: side of the training crop, pixels: a multiple of 32.
        width: factor on the channels of every layer but the last.
        head: ``paper`` is fc6, fc7 and fc8; ``linear`` is fc8 alone, on the map after the last pooling.
        hidden: channels of fc6 and fc7; None is 4096 times the width.
    """

    architecture: Architecture
    batch_norm: bool = False
    num_classes: int = 1000
    crop: int = constants.CROP
    width: float = 1.0
    head: Head = "paper"
    hidden: int | None = None

    def __post_init__(self) -> None:
        """Checks the ranges."""
        if self.crop < constants.TOTAL_STRIDE or self.crop % constants.TOTAL_STRIDE:
            below = max(constants.TOTAL_STRIDE, self.crop // constants.TOTAL_STRIDE * constants.TOTAL_STRIDE)
            raise UsageError(
                f"crop {self.crop} is not a multiple of 32, the stride of these nets: try {below}"
                + (f" or {below + constants.TOTAL_STRIDE}" if self.crop > below else "")
            )
        if self.num_classes < 1:
            raise UsageError(f"{self.num_classes} classes: a net needs at least one")
        if not 0 < self.width <= 16:
            raise UsageError(f"width {self.width:g} is out of range: give a factor above 0 and up to 16, such as 0.5")
        if self.hidden is not None and self.head == "linear":
            raise UsageError(f"{self.hidden} hidden channels: a linear head has no fc6 and fc7: give head paper")
        if self.hidden is not None and not 1 <= self.hidden <= 16 * FC_CHANNELS:
            raise UsageError(f"{self.hidden} hidden channels: give 1 to {16 * FC_CHANNELS:,}, such as 256")

    @property
    def title(self) -> str:
        """Such as ``D (VGG-16) with batch norm, crop 64, width 0.5``."""
        parts = [self.architecture.title + (" with batch norm" if self.batch_norm else "")]
        if self.crop != constants.CROP:
            parts.append(f"crop {self.crop}")
        if self.width != 1:
            parts.append(f"width {self.width:g}")
        if self.hidden is not None:
            parts.append(f"{self.hidden} hidden channels")
        if self.head != "paper":
            parts.append(f"{self.head} head")
        return ", ".join(parts)

    @property
    def head_kernel(self) -> int:
        """Side of the window of the last map that a score sees: that of fc6, 7 at crop 224; 1 for a linear head."""
        return 1 if self.head == "linear" else self.crop // constants.TOTAL_STRIDE

    @property
    def smallest_side(self) -> int:
        """Shorter side of the smallest image that has a score, pixels: the crop; 32 for a linear head."""
        return self.head_kernel * constants.TOTAL_STRIDE

    @property
    def hidden_channels(self) -> int:
        """Channels of fc6 and fc7, where there are such layers."""
        return scaled_channels(FC_CHANNELS, self.width, 32) if self.hidden is None else self.hidden

    @property
    def last_channels(self) -> int:
        """Channels of the map after the last pooling: 512 at width 1."""
        return scaled_channels(BLOCK_CHANNELS[-1], self.width, 8)


@dataclass(frozen=True, kw_only=True)
class Layer:
    """A layer and what follows from the geometry of its net.

    Attributes:
        name: as everybody cites it: conv1_1, bn1_1, relu1_1, norm1, pool1, fc6, relu6, drop6.
        kind: convolution, batch-norm, relu, local-response-norm, max-pool, fully-connected or dropout.
        kernel: side of the kernel, positions of its input; 1 for layers that work on single positions.
        in_channels: channels that go in.
        channels: channels that come out.
        side: side of the output for one crop.
        parameters: number of weights and biases.
        macs: MACs for one crop, in convolutions and fully connected layers.
        receptive_field: side of the part of the image that one output sees, pixels.
    """

    name: str
    kind: str
    kernel: int
    in_channels: int
    channels: int
    side: int
    parameters: int
    macs: int
    receptive_field: int


@cache
def layers(geometry: Geometry, *, features_only: bool = False) -> tuple[Layer, ...]:
    """Lists the layers from the image to the scores, or to the last pooling for ``features_only``.

    Paper: section 2.1, Table 1. Choice: 1x1 convolutions are not padded; dropout stands after the ReLUs of fc6 and fc7.
    """
    rows: list[Layer] = []
    channels, side, field, step = 3, geometry.crop, 1, 1

    def add(name: str, kind: str, kernel: int = 1, out: int | None = None) -> None:
        nonlocal channels
        out = out or channels
        weights = kernel * kernel * channels * out if kind in ("convolution", "fully-connected") else 0
        rows.append(
            Layer(
                name=name,
                kind=kind,
                kernel=kernel,
                in_channels=channels,
                channels=out,
                side=side,
                parameters=weights + out if weights else 2 * out if kind == "batch-norm" else 0,
                macs=weights * side * side,
                receptive_field=field,
            )
        )
        channels = out

    for block, kernels in enumerate(geometry.architecture.blocks, start=1):
        out = scaled_channels(BLOCK_CHANNELS[block - 1], geometry.width, 8)
        for index, kernel in enumerate(kernels, start=1):
            label = f"{block}_{index}"
            field += (kernel - 1) * step
            add(f"conv{label}", "convolution", kernel, out)
            if geometry.batch_norm:
                add(f"bn{label}", "batch-norm")
            add(f"relu{label}", "relu")
            if geometry.architecture.local_response_norm and label == "1_1":
                add("norm1", "local-response-norm")
        side, field, step = side // 2, field + step, step * 2
        add(f"pool{block}", "max-pool", 2)

    if features_only:
        return tuple(rows)
    if geometry.head == "linear":
        add("fc8", "fully-connected", 1, geometry.num_classes)
        return tuple(rows)
    hidden = geometry.hidden_channels
    field += (geometry.head_kernel - 1) * step
    side = 1
    for number, kernel, out in ((6, geometry.head_kernel, hidden), (7, 1, hidden), (8, 1, geometry.num_classes)):
        add(f"fc{number}", "fully-connected", kernel, out)
        if number < 8:
            add(f"relu{number}", "relu")
            add(f"drop{number}", "dropout")
    return tuple(rows)


def tensor_shapes(geometry: Geometry, *, features_only: bool = False) -> dict[str, tuple[int, ...]]:
    """Shapes of the tensors of a net, by name: weights, biases, statistics of batch norm, mean and divisor."""
    shapes: dict[str, tuple[int, ...]] = {"mean": (3,), "divisor": (3,)}
    for layer in layers(geometry, features_only=features_only):
        if layer.kind in ("convolution", "fully-connected"):
            shapes[f"{layer.name}.weight"] = (layer.channels, layer.in_channels, layer.kernel, layer.kernel)
            shapes[f"{layer.name}.bias"] = (layer.channels,)
        elif layer.kind == "batch-norm":
            parts = ("weight", "bias", "running_mean", "running_var")
            shapes |= {f"{layer.name}.{part}": (layer.channels,) for part in parts}
            shapes[f"{layer.name}.num_batches_tracked"] = ()
    return shapes


def map_side(side: int, *, ceil: bool = False) -> int:
    """Side of the map after the last pooling for a side of the image; ``ceil``: pooling rounds up, as Caffe's does."""
    return -(-side // constants.TOTAL_STRIDE) if ceil else side // constants.TOTAL_STRIDE


def score_positions(geometry: Geometry, height: int, width: int, *, ceil: bool = False) -> tuple[int, int]:
    """Height and width of the class score map of an image of height x width pixels.

    Paper: section 3.2.
    """
    kernel = geometry.head_kernel
    return map_side(height, ceil=ceil) - kernel + 1, map_side(width, ceil=ceil) - kernel + 1


def feature_macs(geometry: Geometry, height: int, width: int, *, ceil: bool = False) -> int:
    """MACs of the convolutions for one image of height x width pixels."""
    total, side = 0, geometry.crop
    for layer in layers(geometry):
        if layer.kind == "convolution":
            total += layer.macs // side**2 * height * width
        elif layer.kind == "max-pool":
            side = layer.side
            height, width = ((length + ceil) // 2 for length in (height, width))
    return total


def head_macs(geometry: Geometry) -> int:
    """MACs of the fully connected layers for one position of the class score map."""
    return sum(layer.macs // layer.side**2 for layer in layers(geometry) if layer.kind == "fully-connected")
