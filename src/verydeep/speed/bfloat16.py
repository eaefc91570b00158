"""A net computed by PyTorch in bfloat16."""

import torch
import torch.nn.functional as F
from jaxtyping import Float, Num
from torch import Tensor

from verydeep.nets.graph import Backend, Folded, folded, fully_connected, over_positions
from verydeep.nets.net import VeryDeep
from verydeep.paper import constants

BF16 = torch.bfloat16


class TorchBf16(Backend):
    """The layers of a net with their weights in bfloat16, channels last.

    The mean is subtracted in float32 and batch norm is folded in float64, so that only weights, activations and
    products are rounded. The weights are rounded once: autocast would do it at every call.

    Args:
        net: in float32, on the processor; it stays as it is.
    """

    def __init__(self, net: VeryDeep) -> None:
        self._mean, self._divisor = (each.detach().clone()[:, None, None] for each in (net.mean, net.divisor))
        self._layers = folded(net)
        self._weights = [_rounded(layer) for layer in self._layers]
        self._head = [
            (weight.reshape(len(weight), -1).to(BF16), bias.to(BF16), weight.shape[2])
            for weight, bias in fully_connected(net)
        ]

    def features(self, images: Num[Tensor, "n 3 h w"]) -> Float[Tensor, "n c y x"]:
        """Computes the map after the last pooling.

        Args:
            images: RGB in 0..255, uint8 or float32.
        """
        x = ((images - self._mean) / self._divisor).to(BF16, memory_format=torch.channels_last)
        for layer, (weight, bias) in zip(self._layers, self._weights, strict=True):
            x = F.conv2d(x, weight, bias, padding=weight.shape[2] // 2).relu_()
            if layer.normalise:
                x = _normalised(x)
            if layer.pool:
                x = F.max_pool2d(x, 2)
        return x.float()

    def head(self, map_: Float[Tensor, "n c y x"]) -> Float[Tensor, "n k i j"]:
        """Computes the class score map from the map after the last pooling.

        Args:
            map_: of any memory layout; the net has fully connected layers.
        """
        return over_positions(map_.to(BF16), self._head[0][2], len(self._head[-1][0]), self._scores)

    def _scores(self, windows: Float[Tensor, "n i j c s s"]) -> Float[Tensor, "r k"]:
        rows = windows.reshape(windows.shape[:3].numel(), -1)
        for number, (weight, bias, _) in enumerate(self._head, start=6):
            rows = F.linear(rows, weight, bias)
            rows = rows.relu_() if number < 8 else rows
        return rows.float()


def _rounded(layer: Folded) -> tuple[Tensor, Tensor]:
    weight = layer.scaled_weight().to(BF16).contiguous(memory_format=torch.channels_last)
    return weight, layer.bias.to(BF16)


def _normalised(map_: Tensor) -> Tensor:
    # the squares of activations of some hundreds need more than eight bits
    alpha = constants.LRN_ALPHA * constants.LRN_SIZE
    normalised = F.local_response_norm(
        map_.float(), constants.LRN_SIZE, alpha=alpha, beta=constants.LRN_BETA, k=constants.LRN_K
    )
    return normalised.to(BF16, memory_format=torch.channels_last)
