"""A net as a few operations: convolutions with their batch norm folded in, and fully connected layers."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float, Float64, Num
from torch import Tensor, nn

from verydeep.nets.architecture import layers
from verydeep.nets.net import VeryDeep
from verydeep.nets.small_maps import windows

_WINDOW_FLOATS = 2**26
"""Most floats that the windows of fc6 hold at once, one image at least: 256 MiB."""


@runtime_checkable
class Backend(Protocol):
    """Computes a net in float32. The next call may overwrite what a call has returned."""

    def features(self, images: Num[Tensor, "n 3 h w"]) -> Float[Tensor, "n c y x"]:
        """Computes the map after the last pooling, from RGB in 0..255, uint8 or float32, on the CPU."""
        ...

    def head(self, map_: Float[Tensor, "n c y x"]) -> Float[Tensor, "n k i j"]:
        """Computes the class score map from the map after the last pooling."""
        ...

    def score_map(self, images: Num[Tensor, "n 3 h w"]) -> Float[Tensor, "n k i j"]:
        """Computes the class score map from RGB in 0..255, uint8 or float32, on the CPU."""
        return self.head(self.features(images))


@dataclass(frozen=True, eq=False)
class Folded:
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
    weight: Float[Tensor, "k c s s"]
    factor: Float64[Tensor, "k"]
    bias: Float64[Tensor, "k"]
    normalise: bool
    pool: bool

    def scaled_weight(self) -> Float[Tensor, "k c s s"]:
        """The weight times its factor; the net's own where the factor is 1 everywhere."""
        if bool((self.factor == 1).all()):
            return self.weight.contiguous()
        return (self.weight.double() * self.factor[:, None, None, None]).float().contiguous()


def folded(net: VeryDeep) -> list[Folded]:
    """Returns the convolutions of a net in their order."""
    return [_fold(net, *names) for names in _names(net)]


def fully_connected(net: VeryDeep) -> list[tuple[Float[Tensor, "k c s s"], Float[Tensor, "k"]]]:
    """Returns weight and bias of each fully connected layer, the net's own; none where it has convolutions only."""
    found = []
    for layer in layers(net.geometry, features_only=net.features_only):
        if layer.kind == "fully-connected":
            module = net.get_submodule(layer.name)
            assert isinstance(module, nn.Conv2d)
            assert module.bias is not None
            found.append((module.weight.detach().contiguous(), module.bias.detach()))
    return found


def over_positions(
    map_: Float[Tensor, "n c y x"],
    kernel: int,
    num_classes: int,
    product: Callable[[Float[Tensor, "n i j c s s"]], Float[Tensor, "r k"]],
) -> Float[Tensor, "n k i j"]:
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
    scores = torch.empty(n, i, j, num_classes)
    for part in windows_by_parts(map_, kernel):
        scores[first : first + len(part)] = product(part).view(len(part), i, j, -1)
        first += len(part)
    return scores.permute(0, 3, 1, 2)


def windows_by_parts(map_: Float[Tensor, "n c y x"], kernel: int) -> Iterator[Float[Tensor, "m i j c s s"]]:
    """Yields views of the windows of fc6, of as many images at once as memory allows."""
    n, c, y, x = map_.shape
    at_once = max(1, _WINDOW_FLOATS // max(1, (y - kernel + 1) * (x - kernel + 1) * c * kernel**2))
    for first in range(0, n, at_once):
        yield windows(map_[first : first + at_once].permute(0, 2, 3, 1), kernel).permute(0, 1, 2, 5, 3, 4)


def _names(net: VeryDeep) -> list[tuple[str, str | None, bool, bool]]:
    """Name of each convolution, name of its batch norm, whether it is normalised, whether it is pooled."""
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


def _fold(net: VeryDeep, name: str, norm_name: str | None, normalise: bool, pool: bool) -> Folded:
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
    return Folded(name, convolution.weight.detach(), factor, bias, normalise, pool)
