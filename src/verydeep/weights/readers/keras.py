"""Reads weights of Keras: .h5 of Keras 1 and 2 (weights or whole models), .weights.h5 and .keras of Keras 3.

Of a model's configuration only what changes the scores is looked at, as JSON: nothing is made of it. HDF5 is read as
from somebody whom nobody vouches for: no link out of the file, no size that the file does not hold.
"""

import io
import itertools
import json
import re
import tempfile
import zipfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Final, NamedTuple

import numpy as np
import torch
from torch import Tensor

from verydeep.errors import UserError
from verydeep.nets.net import IMAGENET_MEAN
from verydeep.weights.imported import ImportedWeights, MeanAndDivisor
from verydeep.weights.layer_order import as_convolution, names_in_order
from verydeep.weights.readers.keras_config import check_config
from verydeep.weights.readers.torch import member_names

if TYPE_CHECKING:
    import h5py

_MAGIC: Final = b"\x89HDF\r\n\x1a\n"
_WEIGHTS_MEMBER, _CONFIG_MEMBER = "model.weights.h5", "config.json"
_MOST_EXPANSION: Final = 20  # times that an array may be larger than what is stored of it; weights hardly compress
_MOST_ITEMS, _LARGEST_CONFIG = 10_000, 2**24

_KERAS3_ARRAY = re.compile(r"(.*/)?layers/(?P<kind>conv2d|dense)(_(?P<number>\d+))?/vars/(?P<array>[01])")
_KERAS3_LAYER = re.compile(r"(.*/)?layers/(?P<kind>[^/]*?)(_\d+)?")
_KERAS3_KINDS: Final = {
    *("input_layer", "conv2d", "activation", "re_lu", "max_pooling2d", "global_average_pooling2d"),
    *("global_max_pooling2d", "flatten", "dropout", "dense", "functional", "sequential"),
}
"""Layers of a file of weights alone that say all that they do by being there."""

_OWN_INPUT: Final = (
    "RGB in 0..255, scaled by the file's own Rescaling; the order and range are a guess (--mean, --divisor and --bgr "
    "say otherwise)"
)

_Arrays = dict[str, "h5py.Dataset"]
_Groups = dict[str, "h5py.Group"]


class _Layer(NamedTuple):
    name: str
    kernel: np.ndarray  # y,x,i,o or i,o
    bias: np.ndarray


def is_keras(file: Path) -> bool:
    """Whether the file is HDF5, or a zip archive with Keras 3's members."""
    with file.open("rb") as start:
        return start.read(8) == _MAGIC or _CONFIG_MEMBER in member_names(file)


def read_keras(file: Path) -> ImportedWeights:
    """Reads the kernels by name or, for Keras 3, by class and order."""
    if not zipfile.is_zipfile(file):
        with _opened(file, file) as hdf5:
            config = hdf5.attrs.get("model_config")
            scaling = None if config is None else _check_config(_text(config), "model_config")
            arrays, groups = _contents(hdf5)
            layers = _layers(arrays, groups)
            _check_kinds(groups)
            return _imported(layers, scaling)
    try:
        with zipfile.ZipFile(file) as archive, tempfile.TemporaryFile() as config, tempfile.TemporaryFile() as weights:
            if archive.getinfo(_CONFIG_MEMBER).file_size > _LARGEST_CONFIG:
                raise UserError(f"{_CONFIG_MEMBER} is larger than {_LARGEST_CONFIG:,} bytes: it is refused")
            _unpack(archive, _CONFIG_MEMBER, config, file)
            config.seek(0)
            scaling = _check_config(config.read(), _CONFIG_MEMBER)
            _unpack(archive, _WEIGHTS_MEMBER, weights, file)
            with _opened(weights, file) as hdf5:
                return _imported(_layers(*_contents(hdf5)), scaling)
    except (zipfile.BadZipFile, zipfile.LargeZipFile, EOFError, NotImplementedError) as error:
        raise UserError(f"{file} is a damaged .keras file ({error}): download it again") from error


