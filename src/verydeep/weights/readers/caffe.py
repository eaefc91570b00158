"""Reads the .caffemodel files of Caffe, the authors' 16 and 19 layer nets among them, without Caffe."""

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import torch
from torch import Tensor

from verydeep.errors import UserError
from verydeep.nets.net import IMAGENET_MEAN
from verydeep.weights.heads import with_head
from verydeep.weights.imported import ImportedWeights, Triple
from verydeep.weights.layer_order import LayerOrder, as_tensor
from verydeep.weights.readers.protobuf import MOST_LAYERS, MOST_SETTINGS, Message, WireError, fields, map_file

_REMEDY: Final = "give a .caffemodel of Caffe, whole, such as the authors' VGG_ILSVRC_16_layers.caffemodel"


# numbers of the fields of a layer message, from caffe.proto
_V1: Final = {"name": 4, "type": 5, "blobs": 6, "conv": 10, "pool": 19, "relu": 30, "data": 36}
_TODAY: Final = {"name": 1, "type": 2, "blobs": 7, "conv": 106, "pool": 121, "relu": 123, "data": 100, "norm": 139}
_LAYERS: Final = {2: _V1, 100: _TODAY}  # fields of NetParameter: the authors' V1LayerParameter, and LayerParameter

_EMPTY: Final = Message(memoryview(b""))
_NET_FIELDS: Final = {1, 2, 3, 4, 5, 6, 7, 8, 100}

_V1_TYPES: Final = {
    1: "Accuracy",
    4: "Convolution",
    5: "Data",
    6: "Dropout",
    8: "Flatten",
    12: "ImageData",
    14: "InnerProduct",
    15: "LRN",
    17: "Pooling",
    18: "ReLU",
    20: "Softmax",
    21: "SoftmaxWithLoss",
    22: "Split",
    29: "MemoryData",
    32: "DummyData",
    36: "Silence",
}
_WITHOUT_EFFECT: Final = {
    *("Accuracy", "Data", "Dropout", "DummyData", "Flatten", "ImageData", "Input", "MemoryData", "Silence", "Softmax"),
    *("SoftmaxWithLoss", "Split"),
}


@dataclass(frozen=True, kw_only=True)
class _Layer:
    """A layer of the file: its settings stay a message, its numbers stay in the file."""

    name: str
    type: str  # as LayerParameter has it, also for layers of V1LayerParameter
    message: Message = _EMPTY
    schema: dict[str, int] = field(default_factory=dict)

    def weights(self) -> list[Tensor]:
        """The numbers of the layer in the shapes that the file gives them."""
        return [_read_blob(self.name, blob) for blob in self.message.messages(self.schema["blobs"])]

    def settings(self, kind: str) -> Message:
        """The message with the settings of the layer; an empty one in a file of weights alone."""
        return (self.message.messages(self.schema.get(kind, 0)) or [_EMPTY])[-1]


def _square(settings: Message, numbers: tuple[int, ...], default: int) -> int:
    """A setting for both axes, given once or for each in fields of their own; -1 where they differ."""
    found = {value for number in numbers for value in settings.integers(number)} or {default}
    return found.pop() if len(found) == 1 else -1


def is_caffe(file: Path) -> bool:
    """Whether a file begins as a NetParameter of Caffe does."""
    try:
        for number, value in fields(map_file(file)):
            if number in _LAYERS and isinstance(value, memoryview):
                schema = _LAYERS[number]
                layer = Message(value, MOST_SETTINGS)
                return schema["type"] in layer and bool(layer.text(schema["name"]))
            if number not in _NET_FIELDS or (number == 1 and isinstance(value, int)):
                return False
    except (WireError, OSError):
        pass
    return False


def read_caffe(file: Path) -> ImportedWeights:
    """Reads layers as Caffe has written them since 2014, V1LayerParameter or LayerParameter.

    The weights stay in the file, mapped into memory, until they are used.
    """
    try:
        layers = list(_layers(file))
        if not any(layer.type == "Pooling" for layer in layers):
            layers = list(_with_steps_between(layers))
        order = LayerOrder()
        _take(order, layers)
        mean, divisor, origin = _find_input(layers)
    except (WireError, OSError) as error:
        raise UserError(f"{file} is no net of Caffe, or is damaged ({error}): {_REMEDY}") from error
    tensors = order.finish()
    tensors["conv1_1.weight"] = tensors["conv1_1.weight"].flip(1)  # Caffe reads images through OpenCV: blue first
    convolutions = ImportedWeights(
        kind="Caffe",
        tensors=tensors,
        mean=mean,
        divisor=divisor,
        convention=f"BGR in 0..255 minus the mean ({origin}); turned to RGB here",
    )
    return with_head(convolutions, order.head)


def _layers(file: Path) -> Iterator[_Layer]:
    count = 0
    for number, value in fields(map_file(file)):
        if number not in _LAYERS or not isinstance(value, memoryview):
            continue
        count += 1
        if count > MOST_LAYERS:
            raise WireError(f"more than {MOST_LAYERS} layers")
        schema, message = _LAYERS[number], Message(value, MOST_SETTINGS)
        if schema is _V1 and 1 in message:
            raise WireError("its layers are those of Caffe before 2014; upgrade_net_proto_binary of Caffe renews them")
        if schema is _V1:
            type_number = message.integer(schema["type"], 0)
            kind = _V1_TYPES.get(type_number, f"number {type_number}")
        else:
            kind = message.text(schema["type"])
        yield _Layer(name=message.text(schema["name"]), type=kind, message=message, schema=schema)


