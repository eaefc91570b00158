"""What a Keras model's configuration says that its weights do not: other layers, settings, a scaling of the pixels."""

import math
from collections.abc import Iterator, Sequence
from itertools import takewhile
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from verydeep.errors import UserError
from verydeep.nets.architecture import ARCHITECTURES
from verydeep.paper import constants
from verydeep.weights.imported import MeanAndDivisor, mean_and_divisor

_KINDS: Final = {
    "InputLayer": "",
    "Rescaling": "scaling",
    "Conv2D": "convolution",
    "Convolution2D": "convolution",
    "Activation": "",
    "ReLU": "relu",
    "MaxPooling2D": "pooling",
    "GlobalAveragePooling2D": "global pooling",
    "GlobalMaxPooling2D": "global pooling",
    "Flatten": "flattening",
    "Dropout": "",
    "Dense": "dense layer",
}
"""What each known class of layer does, apart from its activation: nothing, where there is no word."""

_CONVOLUTION: Final[dict[str, tuple[Any, ...]]] = {
    "strides": ([1, 1],),
    "padding": ("same",),
    "dilation_rate": ([1, 1],),
    "groups": (1,),
    "activation": ("relu", "linear", None),
    "subsample": ([1, 1],),  # the words of Keras 1
    "border_mode": ("same",),
}
_SETTINGS: Final[dict[str, dict[str, tuple[Any, ...]]]] = {
    "Conv2D": _CONVOLUTION,
    "Convolution2D": _CONVOLUTION,
    "MaxPooling2D": {
        "pool_size": ([2, 2],),
        "strides": ([2, 2], None),
        "padding": ("valid", "same"),
        "border_mode": ("valid", "same"),
    },
    "Dense": {"activation": ("relu", "linear", "softmax", None)},
    "Activation": {"activation": ("relu", "linear", "softmax")},
    "ReLU": {"max_value": (None,), "negative_slope": (0, None), "threshold": (0, None)},
}
"""What the settings of a layer may be, the usual one first."""

_HEAD: Final = ["flattening", *["dense layer", "relu"] * 2, "dense layer"]
_NETS: Final = [
    [kind for block in row.blocks for kind in [*["convolution", "relu"] * len(block), "pooling"]] + ending
    for row in ARCHITECTURES.values()
    for ending in ([], ["global pooling"], _HEAD, [*_HEAD, "softmax"])
]


def check_config(config: Any) -> MeanAndDivisor | None:  # noqa: ANN401 - whatever the JSON holds
    """Refuses a model with a layer or a setting that changes the scores and that no VGG has.

    Returns:
        Those of the model's own scaling of the pixels; None where it has none.
    """
    layers = _configured_layers(config)
    steps = [step for layer in layers for step in _steps(layer)]
    scaled = [layer for layer in layers if layer["class"] == "Rescaling"]
    kinds = [kind for _, kind in steps[len(scaled) :]]
    if "scaling" in kinds:
        raise UserError(f"layer {scaled[-1].get('name')} scales what comes out of other layers: no VGG does")
    if kinds not in _NETS:
        alike = (takewhile(lambda pair: pair[0] == pair[1], zip(kinds, net, strict=False)) for net in _NETS)
        odd = steps[len(scaled) + max(len(list(pairs)) for pairs in alike) :]
        raise UserError(
            f"layer {odd[0][0]} is a {odd[0][1]} where no VGG has one" if odd else "it ends where no VGG does"
        )
    _check_sides(layers)
    return _input_of(scaled) if scaled else None


def _configured_layers(config: Any) -> list[dict[str, Any]]:  # noqa: ANN401 - as above
    """Lists class and settings of every layer in the order of the configuration, those of nested models in place."""
    found: list[dict[str, Any]] = []
    waiting = [config]
    while waiting:
        item = waiting.pop()
        settings = item.get("config") if isinstance(item, dict) else None
        nested = settings.get("layers") if isinstance(settings, dict) else None
        if isinstance(nested, list):
            waiting.extend(reversed(nested))
        elif isinstance(settings, dict):
            found.append({**settings, "class": item.get("class_name")})
    return found


def _steps(layer: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Name and kind of what a layer does, once its class and settings are those that a VGG has."""
    label, kind = str(layer.get("name")), layer["class"]
    if kind not in _KINDS:
        raise UserError(
            f"layer {label} is a {kind}, which no VGG has: save the model without it (what it does to the pixels can "
            "be given by --mean and --divisor)"
        )
    if layer.get("data_format") == "channels_first" or layer.get("dim_ordering") == "th":
        raise UserError(f"layer {label} is channels_first, and only channels_last files are read")
    for key, allowed in _SETTINGS.get(kind, {}).items():
        if layer.get(key, allowed[0]) not in allowed:
            raise UserError(f"layer {label} has {key} {str(layer[key])[:80]}, and a VGG has {allowed[0]}")
    if _KINDS[kind]:
        yield label, _KINDS[kind]
    if layer.get("activation") in ("relu", "softmax"):
        yield label, layer["activation"]


def _check_sides(layers: Sequence[dict[str, Any]]) -> None:
    """Lets poolings be padded where that changes nothing: where every one of them halves an even side."""
    poolings = [layer for layer in layers if layer["class"] == "MaxPooling2D"]
    if not any("same" in (layer.get("padding"), layer.get("border_mode")) for layer in poolings):
        return
    shapes = [layer[key] for layer in layers for key in ("batch_shape", "batch_input_shape") if layer.get(key)]
    sides = shapes[0][1:3] if shapes and isinstance(shapes[0], list) else [None]
    if not all(isinstance(side, int) and side % constants.TOTAL_STRIDE == 0 for side in sides):
        raise UserError(
            f"poolings have padding same, and images of sides {sides}: a VGG has padding valid, which is the same only "
            f"for multiples of {constants.TOTAL_STRIDE}"
        )


def _input_of(scaled: Sequence[dict[str, Any]]) -> MeanAndDivisor:
    """Takes together layers that make scale * x + offset, one after the other."""
    factor, added = np.ones(3), np.zeros(3)
    for layer in scaled:
        scale, offset = (_three(layer.get(key)) for key in ("scale", "offset"))
        with np.errstate(all="ignore"):  # whatever comes of it is checked below
            factor, added = factor * scale, added * scale + offset
    found = mean_and_divisor(factor, added)
    if found is None:
        layer = scaled[-1]
        raise UserError(
            f"layer {layer.get('name')} has scale {str(layer.get('scale'))[:80]} and offset "
            f"{str(layer.get('offset'))[:80]}: they are no mean and divisor of pixels"
        )
    return found


def _three(numbers: Any) -> NDArray[np.float64]:  # noqa: ANN401 - as above
    """One number for all colours, or one for each; NaN for anything else."""
    given = numbers if isinstance(numbers, list) and len(numbers) == 3 else [numbers] * 3
    return np.array([float(number) if isinstance(number, int | float) else math.nan for number in given])
