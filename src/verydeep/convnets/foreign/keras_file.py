"""Weights of Keras: .h5 of Keras 1 and 2 (weights or whole models), .weights.h5 and .keras of Keras 3."""

import json
import re
import tempfile
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Final

import numpy as np
import torch
from torch import Tensor

from verydeep.convnets.foreign.found import ForeignWeights
from verydeep.convnets.foreign.hdf5 import MAGIC, MOST_EXPANSION, Contents, contents, opened, read_array
from verydeep.convnets.foreign.keras_config import Triple, check_layers, configured_layers
from verydeep.convnets.foreign.names import names_in_order
from verydeep.errors import UserError
from verydeep.nets.net import IMAGENET_MEAN

if TYPE_CHECKING:
    import h5py

WEIGHTS_MEMBER: Final = "model.weights.h5"
_CONFIG_MEMBER = "config.json"
_LARGEST_CONFIG = 2**24
_KERAS3_ARRAY = re.compile(r"(.*/)?layers/(?P<kind>conv2d|dense)(_(?P<number>\d+))?/vars/(?P<array>[01])")
_KERAS3_LAYER = re.compile(r"(.*/)?layers/(?P<kind>[^/]*?)(_\d+)?")
_KERAS3_KINDS: Final = {
    *("input_layer", "conv2d", "activation", "re_lu", "max_pooling2d", "global_average_pooling2d"),
    *("global_max_pooling2d", "flatten", "dropout", "dense", "functional", "sequential"),
}
"""Layers of a file of weights alone that say all that they do by being there."""

_ITS_OWN: Final = (
    "RGB in 0..255, scaled by the file's own Rescaling; the order and range are a guess (--mean, --divisor and --bgr "
    "say otherwise)"
)


@dataclass
class _Layer:
    """A layer of Keras with weights: its name, its kernel and its bias."""

    name: str
    kernel: np.ndarray
    bias: np.ndarray


def recognises(file: Path) -> bool:
    """Whether the file is HDF5, or a zip archive with Keras 3's members."""
    with file.open("rb") as start:
        first = start.read(8)
    if first == MAGIC:
        return True
    if first[:4] != b"PK\x03\x04":
        return False
    try:
        with zipfile.ZipFile(file) as archive:
            return _CONFIG_MEMBER in archive.namelist()
    except (zipfile.BadZipFile, ValueError, EOFError):
        return False


def read(file: Path) -> ForeignWeights:
    """Reads the kernels by name or, for Keras 3, by class and order; nothing of the model's configuration is run.

    Raises:
        UserError: h5py is not installed, the file is damaged or a bomb, or its layers are no VGG.
    """
    if not zipfile.is_zipfile(file):
        with opened(file, str(file)) as hdf5:
            layers, scaling = _layers_of(hdf5, str(file))
            _check_kinds(contents(hdf5, str(file)), str(file))
            return _foreign(layers, scaling)
    try:
        with zipfile.ZipFile(file) as archive:
            scaling = _check_config(archive, file)
            with tempfile.TemporaryFile() as unpacked:
                _unpack(archive, WEIGHTS_MEMBER, unpacked, file)
                with opened(unpacked, str(file)) as hdf5:
                    return _foreign(_layers_of(hdf5, str(file))[0], scaling)
    except (zipfile.BadZipFile, zipfile.LargeZipFile, EOFError, NotImplementedError) as error:
        raise UserError(f"{file} is a damaged .keras file ({error}): download it again") from error


def _unpack(archive: zipfile.ZipFile, member: str, into: IO[bytes], file: Path) -> None:
    """Copies a member, unless it claims or gives far more than the archive stores of it."""
    try:
        info = archive.getinfo(member)
    except KeyError:
        raise UserError(f"{file} has no {member}: only files that Keras 3 saved with h5 weights are read") from None
    stored = min(info.compress_size, file.stat().st_size)
    if info.file_size > MOST_EXPANSION * max(stored, 2**16):
        raise UserError(
            f"{file}: {member} claims {info.file_size:,} bytes where {stored:,} are stored: refused as a zip bomb"
        )
    left = info.file_size
    with archive.open(info) as source:
        while block := source.read(2**20):
            left -= len(block)
            if left < 0:
                raise UserError(f"{file}: {member} is longer than it claims: refused as a zip bomb")
            into.write(block)