def _unpack(archive: zipfile.ZipFile, member: str, into: IO[bytes], file: Path) -> None:
    """Copies a member, unless it claims or gives far more than the archive stores of it."""
    try:
        info = archive.getinfo(member)
    except KeyError:
        raise UserError(f"{file} has no {member}: only files that Keras 3 saved with h5 weights are read") from None
    stored = min(info.compress_size, file.stat().st_size)
    if info.file_size > _MOST_EXPANSION * max(stored, 2**16):
        raise UserError(f"{member} claims {info.file_size:,} bytes where {stored:,} are stored: refused as a zip bomb")
    left = info.file_size
    with archive.open(info) as source:
        while block := source.read(2**20):
            left -= len(block)
            if left < 0:
                raise UserError(f"{member} is longer than it claims: refused as a zip bomb")
            into.write(block)


def _check_config(text: bytes | str, where: str) -> MeanAndDivisor | None:
    try:
        config = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise UserError(f"its {where} is no JSON ({error}): download it again") from error
    return check_config(config)


@contextmanager
def _opened(source: Path | IO[bytes], file: Path) -> Iterator["h5py.File"]:
    try:
        import h5py
    except ImportError as error:
        raise UserError(
            f"{file} is an HDF5 file, and h5py, which reads it, is not installed: pip install 'verydeep[weights]'"
        ) from error
    try:
        with h5py.File(source, "r") as opened:
            yield opened
    except UserError:
        raise
    except (OSError, RuntimeError, KeyError, ValueError, TypeError, io.UnsupportedOperation) as error:
        reason = " ".join(str(error).split())
        raise UserError(f"{file} is a damaged HDF5 file ({reason}): download it again") from error


def _contents(file: "h5py.File") -> tuple[_Arrays, _Groups]:
    """Lists arrays and groups; one that lies outside the file, or claims more than it holds, is refused."""
    import h5py

    arrays: _Arrays = {}
    groups: _Groups = {"": file}

    def visit(path: str, item: Any) -> bool | None:  # noqa: ANN401 - a group, an array or a type
        if isinstance(item, h5py.Dataset):
            arrays[path] = item
        elif isinstance(item, h5py.Group):
            groups[path] = item
        return True if len(arrays) + len(groups) > _MOST_ITEMS else None

    if file.visititems(visit):
        raise UserError(f"it has more than {_MOST_ITEMS:,} items: it is no VGG")
    for path, array in arrays.items():
        if array.external or array.is_virtual:
            raise UserError(f"{path} lies in another file: it is refused")
        claimed = (array.size or 0) * array.dtype.itemsize
        stored = array.id.get_storage_size()
        if claimed > _MOST_EXPANSION * stored:
            raise UserError(f"{path} claims {claimed:,} bytes where {stored:,} are stored: it is refused")
    return arrays, groups


def _check_kinds(groups: Iterable[str]) -> None:
    """Refuses a file of weights alone with a layer whose settings count: they are not in it."""
    for path in groups:
        layer = _KERAS3_LAYER.fullmatch(path)
        if layer and layer["kind"] not in _KERAS3_KINDS:
            raise UserError(f"{path} does what a file of weights alone does not say: save the whole model as .keras")


def _layers(arrays: _Arrays, groups: _Groups) -> list[_Layer]:
    is_keras3 = any(_KERAS3_ARRAY.fullmatch(path) for path in arrays)
    return _by_class_and_order(arrays) if is_keras3 else _by_layer_names(arrays, groups)


def _by_class_and_order(arrays: _Arrays) -> list[_Layer]:
    """Keras 3: conv2d, conv2d_1, ... and dense, dense_1, ... in the order of the model."""
    parts: dict[tuple[str, int], dict[str, str]] = {}
    for path in arrays:
        if path.startswith("optimizer/"):
            continue
        match = _KERAS3_ARRAY.fullmatch(path)
        part = parts.setdefault((match["kind"], int(match["number"] or 0)), {}) if match else {}
        if match is None or match["array"] in part:
            raise UserError(f"{path}, of shape {arrays[path].shape}, is of no layer that a VGG of Keras has")
        part[match["array"]] = path
    return [
        _layer(f"{kind}_{number}", [arrays[path] for _, path in sorted(part.items())])
        for (kind, number), part in sorted(parts.items())
    ]


