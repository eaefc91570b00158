"""The first weights of new fully connected layers: what the channels of each position of the map say of the box.

Some hundred images cannot feed the millions of weights of a random fc6. But every image has as many positions as its
map, and of each it is known how much of it the object covers, so that a linear function of the 512 channels is fitted
to that by least squares. fc6 applies it at every position; fc7 and fc8 learn the box from these maps of the object.

Paper: appendix A; this beginning is our addition.
"""

from collections.abc import Sequence
from typing import Final

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from verydeep.localisation.maps import BoxMaps
from verydeep.nets.net import VeryDeep

_PENALTY: Final = 0.003
"""Of the squared weights, by the mean square of a channel."""

_LEAST_SPREAD: Final = 1e-3

_WITHIN: Final = 0.5
"""Share of a position that an object covers at least where its distances count."""

_MOST_CLASSES: Final = 20
"""Classes up to which each has functions of its own."""


def num_functions(num_classes: int) -> int:
    """How many functions of the channels of a position fc6 begins with, where it has the room."""
    return 5 + (num_classes if 1 < num_classes <= _MOST_CLASSES else 0)


def begin_from_cells(net: VeryDeep, stored: BoxMaps, num_classes: int) -> int:
    """Sets fc6 to the fitted functions at every position; returns how many functions there are.

    The share of the position that an object covers; of several classes that share once more for each, 0 in images of
    another class; and within the object the distances to the sides of its box. As many of them as fc6 has channels for.
    Outputs are scaled to a standard deviation of 1 over the views; channels that are left over stay silent.
    """
    side, hidden = net.geometry.head_kernel, net.geometry.hidden_channels
    shares = [
        covered(view, targets[:, 0].long(), num_classes)
        for view, targets in zip(stored.shares, stored.targets, strict=True)
    ]
    sides = [distances(targets[:, 1:], side) for targets in stored.targets]
    within = [(view > _WITHIN).float() for view in stored.shares]
    fitted = fit_cells(stored.maps, shares), fit_cells(stored.maps, sides, within)
    weights = torch.cat(fitted)[: hidden // side**2]
    count = len(weights)
    fc6, bias = net.get_parameter("fc6.weight"), net.get_parameter("fc6.bias")
    with torch.no_grad():
        fc6.zero_()
        bias.zero_()
        for number, (*weight, shift) in enumerate(weights.tolist()):
            for row in range(side):
                for column in range(side):
                    unit = (number * side + row) * side + column
                    fc6[unit, :, row, column] = torch.tensor(weight)
                    bias[unit] = shift
        outputs = torch.cat([_relu6(net, part) for view in stored.maps for part in view.split(256)])
        spread = outputs.std(0).clamp(min=_LEAST_SPREAD)[: count * side**2]
        fc6[: len(spread)] /= spread[:, None, None, None]
        bias[: len(spread)] /= spread
    return count


def _relu6(net: VeryDeep, maps: Tensor) -> Float[Tensor, "n h"]:
    fc6, bias = net.get_parameter("fc6.weight"), net.get_parameter("fc6.bias")
    found: Tensor = torch.nn.functional.linear(maps.to(fc6.device, fc6.dtype).flatten(1), fc6.flatten(1), bias).relu()
    return found


def covered(shares: Float[Tensor, "n s s"], labels: Int64[Tensor, "n"], num_classes: int) -> Float[Tensor, "n m s s"]:
    """The share of each position that an object covers; of several classes once more for each of them."""
    classes = range(num_classes) if 1 < num_classes <= _MOST_CLASSES else ()
    of_classes = [shares * (labels == label)[:, None, None] for label in classes]
    return torch.stack([shares, *of_classes], 1)


def distances(codes: Float[Tensor, "n 4"], side: int) -> Float[Tensor, "n 4 s s"]:
    """How far the sides of the box (left, top, right, bottom) are from the middle of each position, by the crop."""
    middles = (torch.arange(side) + 0.5) / side
    low, high = codes[:, :2] - codes[:, 2:] / 2, codes[:, :2] + codes[:, 2:] / 2
    left, right = (middles - low[:, [0]]), (high[:, [0]] - middles)
    top, bottom = (middles - low[:, [1]]), (high[:, [1]] - middles)
    across = [one[:, None, :].expand(-1, side, -1) for one in (left, right)]
    down = [one[:, :, None].expand(-1, -1, side) for one in (top, bottom)]
    return torch.stack([across[0], down[0], across[1], down[1]], 1)


def fit_cells(
    maps: Sequence[Float[Tensor, "_ c s s"]],
    wanted: Sequence[Float[Tensor, "_ m s s"]],
    weights: Sequence[Float[Tensor, "_ s s"]] | None = None,
) -> Float[Tensor, "m _"]:
    """Fits linear functions of the channels of one position, and a constant, by least squares over all positions."""
    channels = maps[0].shape[1]
    gram = torch.zeros(channels + 1, channels + 1, dtype=torch.float64)
    moments = torch.zeros(channels + 1, wanted[0].shape[1], dtype=torch.float64)
    counts = [torch.ones_like(target[:, 0]) for target in wanted] if weights is None else weights
    for map_, target, count in zip(maps, wanted, counts, strict=True):
        for part, aims, counted in zip(map_.split(256), target.split(256), count.split(256), strict=True):
            rows = part.float().permute(0, 2, 3, 1).reshape(-1, channels)
            rows = torch.cat([rows, torch.ones(len(rows), 1)], 1)
            weighed = rows * counted.reshape(-1, 1)
            gram += (weighed.T @ rows).double()
            moments += (weighed.T @ aims.permute(0, 2, 3, 1).reshape(len(rows), -1)).double()
    penalty = torch.full((channels + 1,), _PENALTY * float(gram.diagonal()[:-1].mean()), dtype=torch.float64)
    penalty[-1] = 0
    found: Tensor = torch.linalg.solve(gram + penalty.diag(), moments).T.float()
    return found