def _check_config(archive: zipfile.ZipFile, file: Path) -> tuple[Triple, Triple] | None:
    """Refuses a model whose layers say something else than Table 1; gives what it does to the pixels by itself."""
    if archive.getinfo(_CONFIG_MEMBER).file_size > _LARGEST_CONFIG:
        raise UserError(f"{file}: {_CONFIG_MEMBER} is larger than {_LARGEST_CONFIG:,} bytes: it is refused")
    with tempfile.TemporaryFile() as unpacked:
        _unpack(archive, _CONFIG_MEMBER, unpacked, file)
        unpacked.seek(0)
        try:
            config = json.loads(unpacked.read())
        except (ValueError, RecursionError) as error:
            raise UserError(f"{file}: {_CONFIG_MEMBER} is no JSON ({error}): download it again") from error
    return check_layers(configured_layers(config), str(file))


def _layers_of(hdf5: "h5py.File", name: str) -> tuple[list[_Layer], tuple[Triple, Triple] | None]:
    """The layers with weights, and what the model does to the pixels by itself."""
    found = contents(hdf5, name)
    if any(_KERAS3_ARRAY.fullmatch(path) for path in found.arrays):
        return _by_class_and_order(found, name), None
    root = "model_weights" if "model_weights" in found.groups else ""
    if not any(name in found.groups[root].attrs for name in ("layer_names", "layer_names0")):
        raise UserError(f"{name} is an HDF5 file, but no weights of Keras are in it")
    if _text(found.groups[root].attrs.get("backend", "")) == "theano":
        raise UserError(f"{name} was written by Keras on Theano, whose kernels are flipped: it is not read")
    scaling = None
    if "model_config" in hdf5.attrs:
        try:
            config = json.loads(_text(hdf5.attrs["model_config"]))
        except (ValueError, RecursionError) as error:
            raise UserError(f"{name}: its model_config is no JSON ({error})") from error
        scaling = check_layers(configured_layers(config), name)
    return _by_layer_names(root, found, name), scaling


def _check_kinds(found: Contents, name: str) -> None:
    """Refuses a file of weights alone with a layer whose settings count: they are not in it."""
    for path in found.groups:
        layer = _KERAS3_LAYER.fullmatch(path)
        if layer and layer["kind"] not in _KERAS3_KINDS:
            raise UserError(
                f"{name}: {path} does what a file of weights alone does not say: save the whole model as .keras"
            )


def _by_class_and_order(found: Contents, name: str) -> list[_Layer]:
    """Keras 3: conv2d, conv2d_1, ... and dense, dense_1, ... in the order of the model."""
    parts: dict[tuple[str, int], dict[str, str]] = {}
    for path in found.arrays:
        if path.startswith("optimizer/"):
            continue
        match = _KERAS3_ARRAY.fullmatch(path)
        part = parts.setdefault((match["kind"], int(match["number"] or 0)), {}) if match else {}
        if match is None or match["array"] in part:
            raise UserError(
                f"{name}: {path}, of shape {found.arrays[path].shape}, is of no layer that a VGG of Keras has"
            )
        part[match["array"]] = path
    return [
        _layer(f"{kind}_{number}", [found.arrays[path] for _, path in sorted(part.items())])
        for (kind, number), part in sorted(parts.items())
    ]


