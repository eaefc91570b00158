"""Names layers that come one by one, as Caffe, MatConvNet and ONNX store them, in the order of Table 1."""

import math
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

_HEAD: Final = ("fully connected layer", "ReLU") * 2 + ("fully connected layer",)


class LayerOrder:
    """Takes the layers of a file one by one, from the image on, and names them as Table 1 does.

    A layer where no net of the paper has one is refused, and so is a convolution that is none of the paper's. Weights
    come as o,i,y,x or o,i; every method raises UserError, with the layer's name in the file.

    Paper: section 2.1, Table 1.
    """

    def __init__(self) -> None:
        self.tensors: dict[str, Tensor] = {}  # by our names, in float32
        self._last = "the image"
        self._block, self._index = 1, 0
        self._head_layers = 0
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
        """Takes a convolution, its padding where the file says it; after the fifth pooling it is fully connected."""
        if weight.ndim != 4 or weight.shape[2] != weight.shape[3]:
            raise self._error(name, f"has weights of shape {tuple(weight.shape)}, no square kernels")
        if self._block > 5:
            expected, ours = 0, self._enter_head(name)
        else:
            self._follow("convolution", name)
            self._index += 1
            expected, ours = int(weight.shape[-1]) // 2, f"conv{self._block}_{self._index}"
        if stride != 1 or padding not in (None, expected):
            raise self._error(name, f"has stride {stride} and padding {padding} where the paper has 1 and {expected}")
        if dilation != 1 and weight.shape[-1] != 1:
            raise self._error(name, f"has dilation {dilation} where the paper has 1")
        self._add(name, ours, weight, bias)

    def connected(self, name: str, weight: Tensor, bias: Tensor | None, order: Literal["cyx", "yxc"] = "cyx") -> None:
        """Takes a fully connected layer, and the order in which the map before it was flattened."""
        if weight.ndim != 2:
            raise self._error(name, f"has weights of shape {tuple(weight.shape)} where a matrix is due")
        ours = self._enter_head(name)
        convolution = as_convolution(weight, self._channels, order)
        if convolution is None:
            raise self._error(name, f"takes {weight.shape[1]} numbers from maps of {self._channels} channels")
        self._add(name, ours, convolution, bias)

    def batch_norm(
        self, name: str, scale: Tensor | None, shift: Tensor | None, mean: Tensor, variance: Tensor, epsilon: float
    ) -> None:
        """Takes a batch norm; where the other program adds another epsilon, the difference goes into the variance."""
        self._follow("batch norm", name)
        ours = f"bn{self._block}_{self._index}"
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
        last = next(reversed(self.tensors), "")
        if self._last not in ("convolution", "fully connected layer") or bias.numel() not in (1, self._channels):
            raise self._error(name, f"adds {bias.numel()} numbers after a {self._last}")
        self.tensors[last] = self.tensors[last] + bias.reshape(-1).float()

    def relu(self, name: str, slope: float = 0) -> None:
        """Takes a ReLU; a leaky one is refused."""
        if slope != 0:
            raise self._error(name, f"is a ReLU of slope {slope:g} below zero")
        self._follow("ReLU", name)

    def pooling(self, name: str, *, kernel: int, stride: int, padding: int = 0, maximum: bool = True) -> None:
        """Takes a maximum over windows of 2x2 pixels; other poolings are refused."""
        if not maximum:
            raise self._error(name, "is no max-pooling")
        if (kernel, stride, padding) != (2, 2, 0):
            found = f"a window of {kernel}, stride {stride} and padding {padding}"
            raise self._error(name, f"pools with {found} where the paper has 2, 2 and 0")
        self._follow("pooling", name)
        self._block, self._index = self._block + 1, 0

    @property
    def has_head(self) -> bool:
        """Whether the three fully connected layers have come."""
        return self._head_layers == len(_HEAD)

    def finish(self) -> dict[str, Tensor]:
        """Ends the net, not too early, and returns its weights."""
        complete = self._block == 6 or (self._block == 5 and self._last == "ReLU")
        if not complete or 0 < self._head_layers < len(_HEAD):
            layers = sum(name.startswith(("conv", "fc")) for name in self.tensors) // 2
            raise UserError(
                f"it ends after {layers} layers with weights, in block {self._block}: it is no VGG net, or not the "
                "whole of one"
            )
        return self.tensors

    def _enter_head(self, name: str) -> str:
        self._follow("fully connected layer", name)
        return f"fc{6 + self._head_layers // 2}"

    def _follow(self, kind: str, name: str) -> None:
        if self._block > 5:
            due = _HEAD[self._head_layers : self._head_layers + 1]
            self._head_layers += 1
        else:
            due = _MAY_FOLLOW[self._last]
        if kind not in due:
            expected = " or a ".join(due) or "soft-max"
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


def as_convolution(weight: Tensor, channels: int, order: Literal["cyx", "yxc"]) -> Tensor | None:
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
