"""A net as a few operations: convolutions with batch norm folded in, and fully connected layers; weights as arrays.

The kernel lays it out, and OpenVINO's graphs are built from it.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Float32, Float64
from numpy import ndarray
from torch import Tensor, nn

from verydeep.errors import UserError
from verydeep.nets.architecture import layers
from verydeep.nets.layers import windows
from verydeep.nets.net import VeryDeep

_WINDOW_FLOATS = 2**26
"""Most floats that the windows of fc6 hold at once, one image at least: 256 MiB."""


@dataclass(frozen=True, kw_only=True, eq=False)
class ConvolutionStep:
    """A convolution of stride 1 with what follows it: its batch norm, the ReLU, and the pooling.

    Attributes:
        name: of the convolution.
        weight: the net's own.
        factor: multiplies the weights of each output channel: batch norm's.
        bias: one number per output channel, batch norm included.
        normalise: whether A-LRN's normalisation follows the ReLU.
        pool: whether 2x2 max-pooling follows all that.
    """

    name: str
    weight: Float32[ndarray, "k c s s"]
    factor: Float64[ndarray, "k"]
    bias: Float64[ndarray, "k"]
    normalise: bool
    pool: bool

    def scaled_weight(self) -> Float32[ndarray, "k c s s"]:
        """The weight times its factor; the net's own where the factor is 1 everywhere."""
        if bool((self.factor == 1).all()):
            return self.weight
        scaled: ndarray = (self.weight * self.factor[:, None, None, None]).astype(np.float32)
        return scaled


@dataclass(frozen=True, kw_only=True, eq=False)
class FullyConnectedStep:
    """A fully connected layer as a convolution without padding; weight and bias are the net's own."""

    name: str
    weight: Float32[ndarray, "k c s s"]
    bias: Float32[ndarray, "k"]
    rectify: bool

    def rows(self) -> Float32[ndarray, "k l"]:
        """The weight as a matrix."""
        return self.weight.reshape(len(self.weight), -1)


@dataclass(frozen=True, kw_only=True, eq=False)
class Graph:
    """The operations of a net in their order.

    Attributes:
        mean: subtracted from the pixels, RGB in 0..255.
        divisor: divides them afterwards.
        convolutions: up to the last pooling.
        fully_connected: after it; empty where the net has convolutions only.
        check_unchanged: raises UserError once the net was trained or loaded anew: weights are shared with it.
    """

    mean: Float32[ndarray, "3"]
    divisor: Float32[ndarray, "3"]
    convolutions: tuple[ConvolutionStep, ...]
    fully_connected: tuple[FullyConnectedStep, ...]
    check_unchanged: Callable[[], None]


def graph_of(net: VeryDeep) -> Graph:
    """Returns the operations of a net in evaluation mode.

    Raises:
        UserError: the net is not in float32 on the CPU.
    """
    check_float32(net)
    rows = layers(net.geometry, features_only=net.features_only)
    connected = [layer.name for layer in rows if layer.kind == "fully-connected"]
    return Graph(
        mean=_array(net.mean).copy(),
        divisor=_array(net.divisor).copy(),
        convolutions=tuple(_fold(net, *names) for names in _names(net)),
        fully_connected=tuple(
            FullyConnectedStep(name=name, weight=weight, bias=bias, rectify=name != connected[-1])
            for name in connected
            for weight, bias in [_weights(net, name)]
        ),
        check_unchanged=weights_check(net),
    )


def check_float32(net: VeryDeep) -> None:
    """Raises UserError where a net is not in float32 on the CPU."""
    for tensor in (*net.parameters(), *net.buffers()):
        if tensor.device.type != "cpu":
            raise UserError(f"this net is on {tensor.device.type}: move it with net.cpu() first")
        if tensor.is_floating_point() and tensor.dtype != torch.float32:
            raise UserError(f"this net is in {str(tensor.dtype).removeprefix('torch.')}: make it net.float() first")


