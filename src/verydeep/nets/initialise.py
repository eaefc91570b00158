"""The random initialisations by name: Gaussian, Glorot, Kaiming, centred."""

import math
from collections.abc import Callable

from torch import Generator, Tensor, nn

from verydeep.errors import UsageError
from verydeep.paper import constants

_MEAN_TAKEN_OUT = 0.5
"""Share of the mean of each filter that ``centred`` takes out; were it 1, gradients would grow from layer to layer."""

Initialise = Callable[[Tensor, bool, Generator | None], object]
"""Fills a weight in place; the second argument says whether it belongs to a fully connected layer."""


def _gaussian(weight: Tensor, fully_connected: bool, generator: Generator | None) -> None:
    nn.init.normal_(weight, 0, constants.GAUSSIAN_STD, generator)


def _gaussian_variance(weight: Tensor, fully_connected: bool, generator: Generator | None) -> None:
    nn.init.normal_(weight, 0, math.sqrt(constants.GAUSSIAN_STD), generator)


def _glorot(weight: Tensor, fully_connected: bool, generator: Generator | None) -> None:
    nn.init.xavier_normal_(weight, generator=generator)


def _glorot_uniform(weight: Tensor, fully_connected: bool, generator: Generator | None) -> None:
    nn.init.xavier_uniform_(weight, generator=generator)


def _kaiming(weight: Tensor, fully_connected: bool, generator: Generator | None) -> None:
    if fully_connected:
        nn.init.normal_(weight, 0, constants.GAUSSIAN_STD, generator)
    else:
        nn.init.kaiming_normal_(weight, mode="fan_out", nonlinearity="relu", generator=generator)


def _centred(weight: Tensor, fully_connected: bool, generator: Generator | None) -> None:
    if fully_connected:
        nn.init.normal_(weight, 0, weight[0].numel() ** -0.5, generator)
        return
    _kaiming(weight, fully_connected, generator)
    # of what follows a ReLU, 1/pi of the mean square is the square of the mean
    kept = 1 - (1 - (1 - _MEAN_TAKEN_OUT) ** 2) / math.pi
    weight.sub_(_MEAN_TAKEN_OUT * weight.mean((1, 2, 3), keepdim=True)).div_(math.sqrt(kept))


INITIALISATIONS: dict[str, Initialise] = {
    "gaussian": _gaussian,
    "gaussian-variance": _gaussian_variance,
    "glorot": _glorot,
    "glorot-uniform": _glorot_uniform,
    "kaiming": _kaiming,
    "centred": _centred,
}
"""The initialisations by name.

``gaussian``: normal with standard deviation 0.01, as the paper's first nets. ``gaussian-variance``: the paper's wording
taken literally, variance 0.01. ``glorot``: Glorot and Bengio (2010), found by the authors to need no pre-training, as a
normal distribution. ``glorot-uniform``: the same variance, uniform, as in Glorot and Bengio. ``kaiming``: He et al.
(2015), fan-out, the fully connected layers normal with standard deviation 0.01.
``centred``: the same with half of the mean of each filter taken out, and fully connected layers whose variance is one
over their inputs. In a deep plain net the ReLUs leave all images nearly one positive vector, which centred filters
damp; and 0.01 is too small for the narrow layers of a small net, whose scores would not depend on the image at all.
All leave the biases zero.

Choice: ``glorot``, that of the recipe ``paper``, is normal, since the paper says Gaussian of its other weights.

Paper: section 3.1.
"""


def find_initialisation(name: str) -> Initialise:
    """Returns the initialisation of a name."""
    if name not in INITIALISATIONS:
        raise UsageError(f"unknown initialisation {name!r}: choose one of {', '.join(INITIALISATIONS)}")
    return INITIALISATIONS[name]
