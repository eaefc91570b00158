"""What the configuration of a Keras model says of its layers: looked at as JSON, and nothing made of it."""

from collections.abc import Iterable
from typing import Any, Final

from verydeep.convnets.architecture import ARCHITECTURES
from verydeep.mistakes import MistakeError

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
    """Checks strides, padding, activations, layout and poolings of a model, where its file tells them.

    Raises:
        MistakeError: one is none of a VGG.
    """
    blocks = [0]
    for layer in layers:
        what = f"{name}: layer {layer.get('name')}"
        if layer.get("data_format") == "channels_first":
            raise MistakeError(f"{what} is channels_first, and only channels_last files are read")
        if layer["class"] in ("Conv2D", "Convolution2D"):
            blocks[-1] += 1
            for key, value in _CONVOLUTION.items():
                if layer.get(key, value) != value:
                    raise MistakeError(f"{what} has {key} {layer[key]}, and a VGG has {value}")
        elif layer["class"] == "MaxPooling2D":
            blocks.append(0)
            if layer.get("pool_size", [2, 2]) != [2, 2]:
                raise MistakeError(f"{what} pools {layer['pool_size']}, and a VGG [2, 2]")
    if blocks[:-1] not in [[len(block) for block in row.blocks] for row in ARCHITECTURES.values()] or blocks[-1]:
        raise MistakeError(
            f"{name}: its {sum(blocks)} convolutions and {len(blocks) - 1} poolings are no VGG's in order"
        )