def _by_layer_names(root: str, found: Contents, name: str) -> list[_Layer]:
    """Keras 1 and 2: the layers in order, each with the names of its arrays."""
    layers: list[_Layer] = []
    for layer in _names(found.groups[root], "layer_names"):
        path = f"{root}/{layer}".strip("/")
        weights = _names(found.groups[path], "weight_names") if path in found.groups else []
        paths = [f"{path}/{weight}" for weight in weights]
        for missing in (path for path in paths if path not in found.arrays):
            raise UserError(f"{name}: {missing} is named and not there: download it again")
        if paths:
            layers.append(_layer(layer, [found.arrays[path] for path in paths]))
    return layers


def _names(group: "h5py.Group", attribute: str) -> list[str]:
    """An attribute with names; long lists are cut into layer_names0, layer_names1, ..."""
    if attribute in group.attrs:
        return [_text(name) for name in group.attrs[attribute]]
    names: list[str] = []
    part = 0
    while f"{attribute}{part}" in group.attrs:
        names += [_text(name) for name in group.attrs[f"{attribute}{part}"]]
        part += 1
    return names


def _text(value: Any) -> str:  # noqa: ANN401 - bytes or str, as h5py gives them
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)


def _layer(name: str, parts: list["h5py.Dataset"]) -> _Layer:
    if len(parts) != 2 or parts[0].ndim not in (2, 4) or parts[1].ndim != 1:
        shapes = ", ".join(str(part.shape) for part in parts)
        hint = ": a VGG of Keras has no batch norm" if len(parts) == 4 else ""
        raise UserError(f"layer {name} has arrays of shapes {shapes}, and not a kernel and a bias{hint}")
    return _Layer(name, *(read_array(part, f"layer {name}") for part in parts))


def _foreign(layers: list[_Layer], scaling: tuple[Triple, Triple] | None) -> ForeignWeights:
    convolutions = [layer for layer in layers if layer.kernel.ndim == 4]
    dense = [layer for layer in layers if layer.kernel.ndim == 2]
    if len(dense) not in (0, 3):
        shapes = ", ".join(f"{layer.name} {layer.kernel.shape}" for layer in dense)
        raise UserError(f"it has {len(dense)} dense layers ({shapes}), and a VGG has three or, without its top, none")
    if not convolutions:
        raise UserError("there is no convolution in it")
    names = names_in_order([layer.kernel.shape[0] for layer in convolutions])
    tensors: dict[str, Tensor] = {}
    for name, layer in zip(names, convolutions, strict=True):
        tensors |= _named(name, torch.from_numpy(layer.kernel).permute(3, 2, 0, 1), layer)
    mean, divisor = scaling or (IMAGENET_MEAN, (1.0, 1.0, 1.0))
    if scaling is None:
        tensors["conv1_1.weight"] = tensors["conv1_1.weight"].flip(1)  # blue, green, red
    for name, layer in zip(("fc6", "fc7", "fc8"), dense, strict=False):
        tensors |= _named(name, _matrix(layer, convolutions[-1] if name == "fc6" else None), layer)
    return ForeignWeights(
        kind="Keras",
        tensors=tensors,
        mean=mean,
        divisor=divisor,
        convention=_ITS_OWN if scaling else "BGR in 0..255, minus (103.939, 116.779, 123.68)",
        features_only=not dense,
    )


def _named(name: str, weight: Tensor, layer: _Layer) -> dict[str, Tensor]:
    return {f"{name}.weight": weight, f"{name}.bias": torch.from_numpy(layer.bias)}


def _matrix(layer: _Layer, before: _Layer | None) -> Tensor:
    """A dense kernel (inputs, outputs) as a convolution; Keras flattens rows, columns, channels."""
    inputs, outputs = layer.kernel.shape
    channels = inputs if before is None else before.kernel.shape[3]
    side = round((inputs / channels) ** 0.5)
    if channels * side * side != inputs:
        raise UserError(
            f"layer {layer.name} has a kernel of shape {layer.kernel.shape}: {inputs:,} inputs are no square map of "
            f"{channels} channels"
        )
    return torch.from_numpy(layer.kernel).reshape(side, side, channels, outputs).permute(3, 2, 0, 1)
