"""The layers of the nets as modules of PyTorch."""

from typing import Final

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from verydeep.nets.architecture import Layer
from verydeep.nets.dropout import Dropout
from verydeep.nets.small_maps import convolve_small, is_small, windows
from verydeep.paper import constants

_WINDOW_FLOATS: Final = 2**28
"""Largest copy of overlapping windows that a dense fc6 makes: 1 GiB in float32."""


class Convolution(nn.Conv2d):
    """A convolution of stride 1 that keeps the resolution; its weights are filled by name, elsewhere."""

    def __init__(self, layer: Layer) -> None:
        super().__init__(layer.in_channels, layer.channels, layer.kernel, padding=layer.kernel // 2)

    def reset_parameters(self) -> None:
        """Leaves the weights empty: PyTorch's default costs seconds and would be thrown away."""

    def forward(self, map_: Float[Tensor, "n c y x"]) -> Float[Tensor, "n k y x"]:
        """Convolves; small maps on the processor as a matrix product, which is the same sum in another order."""
        precision = torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else self.weight.dtype
        if self.kernel_size[0] > 1 and not torch.compiler.is_compiling() and is_small(map_, precision):
            assert self.bias is not None
            return convolve_small(map_, self.weight, self.bias, precision)
        return super().forward(map_)


class FullyConnected(nn.Conv2d):
    """A fully connected layer as an unpadded convolution, computed as one matrix product.

    Where the map is exactly one place this costs what ``nn.Linear`` costs. Weights and input are flattened in the order
    in which the weights lie in memory, so that neither layout copies them.

    Paper: section 3.2.
    """

    def __init__(self, layer: Layer) -> None:
        super().__init__(layer.in_channels, layer.channels, layer.kernel)

    def reset_parameters(self) -> None:
        """Leaves the weights empty, as Convolution does."""

    def forward(self, map_: Float[Tensor, "n c h w"]) -> Float[Tensor, "n k i j"]:
        """Gives the scores at every place where the kernel fits.

        Args:
            map_: a feature map of at least the kernel's size.
        """
        kernel = self.kernel_size[0]
        n, c, h, w = map_.shape
        i, j = h - kernel + 1, w - kernel + 1
        if n * i * j * c * kernel**2 > _WINDOW_FLOATS:
            return super().forward(map_)
        if kernel > 1 and self.weight.is_contiguous(memory_format=torch.channels_last):
            places = windows(map_.permute(0, 2, 3, 1), kernel)
            weight = self.weight.permute(0, 2, 3, 1)
        else:
            places = windows(map_.permute(0, 2, 3, 1), kernel).permute(0, 1, 2, 5, 3, 4)
            weight = self.weight
        scores = F.linear(places.reshape(n, i * j, -1), weight.reshape(self.out_channels, -1), self.bias)
        return scores.reshape(n, i, j, -1).permute(0, 3, 1, 2)


def make_module(layer: Layer, dropout: float) -> nn.Module:
    """Makes the module of a layer, its weights empty.

    Args:
        layer: a row of ``layers``.
        dropout: probability, for a dropout.
    """
    match layer.kind:
        case "convolution":
            return Convolution(layer)
        case "batch-norm":
            return nn.BatchNorm2d(layer.channels)
        case "relu":
            return nn.ReLU()  # in place it would overwrite tapped activations, and is no faster
        case "local-response-norm":
            # PyTorch divides alpha by the size; AlexNet's formula does not
            alpha = constants.LRN_ALPHA * constants.LRN_SIZE
            return nn.LocalResponseNorm(constants.LRN_SIZE, alpha=alpha, beta=constants.LRN_BETA, k=constants.LRN_K)
        case "max-pool":
            return nn.MaxPool2d(2)
        case "fully-connected":
            return FullyConnected(layer)
        case "dropout":
            return Dropout(dropout, int(layer.name.removeprefix("drop")))
    raise AssertionError(layer.kind)
