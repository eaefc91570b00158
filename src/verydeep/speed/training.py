"""A net in training, computed by the kernel: its 3x3 convolutions with the ReLU and the pooling after them."""

from collections.abc import Sequence
from typing import Final

import torch
from jaxtyping import Float
from torch import Tensor, nn

from verydeep.device import Compute
from verydeep.nets.layers import Convolution
from verydeep.nets.net import VeryDeep, in_turn
from verydeep.nets.small_maps import is_small
from verydeep.speed.convolution import convolve_fast
from verydeep.speed.library import has_kernel

FEWEST_CHANNELS: Final = 8
"""Below them, as for images, a convolution has too little to do for tiles of 6x6."""

REMEDY: Final = "with other rounding; install a C++ compiler and verydeep again to have it"
"""What to say where it is missing."""


def place(net: VeryDeep, choice: Compute) -> None:
    """Moves a net to where it is computed, and lets the kernel compute it where that is chosen and there is one.

    Args:
        net: is changed; ``release`` gives it back to PyTorch.
        choice: how it is computed.
    """
    net.place(choice)
    net.compose = by_kernel if choice.kernel and has_kernel() else in_turn


def release(net: VeryDeep) -> None:
    """Lets PyTorch compute a net again, layer by layer."""
    net.compose = in_turn


def by_kernel(layers: Sequence[nn.Module]) -> nn.Sequential:
    """Makes a module of layers in which those that the kernel computes at once are one."""
    stages: list[nn.Module] = []
    rest = list(layers)
    while rest:
        count = 1
        if isinstance(rest[0], Convolution):
            for kind in (nn.ReLU, nn.MaxPool2d):
                if count == len(rest) or not isinstance(rest[count], kind):
                    break
                count += 1
            stages.append(Stage(*rest[:count]))
        else:
            stages.append(rest[0])
        rest = rest[count:]
    return nn.Sequential(*stages)


class Stage(nn.Sequential):
    """A convolution, and the ReLU and the pooling where they follow it: computed at once where the kernel takes them.

    Where somebody has hooked one of them, each is computed by itself, so that the hook is called.

    Args:
        layers: one to three.
    """

    def forward(self, map_: Float[Tensor, "n c y x"]) -> Float[Tensor, "n k v u"]:
        """Computes the layers."""
        convolution = self[0]
        assert isinstance(convolution, Convolution)
        if not _takes(convolution, map_) or any(map(_has_hooks, self)):
            plainly: Tensor = super().forward(map_)
            return plainly
        assert convolution.bias is not None
        return convolve_fast(map_, convolution.weight, convolution.bias, rectify=len(self) > 1, pool=len(self) > 2)


def _takes(convolution: Convolution, map_: Tensor) -> bool:
    """Whether the kernel computes a convolution: not images, not maps that one product is faster for."""
    weight = convolution.weight
    return (
        weight.shape[2] == 3
        and weight.shape[1] >= FEWEST_CHANNELS
        and map_.device.type == "cpu"
        and map_.dtype == weight.dtype == torch.float32
        and not torch.is_autocast_enabled("cpu")
        and not is_small(map_, torch.float32)
        and not torch.compiler.is_compiling()
    )


def _has_hooks(layer: nn.Module) -> bool:
    return bool(layer._forward_hooks or layer._forward_pre_hooks or layer._backward_hooks or layer._backward_pre_hooks)
