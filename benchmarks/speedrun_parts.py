"""What helps a training of seconds: better first weights, an optimiser, averaged weights, squares cut out.

None of it is the paper's. Whitened patches, identity and an orthogonalising optimiser for convolutions are ideas of
Page and of Jordan (airbench); the optimiser itself is PyTorch's.
"""

import torch
import torch.nn.functional as F
from torch import Generator, Tensor, nn

from verydeep.nets.layers import Convolution
from verydeep.nets.net import VeryDeep


@torch.no_grad()
def whiten_first_layer(net: VeryDeep, images: Tensor) -> None:
    """Makes the first layer's filters the principal directions of image patches, and their negatives, and keeps them.

    A batch norm follows, so that each direction has the same spread: neighbouring pixels are almost the same, and
    gradient descent would take long to tell them apart. Filters beyond twice the directions stay random.

    Args:
        net: with batch norm; its first layer is not trained from now on.
        images: some training images, n,3,h,w uint8.
    """
    first = net.get_submodule("conv1_1")
    assert isinstance(first, Convolution)
    side = first.kernel_size[0]
    patches = F.unfold(net.normalise(images), side).transpose(1, 2).flatten(0, 1)
    covariance = (patches.T @ patches).double().cpu() / len(patches)
    directions = torch.linalg.eigh(covariance).eigenvectors.flip(1).T.reshape(-1, 3, side, side)
    both = torch.stack([directions, -directions], dim=1).flatten(0, 1)[: first.out_channels]
    first.weight[: len(both)] = both.to(first.weight)
    first.weight.requires_grad_(False)


@torch.no_grad()
def begin_as_identity(net: VeryDeep) -> None:
    """Lets the first filters of each convolution but the first pass their channels on unchanged."""
    for name, module in net.named_children():
        if isinstance(module, Convolution) and name != "conv1_1":
            nn.init.dirac_(module.weight[: module.in_channels])


def cut_out(images: Tensor, side: int, fill: Tensor, generator: Generator) -> Tensor:
    """Fills a square of each image at a random place, partly outside perhaps.

    Args:
        images: n,3,h,w.
        side: of the square, pixels.
        fill: a value for each channel.
        generator: of the device of the images.
    """
    inside = []
    for axis in (2, 3):
        length = images.shape[axis]
        centre = torch.randint(length, (len(images), 1), generator=generator, device=images.device)
        offset = torch.arange(length, device=images.device) - centre + side // 2
        inside.append((offset >= 0) & (offset < side))
    square = inside[0][:, None, :, None] & inside[1][:, None, None, :]
    return torch.where(square, fill.to(images.dtype)[:, None, None], images)


class Average:
    """An exponential average of a net's weights and batch norm statistics, taken every few updates.

    Args:
        net: whose weights.
        updates: over about how many updates.
        every: updates between two additions.
    """

    def __init__(self, net: nn.Module, updates: float, every: int = 5) -> None:
        self.share, self.every, self.seen = min(1.0, every / max(updates, 1.0)), every, 0
        self.held = [tensor.detach().clone() for tensor in self._floating(net)]

    @staticmethod
    def _floating(net: nn.Module) -> list[Tensor]:
        return [tensor for tensor in net.state_dict().values() if tensor.is_floating_point()]

    @torch.no_grad()
    def add(self, net: nn.Module) -> None:
        """Counts an update, and moves the average towards the net's weights when it is time."""
        self.seen += 1
        if self.seen % self.every == 0:
            # at first the weights run away from the start, which should be forgotten sooner
            share = max(self.share, 2 / (2 + self.seen / self.every))
            torch._foreach_lerp_(self.held, self._floating(net), share)

    @torch.no_grad()
    def give(self, net: nn.Module) -> None:
        """Puts the average into the net."""
        torch._foreach_copy_(self._floating(net), self.held)


class FlatMuon(torch.optim.Muon):
    """PyTorch's Muon for convolutions: each weight is seen as a matrix of one row for each output channel.

    Args:
        weights: k,c,s,s, each dense in memory; changed in place.
        momentum: of the gradients.
        weight_decay: decoupled.
    """

    def __init__(self, weights: list[Tensor], *, momentum: float, weight_decay: float) -> None:
        self.weights = weights
        self.matrices = [nn.Parameter(_flat(weight.detach(), weight)) for weight in weights]
        for weight, matrix in zip(weights, self.matrices, strict=True):
            assert weight.data_ptr() == matrix.data_ptr(), "a copy would not change the net"
        super().__init__(self.matrices, momentum=momentum, weight_decay=weight_decay, nesterov=True)

    def step(self, closure: None = None) -> None:  # type: ignore[override]  # no closure is taken here
        """Updates the weights by their gradients."""
        for weight, matrix in zip(self.weights, self.matrices, strict=True):
            assert weight.grad is not None
            matrix.grad = _flat(weight.grad, weight)
        super().step(closure)

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Forgets the gradients of the weights and of their matrices."""
        super().zero_grad(set_to_none)
        for weight in self.weights:
            weight.grad = None


def _flat(tensor: Tensor, weight: Tensor) -> Tensor:
    """A weight or its gradient as a matrix, columns in the order of the weight's memory: the weight is not copied."""
    last = weight.is_contiguous(memory_format=torch.channels_last)
    return (tensor.permute(0, 2, 3, 1) if last else tensor).flatten(1)
