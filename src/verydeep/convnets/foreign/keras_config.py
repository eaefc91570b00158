"""What the configuration of a Keras model says of its layers: looked at as JSON, and nothing made of it."""

from collections.abc import Iterable
from typing import Any, Final

from verydeep.convnets.architecture import ARCHITECTURES
from verydeep.mistakes import MistakeError

_WITHOUT_NUMBERS: Final = ("InputLayer", "Dropout", "Flatten")
"""Layers that change no number of what goes through them."""

_POOLED: Final = ("GlobalAveragePooling2D", "GlobalMaxPooling2D")
"""Layers that may end a net of convolutions alone, which is read without them."""

_POOLING: Final = {"pool_size": [2, 2], "strides": [2, 2]}  # padding has no effect at sides that are even
_CONVOLUTION: Final = {"strides": [1, 1], "padding": "same", "dilation_rate": [1, 1], "groups": 1, "activation": "relu"}


def configured_layers(config: Any) -> list[dict[str, Any]]:  # noqa: ANN401 - whatever the JSON holds
    """Gives class and settings of every layer in the order of the configuration, those of nested models in place."""
    found: list[dict[str, Any]] = []
    waiting = [config]
    while waiting:
        item = waiting.pop()
        settings = item.get("config") if isinstance(item, dict) else None
        nested = settings.get("layers") if isinstance(settings, dict) else None
        if isinstance(nested, list):
            waiting.extend(reversed(nested))
        elif isinstance(settings, dict):
            found.append({"class": item.get("class_name"), **settings})
    return found


def check_layers(layers: Iterable[dict[str, Any]], name: str) -> None:
    """Checks classes, strides, padding, activations, layout and poolings of a model, where its file tells them.

    Raises:
        MistakeError: one is none of a VGG.
    """
    layers = list(layers)
    dense = [layer for layer in layers if layer["class"] == "Dense"]
    blocks = [0]
    for layer in layers:
        what = f"{name}: layer {layer.get('name')}"
        if layer.get("data_format") == "channels_first":
            raise MistakeError(f"{what} is channels_first, and only channels_last files are read")
        if layer["class"] in ("Conv2D", "Convolution2D"):
            blocks[-1] += 1
            _check(layer, _CONVOLUTION, what)
        elif layer["class"] == "MaxPooling2D":
            blocks.append(0)
            _check({key: value for key, value in layer.items() if value is not None}, _POOLING, what)
        elif layer["class"] == "Dense":
            wanted = ("linear", "softmax") if layer is dense[-1] else ("relu",)
            if layer.get("activation", wanted[0]) not in wanted:
                raise MistakeError(f"{what} has activation {layer['activation']}, and a VGG has {' or '.join(wanted)}")
        elif layer["class"] not in _WITHOUT_NUMBERS and not (layer["class"] in _POOLED and not dense):
            raise MistakeError(
                f"{what} is a {layer['class']}, which no VGG has: save the model without it (what it does to the "
                "pixels can be given by --mean and --divisor)"
            )
    if blocks[:-1] not in [[len(block) for block in row.blocks] for row in ARCHITECTURES.values()] or blocks[-1]:
        raise MistakeError(
            f"{name}: its {sum(blocks)} convolutions and {len(blocks) - 1} poolings are no VGG's in order"
        )


def _check(layer: dict[str, Any], wanted: dict[str, Any], what: str) -> None:
    for key, value in wanted.items():
        if layer.get(key, value) != value:
            raise MistakeError(f"{what} has {key} {layer[key]}, and a VGG has {value}")
