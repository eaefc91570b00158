"""A net as a few operations: convolutions with batch norm folded in, and fully connected layers; weights as arrays.

The kernel lays it out, and OpenVINO's graphs are built from it; none of that needs PyTorch.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Float32, Float64
from numpy import ndarray
from numpy.lib.stride_tricks import sliding_window_view

from verydeep.nets.architecture import Geometry, layers
from verydeep.nets.described import DescribedNet

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


def graph_of(net: DescribedNet) -> Graph:
    """Returns the operations of a net in evaluation mode.

    Raises:
        UserError: the net is not in float32 on the CPU.
    """
    net.check_float32()
    rows = layers(net.geometry, features_only=net.features_only)
    connected = [layer.name for layer in rows if layer.kind == "fully-connected"]
    return Graph(
        mean=np.array(net.mean.tolist(), np.float32),
        divisor=np.array(net.divisor.tolist(), np.float32),
        convolutions=tuple(_fold(net, *names) for names in _names(net.geometry)),
        fully_connected=tuple(
            FullyConnectedStep(name=name, weight=weight, bias=bias, rectify=name != connected[-1])
            for name in connected
            for weight, bias in [net.weights_of(name)]
        ),
        check_unchanged=net.weights_check(),
    )


def over_positions(
    map_: Float[ndarray, "n c y x"],
    kernel: int,
    num_classes: int,
    product: Callable[[Float[ndarray, "n i j c s s"]], Float[ndarray, "r k"]],
) -> Float32[ndarray, "n k i j"]:
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
    scores = np.empty((n, i, j, num_classes), np.float32)
    for part in windows_by_parts(map_, kernel):
        scores[first : first + len(part)] = product(part).reshape(len(part), i, j, -1)
        first += len(part)
    return scores.transpose(0, 3, 1, 2)


def windows_by_parts(map_: Float[ndarray, "n c y x"], kernel: int) -> Iterator[Float[ndarray, "m i j c s s"]]:
    """Yields views of the windows of fc6, of as many images at once as memory allows."""
    n, c, y, x = map_.shape
    at_once = max(1, _WINDOW_FLOATS // max(1, (y - kernel + 1) * (x - kernel + 1) * c * kernel**2))
    for first in range(0, n, at_once):
        windows = sliding_window_view(map_[first : first + at_once], (kernel, kernel), (2, 3))
        yield windows.transpose(0, 2, 3, 1, 4, 5)


def _names(geometry: Geometry) -> list[tuple[str, str | None, bool, bool]]:
    """Name of each convolution, name of its batch norm, whether it is normalised, whether it is pooled."""
    names: list[tuple[str, str | None, bool, bool]] = []
    for layer in layers(geometry):
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


def _fold(net: DescribedNet, name: str, norm_name: str | None, normalise: bool, pool: bool) -> ConvolutionStep:
    weight, single_bias = net.weights_of(name)
    bias = single_bias.astype(np.float64)
    factor = np.ones_like(bias)
    if norm_name is not None:
        *numbers, eps = net.batch_norm_of(norm_name)
        scale, shift, mean, variance = (each.astype(np.float64) for each in numbers)
        factor = scale / np.sqrt(variance + eps)
        bias = (bias - mean) * factor + shift
    return ConvolutionStep(name=name, weight=weight, factor=factor, bias=bias, normalise=normalise, pool=pool)
