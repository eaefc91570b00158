"""The features of pictures that a perceptual loss compares, and who computes them.

Without gradients the kernel gives layer after layer. With them PyTorch computes the net and the kernel the gradients of
its 3x3 convolutions. In traced code, on other devices and in bf16 it is plain PyTorch.
"""

import hashlib
from collections.abc import Callable, Iterator, Sequence
from typing import Final

import torch
from torch import Tensor, nn

from verydeep.errors import UsageError
from verydeep.nets.activations import check_layers
from verydeep.nets.layers import Convolution
from verydeep.nets.net import VeryDeep
from verydeep.speed.autograd import convolve_frozen
from verydeep.speed.library import has_kernel
from verydeep.speed.torch_backend import evaluated
from verydeep.speed.train_net import FEWEST_CHANNELS, group_layers

IMAGE: Final = "image"
"""The picture itself as a layer, RGB in 0..1."""

Maps = Iterator[tuple[str, Tensor]]


class Features:
    """Layers of a net in evaluation mode, whose weights never get a gradient; no layer after the last is computed.

    Args:
        net: its weights are shared.
        layers: of the net, or the picture itself, in any order.
        pool: stands in the place of the max-pooling; None leaves it.
        precision: fp32 or bf16.

    Attributes:
        layers: from the picture to the scores.
        names: those that are layers of the net.
        mean: subtracted from the pixels, in float32.
        divisor: divides them afterwards.

    Raises:
        UsageError: no such layer or precision, or none.
    """

    def __init__(self, net: VeryDeep, layers: Sequence[str], pool: nn.Module | None, precision: str) -> None:
        if precision not in ("fp32", "bf16"):
            raise UsageError(f"unknown precision {precision!r}: choose one of fp32, bf16")
        known = [name for name, _ in net.named_children()]
        check_layers(layers if isinstance(layers, str) else [n for n in layers if n != IMAGE], known, net.geometry)
        self.layers = tuple(sorted(set(layers), key=[IMAGE, *known].index))
        self.names = tuple(name for name in self.layers if name != IMAGE)
        if not self.names:
            raise UsageError("no layers of the net: give some, such as relu3_3")
        self.mean, self.divisor = (each.detach().clone()[:, None, None] for each in (net.mean, net.divisor))
        self.pool = pool
        segments = _segments(evaluated(net), self.names, pool)
        self._plain = tuple(nn.Sequential(*segment) for segment in segments)
        self._frozen = tuple(_freeze(segment) for segment in segments)  # the same layers, here and in the next line
        self._kernel = tuple(group_layers(segment, kernel=True) for segment in segments)
        if precision == "bf16":
            for segment in self._plain:
                segment.bfloat16()
        self._digest = self._hash()

    @property
    def digest(self) -> str:
        """Hash of the weights as they came: eight digits."""
        return self._digest

    @property
    def dtype(self) -> torch.dtype:
        """Precision of the weights."""
        return next(self._plain[0].parameters()).dtype

    def kernel_takes(self, pictures: Tensor) -> bool:
        """Whether the kernel computes pictures: in float32 on the CPU, outside of traced code."""
        return (
            not torch.compiler.is_compiling()
            and pictures.device.type == "cpu"
            and self.dtype == torch.float32
            and not torch.is_autocast_enabled("cpu")
            and has_kernel()
        )

    def by_torch(self, pixels: Tensor, *, frozen: bool = False) -> Maps:
        """Yields layer after layer, n,c,y,x in float32, differentiable with respect to the pixels.

        Args:
            pixels: RGB in 0..255, floating point.
            frozen: let the kernel compute the gradients: differentiable once.
        """
        yield from self._maps(pixels, self._frozen if frozen else self._plain)

    def _maps(self, pixels: Tensor, segments: Sequence[nn.Module]) -> Maps:
        if IMAGE in self.layers:
            yield IMAGE, pixels / 255
        map_ = ((pixels - self.mean) / self.divisor).to(self.dtype, memory_format=torch.channels_last)
        for name, segment in zip(self.names, segments, strict=True):
            map_ = segment(map_)
            yield name, map_.float()

    @torch.no_grad()
    def without_gradients(self, pixels: Tensor) -> Maps:
        """Yields layer after layer by the kernel, which lays out the weights of one convolution at a time.

        Args:
            pixels: RGB in 0..255, floating point.
        """
        yield from self._maps(pixels, self._kernel)

    def apply(self, change: Callable[[Tensor], Tensor]) -> None:
        """Moves the weights, or changes their precision; mean and divisor stay float32."""
        for segment in self._plain:
            segment._apply(change)
        self.mean, self.divisor = (change(each).to(torch.float32) for each in (self.mean, self.divisor))

    def _hash(self) -> str:
        digest = hashlib.sha256()
        for segment in self._plain:
            for tensor in segment.state_dict().values():
                digest.update(tensor.detach().float().cpu().contiguous().numpy().tobytes())
        return digest.hexdigest()[:8]


def _segments(net: VeryDeep, names: Sequence[str], pool: nn.Module | None) -> list[list[nn.Module]]:
    """Divides the layers of a net after those that are asked for, and leaves out the rest."""
    segments: list[list[nn.Module]] = [[]]
    left = list(names)
    for name, module in net.named_children():
        segments[-1].append(pool if pool is not None and isinstance(module, nn.MaxPool2d) else module)
        if name == left[0]:
            left.pop(0)
            if not left:
                break
            segments.append([])
    return segments


def _freeze(segment: Sequence[nn.Module]) -> nn.Sequential:
    """Groups each 3x3 convolution with the ReLU where it follows, for the kernel to compute their gradient."""
    layers: list[nn.Module] = []
    for module in segment:
        previous = layers[-1] if layers else None
        if isinstance(module, Convolution) and module.kernel_size[0] == 3 and module.in_channels >= FEWEST_CHANNELS:
            layers.append(_Frozen(module))
        elif isinstance(module, nn.ReLU) and isinstance(previous, _Frozen) and not previous.rectify:
            previous.rectify = True
        else:
            layers.append(module)
    return nn.Sequential(*layers)


class _Frozen(nn.Module):
    def __init__(self, convolution: Convolution) -> None:
        super().__init__()
        self.convolution, self.rectify = convolution, False

    def forward(self, map_: Tensor) -> Tensor:
        bias = self.convolution.bias
        assert bias is not None
        return convolve_frozen(map_, self.convolution.weight, bias, rectify=self.rectify)
