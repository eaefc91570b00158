"""A net laid out for the kernel, and computed by it."""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Num
from torch import Tensor, nn

from verydeep import paper
from verydeep.convnets.architecture import layers
from verydeep.convnets.net import VeryDeep
from verydeep.convnets.products import windows
from verydeep.speed.library import Kernel, Packed
from verydeep.speed.memory import Buffer

_WINDOW_FLOATS = 2**26
"""Numbers that the windows of fc6 may hold at once, where that leaves room for an image: 256 MiB."""


@dataclass(frozen=True)
class _Stage:
    packed: Packed
    pool: bool
    normalise: bool  # A-LRN: between the ReLU and the pooling


class Engine:
    """The layers of a net with their weights laid out for the kernel.

    The convolutions have weights of their own, transformed; the fully connected layers use those of the net. Not to be
    called by two threads at once: the buffers are shared.

    Args:
        net: in float32, on the processor.
        kernel: computes.
    """

    def __init__(self, net: VeryDeep, kernel: Kernel) -> None:
        self.kernel = kernel
        self._mean, self._divisor = net.mean.detach().clone(), net.divisor.detach().clone()
        net_layers = layers(net.geometry, features_only=net.features_only)
        self._stages = [_stage(net, kernel, *names) for names in _stage_names(net)]
        self._channels = next(layer.channels for layer in net_layers if layer.name == "pool5")
        self._head = [_fully_connected(net, layer.name) for layer in net_layers if layer.kind == "fully-connected"]
        self._maps, self._work, self._rows = (Buffer(), Buffer()), Buffer(), (Buffer(), Buffer())

    def features(self, images: Num[Tensor, "n 3 h w"]) -> Float[Tensor, "n c y x"]:
        """Computes the map after the last pooling; it is overwritten by the next call.

        Args:
            images: RGB in 0..255, uint8 or float32.
        """
        first, *rest = self._stages
        here, there = self._maps
        map_ = self.kernel.first(
            images,
            self._mean,
            self._divisor,
            first.packed,
            pool=first.pool and not first.normalise,
            result=here,
            work=self._work,
        )
        if first.normalise:
            here, there = there, here
            map_ = self.kernel.normalise_and_pool(map_, paper.LRN_ALPHA, paper.LRN_K, here)
        for stage in rest:
            here, there = there, here
            map_ = self.kernel.convolve(map_, stage.packed, pool=stage.pool, result=here, work=self._work)
        return map_[..., : self._channels].permute(0, 3, 1, 2)

    def head(self, map_: Float[Tensor, "n c y x"]) -> Float[Tensor, "n k i j"]:
        """Computes the class score map from the map after the last pooling.

        Args:
            map_: of any memory layout; the net has fully connected layers.
        """
        kernel = self._head[0][0].shape[2]
        n, c, y, x = map_.shape
        i, j = y - kernel + 1, x - kernel + 1
        scores = torch.empty(n, i, j, len(self._head[-1][0]))
        at_once = max(1, _WINDOW_FLOATS // max(1, i * j * c * kernel**2))
        for first in range(0, n, at_once):
            part = windows(map_[first : first + at_once].permute(0, 2, 3, 1), kernel).permute(0, 1, 2, 5, 3, 4)
            here, there = self._rows
            rows = here.take(*part.shape).copy_(part).view(len(part) * i * j, -1)
            for number, (weight, bias) in enumerate(self._head, start=6):
                here, there = there, here
                rows = self.kernel.fully_connected(
                    rows, weight.reshape(len(weight), -1), bias, rectify=number < 8, result=here, work=self._work
                )
            scores[first : first + at_once] = rows.view(len(part), i, j, -1)
        return scores.permute(0, 3, 1, 2)


def _stage_names(net: VeryDeep) -> list[tuple[str, str | None, bool, bool]]:
    """Of each convolution: its name, its batch norm's, whether it is normalised, whether it is pooled."""
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


def _fully_connected(net: VeryDeep, name: str) -> tuple[Tensor, Tensor]:
    layer = net.get_submodule(name)
    assert isinstance(layer, nn.Conv2d)
    assert layer.bias is not None
    return layer.weight.detach().contiguous(), layer.bias.detach()


def _stage(net: VeryDeep, kernel: Kernel, name: str, norm_name: str | None, normalise: bool, pool: bool) -> _Stage:
    convolution = net.get_submodule(name)
    assert isinstance(convolution, nn.Conv2d)
    assert convolution.bias is not None
    bias = convolution.bias.detach().double()
    factor = torch.ones_like(bias)
    if norm_name is not None:
        norm = net.get_submodule(norm_name)
        assert isinstance(norm, nn.BatchNorm2d)
        assert norm.running_mean is not None
        assert norm.running_var is not None
        factor = norm.weight.detach().double() / (norm.running_var.double() + norm.eps).sqrt()
        bias = (bias - norm.running_mean.double()) * factor + norm.bias.detach().double()
    packed = kernel.pack(convolution.weight, bias, factor, padded=convolution.in_channels != 3)
    return _Stage(packed, pool, normalise)
