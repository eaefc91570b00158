"""A net laid out for the kernel, and computed by it."""

from dataclasses import dataclass

from jaxtyping import Float, Num
from torch import Tensor

from verydeep.nets.architecture import layers
from verydeep.nets.graph import Backend, Folded, folded, fully_connected, over_positions
from verydeep.nets.net import VeryDeep
from verydeep.paper import constants
from verydeep.speed.library import Kernel, Packed
from verydeep.speed.memory import Buffer


@dataclass(frozen=True)
class _Stage:
    packed: Packed
    pool: bool
    normalise: bool  # A-LRN: between the ReLU and the pooling


class KernelBackend(Backend):
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
        self._stages = [_stage(kernel, one) for one in folded(net)]
        self._channels = next(layer.channels for layer in net_layers if layer.name == "pool5")
        self._head = fully_connected(net)
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
            map_ = self.kernel.normalise_and_pool(map_, constants.LRN_ALPHA, constants.LRN_K, here)
        for stage in rest:
            here, there = there, here
            map_ = self.kernel.convolve(map_, stage.packed, pool=stage.pool, result=here, work=self._work)
        return map_[..., : self._channels].permute(0, 3, 1, 2)

    def head(self, map_: Float[Tensor, "n c y x"]) -> Float[Tensor, "n k i j"]:
        """Computes the class score map from the map after the last pooling.

        Args:
            map_: of any memory layout; the net has fully connected layers.
        """
        fc6, fc8 = self._head[0][0], self._head[-1][0]
        return over_positions(map_, fc6.shape[2], len(fc8), self._scores)

    def _scores(self, windows: Float[Tensor, "n i j c s s"]) -> Float[Tensor, "r k"]:
        here, there = self._rows
        count = windows.shape[:3].numel()
        rows = here.take(*windows.shape).copy_(windows).view(count, -1)
        for number, (weight, bias) in enumerate(self._head, start=6):
            here, there = there, here
            rows = self.kernel.fully_connected(
                rows, weight.reshape(len(weight), -1), bias, rectify=number < 8, result=here, work=self._work
            )
        return rows


def _stage(kernel: Kernel, layer: Folded) -> _Stage:
    packed = kernel.pack(layer.weight, layer.bias, layer.factor, padded=layer.weight.shape[1] != 3)
    return _Stage(packed, layer.pool, layer.normalise)
