"""What a Keras model's configuration says that its weights do not: other layers, settings, a scaling of the pixels."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import takewhile
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from verydeep.errors import UserError
from verydeep.nets.architecture import ARCHITECTURES
from verydeep.paper import constants
from verydeep.weights.imported import MeanAndDivisor, mean_and_divisor, whole_crop
from verydeep.weights.layer_order import HeadKind

_TRAINING_ONLY: Final = (
    *("RandomFlip", "RandomRotation", "RandomZoom", "RandomTranslation", "RandomContrast", "RandomBrightness"),
    *("RandomShear", "RandomHue", "RandomSaturation", "RandomGrayscale", "RandomSharpness", "RandomErasing"),
    *("RandomHeight", "RandomWidth", "RandomPosterization", "RandomColorJitter", "RandomColorDegeneration"),
    *("RandomGaussianBlur", "RandomInvert", "RandomPerspective", "AugMix", "RandAugment", "MixUp", "CutMix"),
    *("GaussianNoise", "GaussianDropout", "AlphaDropout", "SpatialDropout2D", "ActivityRegularization"),
)
"""Layers that do nothing outside of a training."""

_ARITHMETIC: Final = ("Add", "Subtract", "Multiply", "TrueDivide", "Divide")
"""Operations of a functional model with a number, or three: what preprocess_input becomes."""

_KINDS: Final = {
    **dict.fromkeys(_TRAINING_ONLY, ""),
    **dict.fromkeys(_ARITHMETIC, "scaling"),
    "GetItem": "channel",
    "Stack": "stacking",
    "Resizing": "",
    "Identity": "",
    "InputLayer": "",
    "Rescaling": "scaling",
    "Conv2D": "convolution",
    "Convolution2D": "convolution",
    "Activation": "",
    "ReLU": "relu",
    "MaxPooling2D": "pooling",
    "GlobalAveragePooling2D": "global pooling",
    "GlobalMaxPooling2D": "global max-pooling",
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

_OF_PIXELS: Final = ("scaling", "channel", "stacking")
_CONVOLUTIONS: Final = [
    [kind for block in row.blocks for kind in [*["convolution", "relu"] * len(block), "pooling"]]
    for row in ARCHITECTURES.values()
]
_HEAD_KINDS: Final[dict[str, HeadKind]] = {
    "relu": "ReLU",
    "softmax": "soft-max",
    "flattening": "flattening",
    "dense layer": "fully connected layer",
    "global pooling": "average pooling",
}


@dataclass(frozen=True, kw_only=True)
class Configured:
    """What the configuration of a model says.

    Attributes:
        scaling: of the pixels, by the model itself.
        is_bgr: whether the model turns red, green, blue into blue, green, red.
        crop: side of the images, pixels, where it says so.
        convolutions: names of the layers.
        head: names and kinds of the layers after them.
    """

    scaling: MeanAndDivisor | None = None
    is_bgr: bool = False
    crop: int | None = None
    convolutions: tuple[str, ...] = ()
    head: list[tuple[str, HeadKind]] = field(default_factory=list)


def read_config(config: Any) -> Configured:  # noqa: ANN401 - whatever the JSON holds
    """Reads a configuration; a layer or setting among the convolutions that no VGG has is refused."""
    layers = _configured_layers(config)
    steps: list[tuple[str, str]] = []
    ends: list[int] = []  # number of steps up to and with each layer
    problem = None
    for layer in layers:
        try:
            steps += _steps(layer)
        except UserError as error:
            problem = error
            break
        ends.append(len(steps))
    num_scaled = len(list(takewhile(lambda step: step[1] in _OF_PIXELS, steps)))
    kinds = [kind for _, kind in steps[num_scaled:]]
    count = _count_convolutional(kinds)
    if not count:
        raise problem or _mismatch(steps[num_scaled:], kinds)
    last = next(index for index, end in enumerate(ends) if end >= num_scaled + count)
    _check_sides(layers[: last + 1])
    scaled = [layer for layer in layers[: last + 1] if _KINDS[layer["class"]] == "scaling"]
    is_bgr = _turns_channels([layer for layer in layers[: last + 1] if _KINDS[layer["class"]] in _OF_PIXELS])
    head = [step for layer in layers[last + 1 :] for step in _head_steps(layer)]
    of_net = [layer for layer in layers if _KINDS.get(layer["class"]) not in _OF_PIXELS]
    if kinds[count - 1] != "pooling" or not _is_chain(of_net):
        head = [(name, "another layer") for name, _ in head]
    side = _sides(layers)
    return Configured(
        scaling=_input_of(scaled, is_bgr) if scaled else None,
        is_bgr=is_bgr,
        crop=whole_crop(side[0]) if len(side) == 2 and side[0] == side[1] and isinstance(side[0], int) else None,
        convolutions=tuple(name for name, kind in steps[num_scaled:][:count] if kind == "convolution"),
        head=head,
    )


def _count_convolutional(kinds: Sequence[str]) -> int:
    """Number of steps that are the convolutions of a net of Table 1, with its last pooling or without; else 0."""
    nets = [net[:end] for net in _CONVOLUTIONS for end in (len(net), -1)]
    return max((len(net) for net in nets if kinds[: len(net)] == net), default=0)


def _mismatch(steps: Sequence[tuple[str, str]], kinds: Sequence[str]) -> UserError:
    if late := [name for (name, _), kind in zip(steps, kinds, strict=False) if kind in _OF_PIXELS]:
        return UserError(f"layer {late[0]} scales what comes out of other layers: no VGG does")
    alike = (takewhile(lambda pair: pair[0] == pair[1], zip(kinds, net, strict=False)) for net in _CONVOLUTIONS)
    odd = steps[max(len(list(pairs)) for pairs in alike) :]
    return UserError(f"layer {odd[0][0]} is a {odd[0][1]} where no VGG has one" if odd else "it ends where no VGG does")


def _head_steps(layer: dict[str, Any]) -> list[tuple[str, HeadKind]]:
    name = str(layer.get("name"))
    try:
        kinds = [kind for _, kind in _steps(layer)]
    except UserError:
        return [(name, "another layer")]
    return [(name, _HEAD_KINDS.get(kind, "another layer")) for kind in kinds] or [(name, "nothing")]


def _is_chain(layers: Sequence[dict[str, Any]]) -> bool:
    """Whether each layer has one layer before it and no two have the same; a Sequential model says nothing of it."""
    sources = [tuple(_sources(layer["inbound"])) for layer in layers if layer["inbound"]]
    return all(len(names) == 1 for names in sources) and len(set(sources)) == len(sources)


def _sources(inbound: Any) -> Iterator[str]:  # noqa: ANN401 - whatever the JSON holds
    """Names of the layers that a layer takes: in the tensors of Keras 3, or first in the lists of Keras 2."""
    history = inbound.get("keras_history") if isinstance(inbound, dict) else inbound
    if isinstance(history, list) and history and isinstance(history[0], str):
        yield history[0]
    elif isinstance(inbound, dict | list):
        for part in inbound.values() if isinstance(inbound, dict) else inbound:
            yield from _sources(part)


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
            found.append({**settings, "class": item.get("class_name"), "inbound": item.get("inbound_nodes")})
    return found


def _steps(layer: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Name and kind of what a layer does, once its class and settings are those that a VGG has."""
    label, kind = str(layer.get("name")), layer["class"]
    if kind == "BatchNormalization":
        raise UserError(
            f"layer {label} is a BatchNormalization, and batch norms of Keras between convolutions are not read: "
            "model.export(FILE, format='onnx') gives a file that is"
        )
    if kind not in _KINDS:
        raise UserError(
            f"layer {label} is a {kind}, which no VGG has: save the model without it (what it does to the pixels can "
            "be given by --mean and --divisor)"
        )
    if layer.get("data_format") == "channels_first" or layer.get("dim_ordering") == "th":
        raise UserError(
            f"layer {label} is channels_first (Theano's order), and only channels_last files are read: save a model "
            "that is channels_last"
        )
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
    sides = _sides(layers) or [None]
    if not all(isinstance(side, int) and side % constants.TOTAL_STRIDE == 0 for side in sides):
        raise UserError(
            f"poolings have padding same, and images of sides {sides}: a VGG has padding valid, which is the same only "
            f"for multiples of {constants.TOTAL_STRIDE}"
        )


