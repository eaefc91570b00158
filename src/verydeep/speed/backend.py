"""Who computes a net: arrays of pixels in, maps out."""

import copy
import typing
from collections.abc import Callable

import numpy as np
import torch
from jaxtyping import Float32, UInt8
from numpy import ndarray
from torch import Tensor, nn

from verydeep.device import Compute
from verydeep.nets.net import VeryDeep
from verydeep.speed.accelerate import Accelerated, Computing, fastest


@typing.runtime_checkable
class Backend(typing.Protocol):
    """Computes a net on images, from any thread.

    Attributes:
        crop: side of the smallest images, pixels.
        layers: whose maps it gives: ``fc8`` are the raw scores, before the soft-max; ``pool5`` is the map before fc6.
        num_classes: of the scores.
    """

    @property
    def crop(self) -> int:
        """Side of the smallest images, pixels."""

    @property
    def layers(self) -> tuple[str, ...]:
        """Whose maps it gives."""

    @property
    def num_classes(self) -> int:
        """Of the scores."""

    def maps(self, images: UInt8[ndarray, "n h w 3"], layer: str = "fc8") -> Float32[ndarray, "n k i j"]:
        """Computes the maps of a layer, one position for 32 pixels.

        Args:
            images: RGB.
            layer: one of ``layers``.
        """

    def head(self, pool5_maps: Float32[ndarray, "n c y x"]) -> Float32[ndarray, "n k i j"]:
        """Computes the class score maps from parts of the maps after pool5, for images that are computed in parts."""


class TorchBackend:
    """A net computed by PyTorch, or by what accelerates it; the net is in evaluation mode while it computes.

    Args:
        net: the net, which moves to the device of the choice; or an accelerated one.
        choice: device, precision and layout.
    """

    layers = ("pool5", "fc8")

    def __init__(self, net: Computing, choice: Compute) -> None:
        self._net, self._choice = net, choice
        if isinstance(net, VeryDeep):
            net.place(choice)

    @property
    def crop(self) -> int:
        """Side of the smallest images, pixels."""
        return self._net.geometry.crop

    @property
    def num_classes(self) -> int:
        """Of the scores."""
        return self._net.geometry.num_classes

    def maps(self, images: UInt8[ndarray, "n h w 3"], layer: str = "fc8") -> Float32[ndarray, "n k i j"]:
        """Computes the maps of a layer, one position for 32 pixels."""
        assert layer in self.layers
        compute = self._net.features if layer == "pool5" else self._net.score_map
        return self._computed(compute, torch.from_numpy(np.ascontiguousarray(images)).permute(0, 3, 1, 2))

    def head(self, pool5_maps: Float32[ndarray, "n c y x"]) -> Float32[ndarray, "n k i j"]:
        """Computes the class score maps from parts of the maps after pool5."""
        dtype = torch.float32 if isinstance(self._net, Accelerated) else next(self._net.parameters()).dtype
        return self._computed(self._net.head, torch.from_numpy(np.ascontiguousarray(pool5_maps)).to(dtype))

    def _computed(self, compute: Callable[[Tensor], Tensor], given: Tensor) -> Float32[ndarray, "n k i j"]:
        net = self._net if isinstance(self._net, VeryDeep) and self._net.training else None
        if net is not None:
            net.eval()
        try:
            with torch.inference_mode(), self._choice.autocast():
                (moved,) = self._choice.move(given)
                found: ndarray = compute(moved).float().cpu().numpy()
        finally:
            if net is not None:
                net.train()
        return found


def make_backend(net: Computing, choice: Compute, *, rounds_up: bool = False) -> Backend:
    """Returns the fastest backend for a net on a device.

    Args:
        net: the net, or an accelerated one.
        choice: device, precision and layout.
        rounds_up: compute a copy whose pooling rounds sizes up, as Caffe's does; the weights are shared.
    """
    if rounds_up:
        return TorchBackend(_rounding_up(net.net if isinstance(net, Accelerated) else net), choice)
    return TorchBackend(fastest(net) if isinstance(net, VeryDeep) and choice.device == "cpu" else net, choice)


def _rounding_up(net: VeryDeep) -> VeryDeep:
    twin = copy.copy(net)
    twin._modules = {
        name: nn.MaxPool2d(2, ceil_mode=True) if isinstance(module, nn.MaxPool2d) else module
        for name, module in net._modules.items()
    }
    return twin
