"""A net laid out for the kernel, and computed by it."""

import threading
from dataclasses import dataclass

import torch
from jaxtyping import Float, Float32, Num
from numpy import ndarray
from torch import Tensor

from verydeep.nets.graph import graph_of, over_positions
from verydeep.nets.net import VeryDeep
from verydeep.paper import constants
from verydeep.speed.library import Kernel, Packed
from verydeep.speed.memory import Buffer, Pixels, as_tensor, ordinary_tensors


@dataclass(frozen=True)
class _Layer:
    packed: Packed
    pool: bool
    normalise: bool  # A-LRN: between the ReLU and the pooling


class KernelBackend:
    """A net computed by the kernel, in float32 on the CPU; threads take turns.

    The convolutions have weights of their own, transformed; the fully connected layers use those of the net.

    Args:
        net: in float32, on the CPU.
        kernel: computes.

    Raises:
        UserError: the net is elsewhere or in another precision; or, at a call, its weights were changed since.
    """

    def __init__(self, net: VeryDeep, kernel: Kernel) -> None:
        self.crop, self.num_classes = net.geometry.crop, net.geometry.num_classes
        self.layers = ("pool5",) if net.features_only else ("pool5", "fc8")
        self._kernel, self._lock = kernel, threading.Lock()
        with ordinary_tensors():
            graph = graph_of(net)
            self._mean, self._divisor = torch.from_numpy(graph.mean), torch.from_numpy(graph.divisor)
            self._convolutions = []
            for step in graph.convolutions:
                weight, bias, factor = (torch.from_numpy(each) for each in (step.weight, step.bias, step.factor))
                packed = kernel.pack(weight, bias, factor, padded=weight.shape[1] != 3)
                self._convolutions.append(_Layer(packed, step.pool, step.normalise))
            self._connected = [
                (torch.from_numpy(step.rows()), torch.from_numpy(step.bias), step.rectify)
                for step in graph.fully_connected
            ]
            self._maps, self._work, self._rows = (Buffer(), Buffer()), Buffer(), (Buffer(), Buffer())
        self._channels, self.head_kernel = len(graph.convolutions[-1].bias), net.geometry.head_kernel
        self._check_unchanged = graph.check_unchanged

    def maps(self, images: Pixels, layer: str = "fc8") -> Float32[ndarray, "n k i j"]:
        """Computes the maps of a layer, one position for 32 pixels."""
        assert layer in self.layers
        with self._lock, ordinary_tensors():
            self._check_unchanged()
            map_ = self._features(as_tensor(images).permute(0, 3, 1, 2))
            return (map_.clone() if layer == "pool5" else self._scores(map_)).numpy()

    def head(self, pool5_maps: Float32[ndarray, "n c y x"]) -> Float32[ndarray, "n k i j"]:
        """Computes the class score maps from parts of the maps after pool5."""
        with self._lock, ordinary_tensors():
            self._check_unchanged()
            return self._scores(as_tensor(pool5_maps)).numpy()

    def _features(self, images: Num[Tensor, "n 3 h w"]) -> Float[Tensor, "n c y x"]:
        """Computes the map after the last pooling; it is overwritten by the next call."""
        first, *rest = self._convolutions
        here, there = self._maps
        map_ = self._kernel.first(
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
            map_ = self._kernel.normalise_and_pool(map_, constants.LRN_ALPHA, constants.LRN_K, here)
        for layer in rest:
            here, there = there, here
            map_ = self._kernel.convolve(map_, layer.packed, pool=layer.pool, result=here, work=self._work)
        return map_[..., : self._channels].permute(0, 3, 1, 2)

    def _scores(self, map_: Float[Tensor, "n c y x"]) -> Float[Tensor, "n k i j"]:
        return over_positions(map_, self.head_kernel, self.num_classes, self._scores_of)

    def _scores_of(self, windows: Float[Tensor, "n i j c s s"]) -> Float[Tensor, "r k"]:
        here, there = self._rows
        rows = here.take(*windows.shape).copy_(windows).view(windows.shape[:3].numel(), -1)
        for weight, bias, rectify in self._connected:
            here, there = there, here
            rows = self._kernel.fully_connected(rows, weight, bias, rectify=rectify, result=here, work=self._work)
        return rows
