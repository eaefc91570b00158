"""The head of a third-party file: read where it is one that our nets have, else left out by name.

One rule for every kind of file. Readers hand over the convolutions, and the layers that follow them in order; a head of
ours is fc6, fc7 and fc8, or one fully connected layer on the mean of the last map. Any other, whatever it is made of,
leaves a net of convolutions only, and says the names that its layers have in the file.
"""

import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Final

import torch
from torch import Tensor

from verydeep.errors import UserError
from verydeep.weights.imported import ImportedWeights, find_net, last_channels
from verydeep.weights.layer_order import HeadKind, HeadLayer, as_convolution

_LETTERS: Final[dict[HeadKind, str]] = {
    "average pooling": "a",
    "flattening": "f",
    "fully connected layer": "c",
    "ReLU": "r",
    "soft-max": "s",
    "nothing": "",
    "another layer": "x",
}
_PAPER: Final = re.compile("f*cf*rf*cf*rf*[af]*c[af]*s?")  # the mean of a score map is what our nets take too
_LINEAR: Final = re.compile("[af]*c[af]*s?")  # before or after the layer, the mean is the same


def with_head(found: ImportedWeights, layers: Sequence[HeadLayer]) -> ImportedWeights:
    """Adds the head of a file to its convolutions, or leaves it out.

    Args:
        found: the convolutions.
        layers: what follows them in the file.
    """
    found = replace(found, head_names=tuple(dict.fromkeys(layer.name for layer in layers)))
    if all(layer.kind == "nothing" for layer in layers):
        return found
    try:
        whole = replace(found, tensors=found.tensors | _read(layers, last_channels(found.tensors)))
        find_net(whole.tensors)
    except UserError as error:
        return replace(found, reason=str(error))
    return whole


def _read(layers: Sequence[HeadLayer], channels: int) -> dict[str, Tensor]:
    """Reads the weights of a head by our names, or raises UserError."""
    kinds = "".join(_LETTERS[layer.kind] for layer in layers)
    connected = [layer for layer in layers if layer.kind == "fully connected layer"]
    names: tuple[str, ...]
    if _PAPER.fullmatch(kinds):
        names = ("fc6", "fc7", "fc8")
    elif _LINEAR.fullmatch(kinds):
        names = ("fc8",)
    else:
        raise UserError("it is neither fc6, fc7 and fc8 nor one linear layer on the mean of the last map")
    tensors: dict[str, Tensor] = {}
    for name, layer in zip(names, connected, strict=True):
        weight = layer.weight
        if weight is None or weight.ndim not in (2, 4):
            raise UserError(f"{layer.name} has no matrix")
        if weight.ndim == 2:
            inputs = channels if layer is connected[0] else weight.shape[1]
            convolution = as_convolution(weight, inputs, layer.order)
            if convolution is None:
                raise UserError(f"{layer.name} takes {weight.shape[1]:,} numbers, no square map of {inputs} channels")
            weight = convolution
        if name == "fc8" and len(weight) == 1:
            raise UserError(f"{layer.name} gives one score, and classes need two")
        tensors[f"{name}.weight"] = weight
        tensors[f"{name}.bias"] = torch.zeros(len(weight)) if layer.bias is None else layer.bias.reshape(-1)
    return tensors
