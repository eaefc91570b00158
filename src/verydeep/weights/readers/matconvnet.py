"""Reads the .mat files of MatConvNet, such as imagenet-vgg-verydeep-16, without MATLAB and without MatConvNet."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from verydeep.errors import UserError
from verydeep.nets.net import IMAGENET_MEAN
from verydeep.weights.heads import with_head
from verydeep.weights.imported import ImportedWeights, Triple, as_triple
from verydeep.weights.layer_order import LayerOrder, as_tensor
from verydeep.weights.readers.mat5 import MatError, Value, mat_format, read_mat5
from verydeep.weights.readers.protobuf import WireError

_REMEDY: Final = "give a .mat of MatConvNet, whole, such as imagenet-vgg-verydeep-16.mat"
_WITHOUT_EFFECT: Final = {"dropout", "softmax", "softmaxloss", "loss", "custom"}
_DAG_TYPES: Final = {
    "dagnn.Conv": "conv",
    "dagnn.BatchNorm": "bnorm",
    "dagnn.ReLU": "relu",
    "dagnn.Pooling": "pool",
    "dagnn.DropOut": "dropout",
    "dagnn.SoftMax": "softmax",
    "dagnn.Loss": "loss",
}

Array = NDArray[np.generic]


@dataclass(frozen=True, kw_only=True)
class _Layer:
    """A layer in the words of simplenn."""

    name: str
    type: str
    weights: list[Value]  # filters and biases, or multipliers, biases and moments
    settings: dict[str, Value] = field(repr=False)

    def number(self, key: str, default: float) -> float:
        """A setting that is one number, or several that are equal."""
        value = self.settings.get(key)
        if not isinstance(value, np.ndarray) or not value.size:
            return default
        first = float(value.flat[0])
        return first if bool((value == value.flat[0]).all()) else float("nan")

    def whole(self, key: str, default: int) -> int:
        """The same, below 1000; -1 for any other."""
        number = self.number(key, default)
        return int(number) if number in range(1000) else -1


def is_matconvnet(file: Path) -> bool:
    """Whether a file is one of MATLAB's; what it holds is looked at once, by ``read``."""
    return mat_format(file) is not None


def read_matconvnet(file: Path) -> ImportedWeights:
    """Reads a net of MatConvNet: simplenn in its old layout and in that of beta16 and later, or a DagNN chain."""
    found = mat_format(file)
    if found == "7.3":
        raise UserError(f"{file} is of MATLAB's format 7.3: load it in MATLAB or Octave and write it with save -v7")
    if found is None:
        raise UserError(f"{file} is no file of MATLAB's format 5: {_REMEDY}")
    try:
        net = _net(read_mat5(file))
    except (MatError, WireError, OSError) as error:
        raise UserError(f"{file} is no file of MATLAB, or is damaged ({error}): {_REMEDY}") from error
    if "layers" not in net:
        raise UserError(f"{file} has no variable 'layers' or 'net' of MatConvNet: {_REMEDY}")
    order = LayerOrder()
    for layer in _layers(net):
        _take(order, layer)
    tensors = order.finish()
    meta = _struct(net.get("meta"))
    normalization = _struct(meta.get("normalization") or net.get("normalization"))
    mean, divisor, convention = _find_input(normalization)
    convolutions = ImportedWeights(
        kind="MatConvNet",
        tensors=tensors,
        mean=mean,
        divisor=divisor,
        convention=convention,
        classes=_find_classes(_struct(meta.get("classes") or net.get("classes"))),
    )
    return with_head(convolutions, order.head)


def _net(variables: dict[str, Value]) -> dict[str, Value]:
    """The fields of the net: variables of their own, or those of a variable ``net``."""
    return variables if "layers" in variables else _struct(variables.get("net"))


def _struct(value: Value) -> dict[str, Value]:
    return value if isinstance(value, dict) else {}


def _items(value: Value) -> list[Value]:
    """A cell or an array of structs; one struct alone is an array of one."""
    return value if isinstance(value, list) else [] if value is None else [value]


def _layers(net: dict[str, Value]) -> Iterator[_Layer]:
    parameters = {str(_struct(item).get("name")): _struct(item).get("value") for item in _items(net.get("params"))}
    for number, item in enumerate(_items(net.get("layers")), start=1):
        fields = _struct(item)
        name, kind = fields.get("name"), fields.get("type")
        name = name if isinstance(name, str) else f"layer{number}"
        if not isinstance(kind, str):
            raise UserError(f"layer {name!r} has no type: {_REMEDY}")
        if kind in _DAG_TYPES:
            weights = [parameters.get(str(key)) for key in _items(fields.get("params"))]
            yield _Layer(name=name, type=_DAG_TYPES[kind], weights=weights, settings=_struct(fields.get("block")))
            continue
        weights = _items(fields.get("weights"))
        if not weights and "filters" in fields:
            weights = [fields["filters"], fields.get("biases")]
        yield _Layer(name=name, type=kind, weights=weights, settings=fields)


