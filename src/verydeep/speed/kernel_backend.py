"""A net laid out for the kernel, and computed by it, without PyTorch."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32
from numpy import ndarray

from verydeep.machine import Turn
from verydeep.nets.activations import check_layers, check_reaches
from verydeep.nets.architecture import layers
from verydeep.nets.described import DescribedNet
from verydeep.nets.graph import graph_of, over_positions
from verydeep.paper import constants
from verydeep.speed.library import Kernel, Packed
from verydeep.speed.memory import Buffer, Pixels


@dataclass(frozen=True)
class _Layer:
    packed: Packed
    block: str  # 3_1 of conv3_1
    channels: int
    pool: bool
    normalise: bool  # A-LRN: between the ReLU and the pooling

    @property
    def relu_name(self) -> str:
        return f"relu{self.block}"

    @property
    def pool_name(self) -> str:
        return f"pool{self.block[0]}"


class KernelBackend:
    """A net computed by the kernel, in float32 on the CPU; threads take turns.

    The convolutions have weights of their own, transformed; the fully connected layers use those of the net.

    The layers are those after a ReLU, the poolings and the fully connected layers: what a convolution or batch norm
    gives before its ReLU is never written anywhere.

    Args:
        net: in float32, on the CPU.
        kernel: computes.
        until: the last layer that will be asked for: none after it is laid out.

    Raises:
        UserError: the net is elsewhere or in another precision; or, at a call, its weights were changed since.
    """

    def __init__(self, net: DescribedNet, kernel: Kernel, *, until: str | None = None) -> None:
        self.crop, self.num_classes = net.geometry.crop, net.geometry.num_classes
        self.layers = kernel_layers(net, until)
        self._geometry = net.geometry
        self._kernel, self._lock = kernel, Turn()
        graph = graph_of(net)
        self._mean, self._divisor = graph.mean, graph.divisor
        self._convolutions = []
        for step in graph.convolutions:
            block = step.name.removeprefix("conv")
            if f"relu{block}" not in self.layers:
                break
            packed = kernel.pack(step.weight, step.bias, step.factor, padded=step.weight.shape[1] != 3)
            self._convolutions.append(_Layer(packed, block, len(step.bias), step.pool, step.normalise))
        self._connected = [(step.name, step.rows(), step.bias, step.rectify) for step in graph.fully_connected]
        self._maps, self._work, self._rows = (Buffer(), Buffer()), Buffer(), (Buffer(), Buffer())
        self.head_kernel = net.geometry.head_kernel
        self._check_unchanged = graph.check_unchanged

    def maps(self, images: Pixels, layer: str = "fc8") -> Float32[ndarray, "n k i j"]:
        """Computes the maps of a layer, and nothing after it."""
        return self.activations(images, [layer])[layer]

    def activations(self, images: Pixels, names: Sequence[str]) -> dict[str, Float32[ndarray, "n c y x"]]:
        """Computes the outputs of several layers in one pass, and nothing after the last.

        Args:
            images: RGB in 0..255, uint8 or float32, of any memory layout.
            names: of ``layers``.

        Raises:
            UserError: the images are too small for a layer.
        """
        check_reaches(images.shape[1:3], self._geometry, names)
        with self._lock:
            given = {name: map_.copy("K") for name, map_ in self._walk(images, names)}
        return {name: given[name] for name in names}

    def head(self, pool5_maps: Float32[ndarray, "n c y x"]) -> Float32[ndarray, "n k i j"]:
        """Computes the class score maps from parts of the maps after pool5."""
        with self._lock:
            self._check_unchanged()
            return self._connected_layer(pool5_maps, self._connected[-1][0])

    def _walk(self, images: Pixels, names: Sequence[str]) -> Iterator[tuple[str, Float32[ndarray, "n c y x"]]]:
        """Yields the outputs of layers one after the other: each is overwritten by the next."""
        check_layers(names, self.layers, self._geometry)
        self._check_unchanged()
        left, map_ = set(names), images
        here, there = self._maps
        for layer in self._convolutions:
            if not left:
                return
            fused = layer.pool and not layer.normalise and layer.relu_name not in left
            here, there = there, here
            map_ = self._convolved(map_, layer, fused, here)
            if layer.relu_name in left:
                yield layer.relu_name, _planes(map_, layer.channels)
                left.remove(layer.relu_name)
            if not left:
                return
            if layer.pool and not fused:
                here, there = there, here
                map_ = self._pooled(map_, layer, here)
            if layer.pool and layer.pool_name in left:
                yield layer.pool_name, _planes(map_, layer.channels)
                left.remove(layer.pool_name)
        for name in sorted(left, key=self.layers.index):
            yield name, self._connected_layer(_planes(map_, self._convolutions[-1].channels), name)

    def _convolved(self, map_: ndarray, layer: _Layer, pool: bool, result: Buffer) -> Float32[ndarray, "n y x c"]:
        if layer is self._convolutions[0]:
            planes = map_.transpose(0, 3, 1, 2)
            return self._kernel.first(
                planes, self._mean, self._divisor, layer.packed, pool=pool, result=result, work=self._work
            )
        return self._kernel.convolve(map_, layer.packed, pool=pool, result=result, work=self._work)

    def _pooled(self, map_: Float32[ndarray, "n y x c"], layer: _Layer, result: Buffer) -> Float32[ndarray, "n v u c"]:
        if layer.normalise:
            return self._kernel.normalise_and_pool(map_, constants.LRN_ALPHA, constants.LRN_K, result)
        n, y, x, c = map_.shape
        even = map_[:, : y // 2 * 2, : x // 2 * 2]
        rows = np.maximum(even[:, ::2], even[:, 1::2], out=self._work.take(n, y // 2, x // 2 * 2, c))
        pooled: ndarray = np.maximum(rows[:, :, ::2], rows[:, :, 1::2], out=result.take(n, y // 2, x // 2, c))
        return pooled

    def _connected_layer(self, map_: Float32[ndarray, "n c y x"], name: str) -> Float32[ndarray, "n k i j"]:
        """Computes the fully connected layers up to one of them, or to its ReLU."""
        number = name[-1]
        steps = [step for step in self._connected if step[0][-1] <= number]
        rectify = name.startswith("relu")

        def product(windows: Float32[ndarray, "n i j c s s"]) -> Float32[ndarray, "r k"]:
            here, there = self._rows
            laid_out = here.take(*windows.shape)
            np.copyto(laid_out, windows)
            rows = laid_out.reshape(math.prod(windows.shape[:3]), -1)
            for step_name, weight, bias, rectifies in steps:
                here, there = there, here
                wanted = rectify if step_name[-1] == number else rectifies
                rows = self._kernel.fully_connected(rows, weight, bias, rectify=wanted, result=here, work=self._work)
            return rows

        return over_positions(map_, self.head_kernel, len(steps[-1][2]), product)


def kernel_layers(net: DescribedNet, until: str | None = None) -> tuple[str, ...]:
    """Names of the layers that the kernel gives, up to one of them."""
    kinds = ("relu", "max-pool", "fully-connected")
    names = [layer.name for layer in layers(net.geometry, features_only=net.features_only) if layer.kind in kinds]
    return tuple(names if until is None else names[: names.index(until) + 1])


def _planes(map_: Float32[ndarray, "n y x c"], channels: int) -> Float32[ndarray, "n k y x"]:
    return map_[..., :channels].transpose(0, 3, 1, 2)
