"""Names layers that come one by one, as Caffe, MatConvNet and ONNX store them, in the order of Table 1."""

import math
from dataclasses import dataclass, replace
from typing import Final, Literal

import numpy as np
import torch
from torch import Tensor

from verydeep.errors import UserError
from verydeep.nets.architecture import ARCHITECTURES

_EPSILON: Final = 1e-5  # what batch norm adds to the variance here, PyTorch's default

_MAY_FOLLOW: Final[dict[str, tuple[str, ...]]] = {
    "the image": ("convolution",),
    "convolution": ("batch norm", "ReLU"),
    "batch norm": ("ReLU",),
    "ReLU": ("convolution", "pooling"),
    "pooling": ("convolution",),
}
"""What may follow what in the five blocks of convolutions."""

HeadKind = Literal[
    "average pooling", "flattening", "fully connected layer", "ReLU", "soft-max", "nothing", "another layer"
]
Order = Literal["cyx", "yxc"]


@dataclass(frozen=True, kw_only=True)
class HeadLayer:
    """A layer of a file that follows its convolutions.

    Attributes:
        name: in the file.
        kind: ``average pooling`` is over all positions; ``nothing`` is what a dropout does outside a training.
        weight: of a fully connected layer, as o,i or o,i,y,x.
        bias: of a fully connected layer, where it has one.
        order: in which the map before it was flattened.
    """

    name: str
    kind: HeadKind = "another layer"
    weight: Tensor | None = None
    bias: Tensor | None = None
    order: Order = "cyx"


