"""Reads weights of Keras: .h5 of Keras 1 and 2 (weights or whole models), .weights.h5 and .keras of Keras 3.

Of a model's configuration only what changes the scores is looked at, as JSON: nothing is made of it. HDF5 is read as
from somebody whom nobody vouches for: no link out of the file, no size that the file does not hold.
"""

import io
import json
import tempfile
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Final

import torch
from torch import Tensor

from verydeep.errors import UserError
from verydeep.nets.net import IMAGENET_MEAN
from verydeep.weights.heads import with_head
from verydeep.weights.imported import A_GUESS, KERAS_WORDS, ImportedWeights
from verydeep.weights.layer_order import HeadKind, HeadLayer, names_in_order
from verydeep.weights.preprocessing import KEY, read_record, with_record
from verydeep.weights.readers.keras_config import Configured, read_config
from verydeep.weights.readers.keras_layers import KerasLayer, as_text, head_kinds, list_layers, read_arrays
from verydeep.weights.readers.torch import member_names

if TYPE_CHECKING:
    import h5py

_MAGIC: Final = b"\x89HDF\r\n\x1a\n"
_WEIGHTS_MEMBER, _CONFIG_MEMBER = "model.weights.h5", "config.json"
_MOST_EXPANSION: Final = 20  # times that an array may be larger than what is stored of it; weights hardly compress
_MOST_ITEMS, _LARGEST_CONFIG = 10_000, 2**24

_OWN_INPUT: Final = f"RGB in 0..255, scaled by the file's own Rescaling; the order and range are {A_GUESS}"

_Arrays = dict[str, "h5py.Dataset"]
_Groups = dict[str, "h5py.Group"]


def is_keras(file: Path) -> bool:
    """Whether the file is HDF5, or a zip archive with Keras 3's members."""
    with file.open("rb") as start:
        return start.read(8) == _MAGIC or _CONFIG_MEMBER in member_names(file)


def read_keras(file: Path) -> ImportedWeights:
    """Reads the kernels by name or, for Keras 3, by class and order."""
    if not zipfile.is_zipfile(file):
        with _opened(file, file) as hdf5:
            config = hdf5.attrs.get("model_config")
            configured = None if config is None else _parse(as_text(config), "model_config")
            found = _imported(*_contents(hdf5), configured)
            record = hdf5.attrs.get(KEY)
            return with_record(found, read_record(None if record is None else as_text(record)))
    try:
        with zipfile.ZipFile(file) as archive, tempfile.TemporaryFile() as config, tempfile.TemporaryFile() as weights:
            if archive.getinfo(_CONFIG_MEMBER).file_size > _LARGEST_CONFIG:
                raise UserError(f"{_CONFIG_MEMBER} is larger than {_LARGEST_CONFIG:,} bytes: it is refused")
            _unpack(archive, _CONFIG_MEMBER, config, file)
            config.seek(0)
            configured = _parse(config.read(), _CONFIG_MEMBER)
            _unpack(archive, _WEIGHTS_MEMBER, weights, file)
            with _opened(weights, file) as hdf5:
                return _imported(*_contents(hdf5), configured)
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


def _parse(text: bytes | str, where: str) -> Configured:
    try:
        config = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise UserError(f"its {where} is no JSON ({error}): download it again") from error
    return read_config(config)


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


def _imported(arrays: _Arrays, groups: _Groups, configured: Configured | None) -> ImportedWeights:
    layers = list_layers(arrays, groups)
    convolutions = [layer for layer in layers if layer.is_convolution]
    if configured:
        named = {layer.name: layer for layer in convolutions}
        if all(name in named for name in configured.convolutions):
            convolutions = [named[name] for name in configured.convolutions]
        convolutions = convolutions[: len(configured.convolutions)]
        head = _configured_head(configured, layers)
    else:
        head = _likely_head(layers, groups, convolutions)
    if not convolutions:
        raise UserError("there is no convolution in it")
    tensors: dict[str, Tensor] = {}
    numbers = [layer.numbers() for layer in convolutions]
    for name, (kernel, bias) in zip(names_in_order([len(kernel) for kernel, _ in numbers]), numbers, strict=True):
        tensors[f"{name}.weight"] = torch.from_numpy(kernel).permute(3, 2, 0, 1)
        tensors[f"{name}.bias"] = torch.from_numpy(bias)
    scaling = configured.scaling if configured else None
    is_bgr = scaling is None or (configured is not None and configured.is_bgr)
    if is_bgr:
        tensors["conv1_1.weight"] = tensors["conv1_1.weight"].flip(1)  # blue, green, red
    mean, divisor = scaling or (IMAGENET_MEAN, (1.0, 1.0, 1.0))
    found = ImportedWeights(
        kind="Keras",
        tensors=tensors,
        mean=mean,
        divisor=divisor,
        convention=_OWN_INPUT if scaling else f"{KERAS_WORDS}, as keras.applications has it: {A_GUESS}",
        is_guessed=scaling is None,
        was_bgr=is_bgr,
        crop=configured.crop if configured else None,
    )
    return with_head(found, head)


def _configured_head(configured: Configured, layers: Sequence[KerasLayer]) -> list[HeadLayer]:
    """The layers that the configuration has after the convolutions, with their matrices by name, or else in order."""
    dense = {layer.name: layer for layer in layers if layer.is_dense}
    wanted = [name for name, kind in configured.head if kind == "fully connected layer"]
    if not dense.keys() >= set(wanted):
        dense = dict(zip(wanted, dense.values(), strict=False))
    return [
        _connected(dense[name])
        if kind == "fully connected layer" and name in dense
        else HeadLayer(name=name, kind="another layer" if kind == "fully connected layer" else kind)
        for name, kind in configured.head
    ]


def _likely_head(layers: list[KerasLayer], groups: _Groups, convolutions: list[KerasLayer]) -> list[HeadLayer]:
    """What follows the convolutions in a file of weights alone, which says nothing of activations: ReLUs are taken."""
    kinds = head_kinds(groups, len(convolutions))
    weightless: dict[str, HeadKind] = {"global_average_pooling2d": "average pooling", "softmax": "nothing"}
    head = [HeadLayer(name=kind, kind=weightless.get(kind, "another layer")) for kind in kinds]
    following = [layer for layer in layers if layer.kind and not layer.is_convolution]
    if convolutions and not following:  # an old file, with names in order and no kinds
        end = layers.index(convolutions[-1]) + 1
        for layer in layers[:end]:
            if layer.arrays:
                layer.numbers()  # or an error: something else has weights between convolutions
        following = [layer for layer in layers[end:] if layer.arrays or layer.name.startswith("global_")]
    before = False
    for layer in following:
        if before:
            head.append(HeadLayer(name=layer.name, kind="ReLU"))
        before = layer.is_dense
        is_mean = not layer.arrays and layer.name.startswith("global_average")
        other = HeadLayer(name=layer.name, kind="average pooling" if is_mean else "another layer")
        head.append(_connected(layer) if layer.is_dense else other)
    return head


def _connected(layer: KerasLayer) -> HeadLayer:
    """A dense layer; Keras flattens rows, columns, channels."""
    matrix, *bias = (torch.from_numpy(numbers) for numbers in read_arrays(layer))
    return HeadLayer(
        name=layer.name,
        kind="fully connected layer",
        weight=matrix.T,
        bias=bias[0] if bias else None,
        order="yxc",
    )
