"""Weights that are known by their first convolution, so that what was done to their pixels need not be guessed.

The authors' own D went into many programs and files, over RGB and over BGR, and few of them say which.
"""

from dataclasses import replace
from typing import Final

from safetensors import SafetensorError, safe_open
from torch import Tensor

from verydeep.nets.net import IMAGENET_MEAN
from verydeep.weights.imported import ImportedWeights
from verydeep.weights.published import SHIPPED_FOLDER

_FIRST: Final = "conv1_1.weight"
_MOST_DIFFERENCE: Final = 1e-3
"""Of the largest weight: half precision gives half of it."""


def with_known_input(found: ImportedWeights) -> ImportedWeights:
    """Replaces a guessed mean, divisor and order of channels where the first convolution is that of the authors' D."""
    first, known = found.tensors.get(_FIRST), _first_of_authors()
    if not found.is_guessed or first is None or known is None or first.shape != known.shape:
        return found
    tensors = found.tensors
    if _are_equal(first.flip(1), known):
        tensors = tensors | {_FIRST: first.flip(1)}
    elif not _are_equal(first, known):
        return found
    return replace(
        found,
        tensors=tensors,
        mean=IMAGENET_MEAN,
        divisor=(1.0, 1.0, 1.0),
        convention="that of the authors' own D, whose first convolution it has",
        is_guessed=False,
    )


def _are_equal(first: Tensor, known: Tensor) -> bool:
    return bool((first.float() - known).abs().max() < _MOST_DIFFERENCE * known.abs().max())


def _first_of_authors() -> Tensor | None:
    """Over RGB, from the net that ships; None where this copy of the package lacks it."""
    try:
        with safe_open(SHIPPED_FOLDER / "vgg16-features.safetensors", framework="pt") as opened:
            tensor: Tensor = opened.get_tensor(_FIRST).float()
    except (OSError, SafetensorError):
        return None
    return tensor