def weights_check(net: VeryDeep) -> Callable[[], None]:
    """Returns a function that raises UserError once the weights of a net were changed in place."""
    last = list(net.parameters())[-1].detach()
    before = _version(last)

    def check() -> None:
        if _version(last) != before:
            raise UserError("the weights of this net were changed after it was accelerated: accelerate it again")

    return check


def _version(tensor: Tensor) -> int:
    try:
        return tensor._version
    except RuntimeError:  # what was made in inference mode counts no changes, and does not always say that it was
        return 0


def over_positions(
    map_: Float[Tensor, "n c y x"],
    kernel: int,
    num_classes: int,
    product: Callable[[Float[Tensor, "n i j c s s"]], Float[Tensor, "r k"]],
) -> Float[Tensor, "n k i j"]:
    """Computes the class score map window by window of fc6, as many images at once as memory allows.

    Args:
        map_: after the last pooling, of any memory layout.
        kernel: side of fc6.
        num_classes: k.
        product: computes the scores of the windows of some images, one row each.

    Paper: section 3.2.
    """
    (n, _, y, x), first = map_.shape, 0
    i, j = y - kernel + 1, x - kernel + 1
    scores = torch.empty(n, i, j, num_classes)
    for part in windows_by_parts(map_, kernel):
        scores[first : first + len(part)] = product(part).view(len(part), i, j, -1)
        first += len(part)
    return scores.permute(0, 3, 1, 2)


def windows_by_parts(map_: Float[Tensor, "n c y x"], kernel: int) -> Iterator[Float[Tensor, "m i j c s s"]]:
    """Yields views of the windows of fc6, of as many images at once as memory allows."""
    n, c, y, x = map_.shape
    at_once = max(1, _WINDOW_FLOATS // max(1, (y - kernel + 1) * (x - kernel + 1) * c * kernel**2))
    for first in range(0, n, at_once):
        yield windows(map_[first : first + at_once].permute(0, 2, 3, 1), kernel).permute(0, 1, 2, 5, 3, 4)


def _names(net: VeryDeep) -> list[tuple[str, str | None, bool, bool]]:
    """Name of each convolution, name of its batch norm, whether it is normalised, whether it is pooled."""
    names: list[tuple[str, str | None, bool, bool]] = []
    for layer in layers(net.geometry):
        match layer.kind:
            case "convolution":
                names.append((layer.name, None, False, False))
            case "batch-norm":
                names[-1] = (names[-1][0], layer.name, False, False)
            case "local-response-norm":
                names[-1] = (*names[-1][:2], True, False)
            case "max-pool":
                names[-1] = (*names[-1][:3], True)
    return names


def _fold(net: VeryDeep, name: str, norm_name: str | None, normalise: bool, pool: bool) -> ConvolutionStep:
    weight, single_bias = _weights(net, name)
    bias = single_bias.astype(np.float64)
    factor = np.ones_like(bias)
    if norm_name is not None:
        norm = net.get_submodule(norm_name)
        assert isinstance(norm, nn.BatchNorm2d)
        assert norm.running_mean is not None
        assert norm.running_var is not None
        scale, shift, mean, variance = (
            _array(tensor).astype(np.float64)
            for tensor in (norm.weight, norm.bias, norm.running_mean, norm.running_var)
        )
        factor = scale / np.sqrt(variance + norm.eps)
        bias = (bias - mean) * factor + shift
    return ConvolutionStep(name=name, weight=weight, factor=factor, bias=bias, normalise=normalise, pool=pool)


def _weights(net: VeryDeep, name: str) -> tuple[Float32[ndarray, "k c s s"], Float32[ndarray, "k"]]:
    module = net.get_submodule(name)
    assert isinstance(module, nn.Conv2d | nn.Linear)
    weight = module.weight if module.weight.ndim == 4 else module.weight[:, :, None, None]
    bias = torch.zeros(len(weight)) if module.bias is None else module.bias
    return _array(weight), _array(bias)


def _array(tensor: Tensor) -> ndarray:
    array: ndarray = tensor.detach().contiguous().numpy()
    return array