def _sides(layers: Sequence[dict[str, Any]]) -> list[Any]:
    """Height and width of the images, as the first layer that says a shape has them."""
    shapes = [layer[key] for layer in layers for key in ("batch_shape", "batch_input_shape") if layer.get(key)]
    return shapes[0][1:3] if shapes and isinstance(shapes[0], list) else []


def _turns_channels(layers: Sequence[dict[str, Any]]) -> bool:
    """Whether the channels are taken apart first, and stacked in the other order; else they stay as they are."""
    order = [_last_number(layer["inbound"]) for layer in layers if layer["class"] == "GetItem"]
    kinds = [layer["class"] for layer in layers]
    if not order and "Stack" not in kinds:
        return False
    if order != [2, 1, 0] or kinds[:4] != ["GetItem"] * 3 + ["Stack"] or layers[3].get("axis") not in (-1, 3):
        raise UserError("what it does to the channels of the pixels is not turning RGB to BGR, before all else")
    return True


def _last_number(inbound: Any) -> Any:  # noqa: ANN401 - whatever the JSON holds
    """The index by which an operation takes a channel."""
    try:
        return inbound[0]["args"][1][1]
    except (TypeError, LookupError):
        return None


def _operand(inbound: Any) -> Any:  # noqa: ANN401 - whatever the JSON holds
    """The number, or the three, that an operation takes besides the pixels, which come first."""
    try:
        value = inbound[0]["args"][1]
        value = value["config"]["value"] if isinstance(value, dict) else value
        while isinstance(value, list) and len(value) == 1:
            value = value[0]
    except (TypeError, LookupError):
        return None
    return value


def _scale_and_offset(layer: dict[str, Any]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    if layer["class"] == "Rescaling":
        return _three(layer.get("scale")), _three(layer.get("offset"))
    number = _three(_operand(layer["inbound"]))
    one, zero = np.ones(3), np.zeros(3)
    with np.errstate(all="ignore"):
        match layer["class"]:
            case "Add":
                return one, number
            case "Subtract":
                return one, -number
            case "Multiply":
                return number, zero
            case _:
                return one / number, zero


def _input_of(scaled: Sequence[dict[str, Any]], is_bgr: bool) -> MeanAndDivisor:
    """Takes together layers that make scale * x + offset, one after the other; gives RGB."""
    factor, added = np.ones(3), np.zeros(3)
    for layer in scaled:
        scale, offset = _scale_and_offset(layer)
        with np.errstate(all="ignore"):  # whatever comes of it is checked below
            factor, added = factor * scale, added * scale + offset
    found = mean_and_divisor(factor[::-1], added[::-1]) if is_bgr else mean_and_divisor(factor, added)
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