def _take(order: LayerOrder, layers: list[_Layer]) -> None:
    scales = {index: layer for index, layer in enumerate(layers) if layer.type == "Scale"}
    for index, layer in enumerate(layers):
        match layer.type:
            case "Convolution":
                _take_convolution(order, layer)
            case "InnerProduct":
                weight, bias = _weight_and_bias(layer)
                order.connected(layer.name, weight.reshape(weight.shape[-2:]), bias)
            case "BatchNorm":
                _take_batch_norm(order, layer, scales.pop(index + 1, None))
            case "ReLU":
                order.relu(layer.name, slope=layer.settings("relu").number(1, 0))
            case "Pooling":
                _take_pooling(order, layer)
            case kind if index in scales or kind not in _WITHOUT_EFFECT | {"Scale"}:
                what = f"layer {layer.name!r} is of type {kind!r}, which no net of Table 1 has"
                order.another(layer.name, UserError(what))


def _with_steps_between(layers: list[_Layer]) -> Iterator[_Layer]:
    """Adds the ReLUs and poolings to a file of weights alone, whose names must then say where they are."""
    block = "1"
    weighted = [layer for layer in layers if layer.type not in _WITHOUT_EFFECT | {"ReLU"}]
    for index, layer in enumerate(weighted):
        found = re.fullmatch(r"(?:conv|bn|scale)(\d)_\d\S*|(fc)[678]\S*", layer.name)
        if not found and block in "56":  # of a head of its own, which nothing is known of
            yield from [_Layer(name="pool5", type="Pooling")] * (block == "5")
            yield from (_Layer(name=later.name, type="of a head") for later in weighted[index:])
            return
        if not found:
            raise UserError(f"it has no poolings, and the name {layer.name!r} does not say where its layer is")
        if (found[1] or "6") != block:
            yield _Layer(name=f"pool{block}", type="Pooling")
            block = found[1] or "6"
        yield layer
        following = weighted[index + 1].type if index + 1 < len(weighted) else ""
        if following not in ("BatchNorm", "Scale", ""):
            yield _Layer(name=f"relu of {layer.name}", type="ReLU")
    if block == "5":
        yield _Layer(name="relu", type="ReLU")


def _take_convolution(order: LayerOrder, layer: _Layer) -> None:
    weight, bias = _weight_and_bias(layer)
    settings = layer.settings("conv")
    order.convolution(
        layer.name,
        weight,
        bias,
        padding=_square(settings, (3, 9, 10), 0) if settings else None,
        stride=_square(settings, (6, 13, 14), 1),
        dilation=_square(settings, (18,), 1),
    )


def _take_pooling(order: LayerOrder, layer: _Layer) -> None:
    settings = layer.settings("pool")
    kernel = stride = 2  # where a file of weights alone says nothing
    if settings:
        kernel, stride = _square(settings, (2, 5, 6), 0), _square(settings, (3, 7, 8), 1)
    padding = _square(settings, (4, 9, 10), 0)
    order.pooling(layer.name, kernel=kernel, stride=stride, padding=padding, maximum=settings.integer(1, 0) == 0)


def _take_batch_norm(order: LayerOrder, layer: _Layer, scale: _Layer | None) -> None:
    """Takes Caffe's BatchNorm, which only normalises, with the Scale that follows it."""
    blobs = layer.weights()
    if len(blobs) != 3 or blobs[2].numel() != 1:
        raise UserError(f"batch norm {layer.name!r} has no mean, variance and their common factor")
    mean, variance, factor = blobs
    gain = 1 / factor.reshape(()) if factor.any() else torch.zeros(())
    given = scale.weights() if scale else []
    shift = given[1] if len(given) > 1 else None
    epsilon = layer.settings("norm").number(3, 1e-5)
    order.batch_norm(layer.name, given[0] if given else None, shift, mean * gain, variance * gain, epsilon)


def _weight_and_bias(layer: _Layer) -> tuple[Tensor, Tensor | None]:
    blobs = layer.weights()
    if len(blobs) not in (1, 2) or blobs[0].ndim < 2:
        shapes = ", ".join(str(tuple(blob.shape)) for blob in blobs) or "none"
        raise UserError(f"layer {layer.name!r} has no weights and biases, but numbers of the shapes: {shapes}")
    return blobs[0], blobs[1] if len(blobs) > 1 else None


def _read_blob(name: str, blob: Message) -> Tensor:
    numbers = blob.floats(8, "<f8") if 8 in blob else blob.floats(5)
    if 7 in blob:
        shape = [size for part in blob.messages(7) for size in part.integers(1)]
    else:
        shape = [blob.integer(axis, 1) for axis in (1, 2, 3, 4)]
    if len(shape) > 8 or min(shape, default=0) < 0 or math.prod(shape) != numbers.size:
        raise UserError(f"layer {name!r} says the shape {tuple(shape[:8])} and has {numbers.size} numbers")
    return as_tensor(numbers.reshape(shape)).float()


def _find_input(layers: list[_Layer]) -> tuple[Triple, Triple, str]:
    """The mean and divisor, RGB: of the data layer that the net was trained with, or as published."""
    for layer in layers:
        settings = layer.settings("data")
        means = settings.floats(5).tolist()
        if len(means) == 3:
            scale = settings.number(1, 1)
            blue, green, red = means
            if 0 < scale < math.inf and all(map(math.isfinite, means)):
                return (red, green, blue), (1 / scale,) * 3, f"of the file's layer {layer.name!r}"
    return IMAGENET_MEAN, (1.0, 1.0, 1.0), "not in the file: the published 103.939, 116.779, 123.68"