def _by_layer_names(arrays: _Arrays, groups: _Groups) -> list[_Layer]:
    """Keras 1 and 2: the layers in order, each with the names of its arrays."""
    root = "model_weights" if "model_weights" in groups else ""
    names = _names(groups[root], "layer_names")
    if names is None:
        raise UserError("it is an HDF5 file, but no weights of Keras are in it")
    if _text(groups[root].attrs.get("backend", "")) == "theano":
        raise UserError("it was written by Keras on Theano, whose kernels are flipped: it is not read")
    layers: list[_Layer] = []
    for layer in names:
        path = f"{root}/{layer}".strip("/")
        weights = _names(groups[path], "weight_names") if path in groups else None
        paths = [f"{path}/{weight}" for weight in weights or []]
        for missing in (path for path in paths if path not in arrays):
            raise UserError(f"{missing} is named and not there: download it again")
        if paths:
            layers.append(_layer(layer, [arrays[path] for path in paths]))
    return layers


def _names(group: "h5py.Group", attribute: str) -> list[str] | None:
    """An attribute with names; long lists are cut into layer_names0, layer_names1, ..."""
    cut = itertools.takewhile(lambda key: key in group.attrs, (f"{attribute}{part}" for part in itertools.count()))
    keys = [attribute] if attribute in group.attrs else list(cut)
    return [_text(name) for key in keys for name in group.attrs[key]] if keys else None


def _text(value: Any) -> str:  # noqa: ANN401 - bytes or str, as h5py gives them
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)


def _layer(name: str, parts: list["h5py.Dataset"]) -> _Layer:
    if len(parts) != 2 or parts[0].ndim not in (2, 4) or parts[1].ndim != 1:
        shapes = ", ".join(str(part.shape) for part in parts)
        hint = ": a VGG of Keras has no batch norm" if len(parts) == 4 else ""
        raise UserError(f"layer {name} has arrays of shapes {shapes}, and not a kernel and a bias{hint}")
    for part in parts:
        if part.dtype.kind != "f":  # objects, for instance
            raise UserError(f"layer {name} holds {part.dtype} and no floating point numbers")
    return _Layer(name, *(part[()] for part in parts))


def _imported(layers: list[_Layer], scaling: MeanAndDivisor | None) -> ImportedWeights:
    convolutions = [layer for layer in layers if layer.kernel.ndim == 4]
    dense = [layer for layer in layers if layer.kernel.ndim == 2]
    if len(dense) not in (0, 3):
        shapes = ", ".join(f"{layer.name} {layer.kernel.shape}" for layer in dense)
        raise UserError(f"it has {len(dense)} dense layers ({shapes}), and a VGG has three or, without its top, none")
    if not convolutions:
        raise UserError("there is no convolution in it")
    tensors: dict[str, Tensor] = {}
    names = names_in_order([layer.kernel.shape[0] for layer in convolutions])
    for name, layer in zip(names, convolutions, strict=True):
        tensors[f"{name}.weight"] = torch.from_numpy(layer.kernel).permute(3, 2, 0, 1)
    for name, layer in zip(("fc6", "fc7", "fc8"), dense, strict=False):
        tensors[f"{name}.weight"] = _matrix(layer, convolutions[-1].kernel.shape[3] if name == "fc6" else None)
    for name, layer in zip((*names, "fc6", "fc7", "fc8"), [*convolutions, *dense], strict=False):
        tensors[f"{name}.bias"] = torch.from_numpy(layer.bias)
    if scaling is None:
        tensors["conv1_1.weight"] = tensors["conv1_1.weight"].flip(1)  # blue, green, red
    mean, divisor = scaling or (IMAGENET_MEAN, (1.0, 1.0, 1.0))
    convention = _OWN_INPUT if scaling else "BGR in 0..255, minus (103.939, 116.779, 123.68)"
    return ImportedWeights(kind="Keras", tensors=tensors, mean=mean, divisor=divisor, convention=convention)


def _matrix(layer: _Layer, channels: int | None) -> Tensor:
    """A dense kernel as a convolution; Keras flattens rows, columns, channels."""
    inputs = layer.kernel.shape[0]
    convolution = as_convolution(torch.from_numpy(layer.kernel).T, channels or inputs, "yxc")
    if convolution is None:
        raise UserError(
            f"layer {layer.name} has a kernel of shape {layer.kernel.shape}: {inputs:,} inputs are no square map of "
            f"{channels} channels"
        )
    return convolution
