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

_MOST_CLASSES: Final = 20
"""Classes up to which each has functions of its own."""


def num_functions(num_classes: int) -> int:
    """How many functions ``cell_targets`` asks for."""
    return 5 + (num_classes if 1 < num_classes <= _MOST_CLASSES else 0)


def begin_from_cells(net: VeryDeep, stored: BoxMaps, num_classes: int) -> int:
    """Sets fc6 to the fitted functions at every position; returns how many functions there are.

    As many as fc6 has channels for, in the order of ``cell_targets``. Outputs are scaled to a standard deviation of 1
    over the views; channels that are left over stay silent.
    """
    side, hidden = net.geometry.head_kernel, net.geometry.hidden_channels
    wanted = [
        cell_targets(shares, targets[:, 0].long(), num_classes)[:, : hidden // side**2]
        for shares, targets in zip(stored.shares, stored.targets, strict=True)
    ]
    weights = fit_cells(stored.maps, wanted)
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


def cell_targets(
    shares: Float[Tensor, "n s s"], labels: Int64[Tensor, "n"], num_classes: int
) -> Float[Tensor, "n m s s"]:
    """What each position of a map is to say.

    The share of it that an object covers; where there are several classes that share once more for each class; and how
    much larger than the share of the position to the left, above, to the right and below it is.
    """
    padded = torch.nn.functional.pad(shares, (1, 1, 1, 1))
    neighbours = padded[:, 1:-1, :-2], padded[:, :-2, 1:-1], padded[:, 1:-1, 2:], padded[:, 2:, 1:-1]
    steps = [(shares - beside).clamp(min=0) for beside in neighbours]
    classes = range(num_classes) if 1 < num_classes <= _MOST_CLASSES else ()
    of_classes = [shares * (labels == label)[:, None, None] for label in classes]
    return torch.stack([shares, *of_classes, *steps], 1)


def fit_cells(
    maps: Sequence[Float[Tensor, "n c s s"]], wanted: Sequence[Float[Tensor, "n m s s"]]
) -> Float[Tensor, "m d"]:
    """Fits linear functions of the channels of one position, and a constant, by least squares over all positions."""
    channels = maps[0].shape[1]
    gram = torch.zeros(channels + 1, channels + 1, dtype=torch.float64)
    moments = torch.zeros(channels + 1, wanted[0].shape[1], dtype=torch.float64)
    for map_, target in zip(maps, wanted, strict=True):
        for part, aims in zip(map_.split(256), target.split(256), strict=True):
            rows = part.float().permute(0, 2, 3, 1).reshape(-1, channels)
            rows = torch.cat([rows, torch.ones(len(rows), 1)], 1)
            gram += (rows.T @ rows).double()
            moments += (rows.T @ aims.permute(0, 2, 3, 1).reshape(len(rows), -1)).double()
    penalty = torch.full((channels + 1,), _PENALTY * float(gram.diagonal()[:-1].mean()), dtype=torch.float64)
    penalty[-1] = 0
    found: Tensor = torch.linalg.solve(gram + penalty.diag(), moments).T.float()
    return found