class LayerOrder:
    """Takes the layers of a file one by one, from the image on, and names them as Table 1 does.

    Up to the end of the convolutions, a layer where no net of the paper has one is refused, and so is a convolution
    that is none of the paper's. What follows them is kept as it comes, in ``head``. Weights come as o,i,y,x or o,i;
    every method raises UserError, with the layer's name in the file.

    Paper: section 2.1, Table 1.
    """

    def __init__(self) -> None:
        self.tensors: dict[str, Tensor] = {}  # of the convolutions, by our names, in float32
        self.head: list[HeadLayer] = []
        self._last = "the image"
        self._blocks: list[tuple[int, ...]] = [()]  # sides of the kernels
        self._channels = 3

    def convolution(
        self,
        name: str,
        weight: Tensor,
        bias: Tensor | None,
        *,
        padding: int | None = None,
        stride: int = 1,
        dilation: int = 1,
    ) -> None:
        """Takes a convolution, its padding where the file says it."""
        is_square = weight.ndim == 4 and weight.shape[2] == weight.shape[3]
        if self.in_head or self._is_complete():
            is_plain = is_square and stride == 1 and padding in (None, 0) and (dilation == 1 or weight.shape[-1] == 1)
            self.add_head(name, "fully connected layer" if is_plain else "another layer", weight, bias)
            return
        if not is_square:
            raise self._error(name, f"has weights of shape {tuple(weight.shape)}, no square kernels")
        self._follow("convolution", name)
        side = int(weight.shape[-1])
        if stride != 1 or padding not in (None, side // 2):
            raise self._error(name, f"has stride {stride} and padding {padding} where the paper has 1 and {side // 2}")
        if dilation != 1 and side != 1:
            raise self._error(name, f"has dilation {dilation} where the paper has 1")
        self._blocks[-1] += (side,)
        self._add(name, f"conv{self._label}", weight, bias)

    def connected(self, name: str, weight: Tensor, bias: Tensor | None, order: Order = "cyx") -> None:
        """Takes a fully connected layer, and the order in which the map before it was flattened."""
        if not self._ends_here():
            self._follow("fully connected layer", name)
        self.add_head(name, "fully connected layer", weight, bias, order)

    def batch_norm(
        self, name: str, scale: Tensor | None, shift: Tensor | None, mean: Tensor, variance: Tensor, epsilon: float
    ) -> None:
        """Takes a batch norm; where the other program adds another epsilon, the difference goes into the variance."""
        if self._ends_here():
            self.add_head(name, "another layer")
            return
        self._follow("batch norm", name)
        ours = f"bn{self._label}"
        scale = torch.ones_like(mean) if scale is None else scale
        shift = torch.zeros_like(mean) if shift is None else shift
        given = {"weight": scale, "bias": shift, "running_mean": mean, "running_var": variance}
        for part, tensor in given.items():
            if tensor.numel() != self._channels:
                raise self._error(name, f"has {tensor.numel()} numbers for {self._channels} channels")
            self.tensors[f"{ours}.{part}"] = tensor.reshape(-1).float()
        # files have a float32, and 1e-5 as one is a little less than 1e-5
        if np.float32(epsilon) != np.float32(_EPSILON):
            total = variance.reshape(-1).double() + epsilon
            ours_total = total.clamp_min(_EPSILON)  # no variance is below zero
            self.tensors[f"{ours}.weight"] = (scale.double().reshape(-1) * (ours_total / total).sqrt()).float()
            self.tensors[f"{ours}.running_var"] = (ours_total - _EPSILON).float()

    def add_bias(self, name: str, bias: Tensor) -> None:
        """Takes a bias that stands in the file as an addition after its layer."""
        last = self.head[-1] if self.head else None
        if last and last.weight is not None and bias.numel() in (1, len(last.weight)):
            before = torch.zeros(len(last.weight)) if last.bias is None else last.bias
            self.head[-1] = replace(last, bias=before + bias.reshape(-1).float())
            return
        if last or self._last != "convolution" or bias.numel() not in (1, self._channels):
            raise self._error(name, f"adds {bias.numel()} numbers after a {last.kind if last else self._last}")
        named = next(reversed(self.tensors))
        self.tensors[named] = self.tensors[named] + bias.reshape(-1).float()

    def relu(self, name: str, slope: float = 0) -> None:
        """Takes a ReLU; a leaky one between convolutions is refused."""
        if self._ends_here():
            self.add_head(name, "ReLU" if slope == 0 else "another layer")
            return
        if slope != 0:
            raise self._error(name, f"is a ReLU of slope {slope:g} below zero")
        self._follow("ReLU", name)

    def pooling(self, name: str, *, kernel: int, stride: int, padding: int = 0, maximum: bool = True) -> None:
        """Takes a maximum over windows of 2x2 pixels; other poolings between convolutions are refused."""
        is_plain = maximum and (kernel, stride, padding) == (2, 2, 0)
        if self.in_head or (self._ends_here() and not is_plain):
            self.add_head(name, "another layer")
            return
        if not maximum:
            raise self._error(name, "is no max-pooling")
        if not is_plain:
            found = f"a window of {kernel}, stride {stride} and padding {padding}"
            raise self._error(name, f"pools with {found} where the paper has 2, 2 and 0")
        self._follow("pooling", name)
        self._blocks.append(())

    def another(self, name: str, error: UserError) -> None:
        """Takes a layer that no net of Table 1 has; raises the error where it stands between the convolutions."""
        if not self._ends_here():
            raise error
        self.add_head(name, "another layer")

    def add_head(
        self,
        name: str,
        kind: HeadKind,
        weight: Tensor | None = None,
        bias: Tensor | None = None,
        order: Order = "cyx",
    ) -> None:
        """Keeps a layer that follows the convolutions."""
        if not self.in_head:  # before the last pooling, where no head of ours begins
            kind = "another layer"
        self.head.append(HeadLayer(name=name, kind=kind, weight=weight, bias=bias, order=order))

    @property
    def in_head(self) -> bool:
        """Whether the convolutions are over, and the last pooling or something else has followed them."""
        return len(self._blocks) > 5 or bool(self.head)

    @property
    def _label(self) -> str:
        return f"{len(self._blocks)}_{len(self._blocks[-1])}"

    def _ends_here(self) -> bool:
        """Whether the convolutions may be over: after the last pooling, or where it is missing."""
        return self.in_head or self._is_complete()

    def _is_complete(self) -> bool:
        """Whether a column of Table 1 has ended but for its last pooling: one more convolution is none of it."""
        return self._last == "ReLU" and any(row.blocks == tuple(self._blocks) for row in ARCHITECTURES.values())

    def finish(self) -> dict[str, Tensor]:
        """Ends the net, not before the end of its convolutions, and returns their weights."""
        if not self.in_head and (len(self._blocks) < 5 or self._last != "ReLU"):
            layers = sum(name.startswith("conv") for name in self.tensors) // 2
            raise UserError(
                f"it ends after {layers} layers with weights, in block {len(self._blocks)}: it is no VGG net, or not "
                "the whole of one"
            )
        return self.tensors

    def _follow(self, kind: str, name: str) -> None:
        due = _MAY_FOLLOW[self._last]
        if kind not in due:
            expected = " or a ".join(due)
            before = self._last if self._last == "the image" else f"a {self._last}"
            raise self._error(name, f"is a {kind} after {before}, where a VGG net has a {expected}")
        self._last = kind

    def _add(self, name: str, ours: str, weight: Tensor, bias: Tensor | None) -> None:
        out, into = int(weight.shape[0]), int(weight.shape[1])
        if into != self._channels:
            raise self._error(name, f"takes {into} channels where {self._channels} come out before it")
        bias = torch.zeros(out) if bias is None else bias.reshape(-1)
        if bias.numel() != out:
            raise self._error(name, f"has {bias.numel()} biases for {out} outputs")
        self.tensors[f"{ours}.weight"], self.tensors[f"{ours}.bias"] = weight.float(), bias.float()
        self._channels = out

    def _error(self, name: str, what: str) -> UserError:
        return UserError(f"layer {name!r} {what}: give a net of the paper's Table 1")


def names_in_order(kernels: list[int]) -> list[str]:
    """Names convolutions of these kernel sizes, in order, by the only column of Table 1 they can be."""
    for row in ARCHITECTURES.values():
        if [kernel for block in row.blocks for kernel in block] == kernels:
            return [
                f"conv{block}_{index}"
                for block, sides in enumerate(row.blocks, start=1)
                for index in range(1, len(sides) + 1)
            ]
    shown = ", ".join(f"{kernel}x{kernel}" for kernel in kernels)
    raise UserError(f"its {len(kernels)} convolutions ({shown}) are no column of Table 1")


def as_convolution(weight: Tensor, channels: int, order: Order) -> Tensor | None:
    """Reshapes the matrix (o,i) of a layer after a square map, flattened in this order; None where it is no square."""
    out, inputs = weight.shape
    side = math.isqrt(inputs // channels) if channels else 0
    if not side or channels * side * side != inputs:
        return None
    if order == "cyx":
        return weight.reshape(out, channels, side, side)
    return weight.reshape(out, side, side, channels).permute(0, 3, 1, 2)


def as_tensor(numbers: np.ndarray[tuple[int, ...], np.dtype[np.generic]]) -> Tensor:
    """Takes numbers into a tensor, without a copy where they lie as PyTorch can use them."""
    native = np.require(numbers, numbers.dtype.newbyteorder("="), ["A", "W"])
    return torch.from_numpy(native)