def _take(order: LayerOrder, layer: _Layer) -> None:
    match layer.type:
        case "conv":
            # (y,x,i,o), and a matrix where MATLAB drops the last sizes of one
            filters = _array(layer, 0)
            filters = filters.reshape(filters.shape + (1,) * (4 - filters.ndim))
            bias = _array(layer, 1) if len(layer.weights) > 1 else None
            order.convolution(
                layer.name,
                as_tensor(filters.transpose(3, 2, 0, 1)),
                as_tensor(bias.reshape(-1)) if bias is not None and bias.size else None,
                padding=layer.whole("pad", 0),
                stride=layer.whole("stride", 1),
                dilation=layer.whole("dilate", 1),
            )
        case "bnorm":
            _take_batch_norm(order, layer)
        case "relu":
            order.relu(layer.name, slope=layer.number("leak", 0))
        case "pool":
            _take_pooling(order, layer)
        case kind if kind not in _WITHOUT_EFFECT:
            what = f"layer {layer.name!r} is of type {kind!r}, which no net of Table 1 has"
            order.another(layer.name, UserError(what))


def _take_batch_norm(order: LayerOrder, layer: _Layer) -> None:
    """Its moments are the mean and the root of variance and epsilon together."""
    scale, shift, moments = (as_tensor(_array(layer, index)).double() for index in range(3))
    if moments.ndim != 2 or moments.shape[1] != 2:
        raise UserError(f"batch norm {layer.name!r} has moments of shape {tuple(moments.shape)}, not (c, 2)")
    order.batch_norm(layer.name, scale, shift, moments[:, 0], moments[:, 1] ** 2, epsilon=0)


def _take_pooling(order: LayerOrder, layer: _Layer) -> None:
    pad = layer.settings.get("pad")
    # an extra row and column at the end is how MatConvNet rounds up as Caffe does: nothing at multiples of 32
    rounds_up = isinstance(pad, np.ndarray) and pad.ravel().tolist() == [0, 1, 0, 1]
    key = "pool" if "pool" in layer.settings else "poolSize"
    order.pooling(
        layer.name,
        kernel=layer.whole(key, 0),
        stride=layer.whole("stride", 1),
        padding=0 if rounds_up else layer.whole("pad", 0),
        maximum=layer.settings.get("method", "max") == "max",
    )


def _array(layer: _Layer, index: int) -> Array:
    value = layer.weights[index] if index < len(layer.weights) else None
    if not isinstance(value, np.ndarray) or value.ndim > 4 or value.dtype.kind not in "fiu":
        raise UserError(f"layer {layer.name!r} has no numbers as its weights {index + 1}: {_REMEDY}")
    return value if value.dtype.kind == "f" else value.astype(np.float32)


def _find_input(normalization: dict[str, Value]) -> tuple[Triple, Triple, str]:
    image = normalization.get("averageImage")
    if not isinstance(image, np.ndarray) or not image.size:
        return IMAGENET_MEAN, (1, 1, 1), "RGB in 0..255 minus the mean (not in the file: the published one of ImageNet)"
    if image.size != 3 and (image.ndim != 3 or image.shape[2] != 3):
        raise UserError(f"its averageImage has the shape {image.shape}, and no three channels")
    pixels = image.reshape(-1, 3).astype(np.float64)
    mean, spread = pixels.mean(0), float(np.ptp(pixels, axis=0).max())
    deviation = normalization.get("imageStd")
    divisor, whole = np.ones(3), 1.0
    if isinstance(deviation, np.ndarray) and deviation.size == 3:
        divisor = deviation.reshape(3).astype(np.float64)
    if 0 < mean.max() <= 1:
        whole = 255.0
    if not np.isfinite([mean, divisor]).all() or not (divisor > 0).all():
        raise UserError("its averageImage or imageStd has no usable numbers")
    words = f"RGB in 0..{255 / whole:g} minus the file's mean" + (" image" if len(pixels) > 1 else "")
    if spread * whole > 0.5:
        words += f" (its mean pixel here; it varies by up to {spread * whole:.3g} grey levels over the image)"
    if divisor.tolist() != [1, 1, 1]:
        words += ", divided by its deviation"
    return as_triple(mean * whole), as_triple(divisor * whole), words


def _find_classes(classes: dict[str, Value]) -> tuple[str, ...] | None:
    for key in ("description", "name"):
        names = _items(classes.get(key))
        if names and all(isinstance(name, str) and name for name in names):
            return tuple(str(name) for name in names)
    return None
