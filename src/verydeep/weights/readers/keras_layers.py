"""The layers of an HDF5 file of Keras with their arrays: by names in Keras 1 and 2, by class and order in Keras 3."""

import itertools
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from verydeep.errors import UserError

if TYPE_CHECKING:
    import h5py

Arrays = Mapping[str, "h5py.Dataset"]
Groups = Mapping[str, "h5py.Group"]

_KERAS3_ARRAY = re.compile(
    r"(?P<layer>(?P<model>(.*/)?)layers/(?P<kind>[^/]*?)(_(?P<number>\d+))?)/(?P<inner>.*/)?vars/(?P<array>\d+)"
)
_KERAS3_LAYER = re.compile(r"(.*/)?layers/(?P<kind>[^/]*?)(_\d+)?")
_LARGEST_KERNEL: Final = 7  # side, of which no net has as few channels
_WITHOUT_HEAD: Final = {"input_layer", "conv2d", "max_pooling2d", "functional", "sequential"}
_WITHOUT_EFFECT: Final = {"activation", "re_lu", "flatten", "dropout"}
"""Layers that say all that they do by being there; of an activation, the usual one is taken."""
_HEAD_ONLY: Final = {
    *("dense", "global_average_pooling2d", "global_max_pooling2d", "batch_normalization", "layer_normalization"),
    *("softmax", "concatenate"),
}


@dataclass(frozen=True, kw_only=True)
class KerasLayer:
    """A layer, and what it has learnt; its numbers stay in the file."""

    name: str
    kind: str  # in Keras 3 its class, as conv2d
    arrays: tuple["h5py.Dataset", ...] = ()

    @property
    def is_convolution(self) -> bool:
        """Whether it is called one, or in old files has a kernel y,x,i,o."""
        return self.kind == "conv2d" or (not self.kind and bool(self.arrays) and self.arrays[0].ndim == 4)

    @property
    def is_dense(self) -> bool:
        """Whether it has a matrix, and a bias or none."""
        return [array.ndim for array in self.arrays] in ([2], [2, 1])

    def numbers(self) -> list[np.ndarray]:
        """A kernel and a bias, or raises UserError."""
        if len(self.arrays) != 2 or self.arrays[0].ndim not in (2, 4) or self.arrays[1].ndim != 1:
            shapes = ", ".join(str(array.shape) for array in self.arrays)
            hint = (
                ": batch norms of Keras between convolutions are not read; model.export(FILE, format='onnx') gives "
                "a file that is"
                if len(self.arrays) == 4
                else ""
            )
            raise UserError(f"layer {self.name} has arrays of shapes {shapes}, and not a kernel and a bias{hint}")
        shape = self.arrays[0].shape
        if len(shape) == 4 and shape[2] == shape[3] <= _LARGEST_KERNEL < shape[0]:
            raise UserError(
                f"the kernel of layer {self.name} has the shape {shape}, out, in, y, x (Theano's order): only files "
                "for TensorFlow, y, x, in, out, are read (tf_dim_ordering_tf_kernels)"
            )
        return read_arrays(self)


def read_arrays(layer: KerasLayer) -> list[np.ndarray]:
    """Reads the numbers of a layer; objects, for instance, are refused."""
    for array in layer.arrays:
        if array.dtype.kind != "f":
            raise UserError(f"layer {layer.name} holds {array.dtype} and no floating point numbers")
    return [array[()] for array in layer.arrays]


def list_layers(arrays: Arrays, groups: Groups) -> list[KerasLayer]:
    """Lists the layers with arrays in the order of the model, and in old files those without any."""
    if any((found := _KERAS3_ARRAY.fullmatch(path)) and found["kind"] in ("conv2d", "dense") for path in arrays):
        return _by_class_and_order(arrays, groups)
    return _by_layer_names(arrays, groups)


def _by_class_and_order(arrays: Arrays, groups: Groups) -> list[KerasLayer]:
    """Keras 3: conv2d, conv2d_1, ... and dense, dense_1, ...; the model with most convolutions comes first."""
    parts: dict[tuple[str, str, int], dict[str, str]] = {}
    paths: dict[tuple[str, str, int], str] = {}
    for path in arrays:
        if path.startswith("optimizer/") or "/seed_generator/" in path:
            continue
        found = _KERAS3_ARRAY.fullmatch(path)
        if found is None:
            raise UserError(f"{path}, of shape {arrays[path].shape}, is of no layer that a VGG of Keras has")
        key = (found["model"], found["kind"], int(found["number"] or 0))
        parts.setdefault(key, {})[f"{found['inner'] or ''}{found['array']}"] = path
        paths[key] = found["layer"]
    convolutions = [model for model, kind, _ in parts if kind == "conv2d"]
    layers = []
    for key, part in sorted(parts.items(), key=lambda item: (-convolutions.count(item[0][0]), item[0])):
        named = groups[f"{paths[key]}/vars"].attrs.get("name") if f"{paths[key]}/vars" in groups else None
        name = paths[key].rpartition("/")[2] if named is None else as_text(named)
        layers.append(
            KerasLayer(name=name, kind=key[1], arrays=tuple(arrays[path] for _, path in sorted(part.items())))
        )
    return layers


def _by_layer_names(arrays: Arrays, groups: Groups) -> list[KerasLayer]:
    """Keras 1 and 2: the layers in order, each with the names of its arrays; a nested model is a layer with several."""
    root = "model_weights" if "model_weights" in groups else ""
    names = _names(groups[root], "layer_names")
    if "nb_layers" in groups[""].attrs:
        raise UserError("it was written by Keras before 1.0 on Theano, whose kernels are o,i,y,x: it is not read")
    if names is None:
        raise UserError("it is an HDF5 file, but no weights of Keras are in it")
    if as_text(groups[root].attrs.get("backend", "")) == "theano":
        raise UserError("it was written by Keras on Theano, whose kernels are flipped: it is not read")
    layers: list[KerasLayer] = []
    for layer in names:
        path = f"{root}/{layer}".strip("/")
        weights = _names(groups[path], "weight_names") if path in groups else None
        paths = [f"{path}/{weight}" for weight in weights or []]
        for missing in (path for path in paths if path not in arrays):
            raise UserError(f"{missing} is named and not there: download it again")
        layers.extend(_nested(layer, path, paths, arrays))
    return layers


def _nested(layer: str, path: str, paths: list[str], arrays: Arrays) -> Iterator[KerasLayer]:
    """A layer, or those of a nested model, whose arrays lie in folders of their own (Keras 2 and 3) below its own."""
    folders = dict.fromkeys(part.removeprefix(f"{path}/").rpartition("/")[0] for part in paths)
    if len(folders) < 2:
        yield KerasLayer(name=layer, kind="", arrays=tuple(arrays[part] for part in paths))
        return
    for folder in folders:
        own = [part for part in paths if part.removeprefix(f"{path}/").rpartition("/")[0] == folder]
        yield KerasLayer(name=folder.rpartition("/")[2] or layer, kind="", arrays=tuple(arrays[part] for part in own))


def head_kinds(groups: Groups, num_convolutions: int) -> list[str]:
    """Lists the kinds of layers without weights after the convolutions, in a file of weights alone of Keras 3.

    Raises:
        UserError: a layer that may stand before or between them, and what it does there is not in the file.
    """
    layers = {path: found["kind"] for path in groups if (found := _KERAS3_LAYER.fullmatch(path))}
    for path, kind in layers.items():
        if kind.startswith("random_"):
            continue  # nothing outside of a training
        if kind not in _WITHOUT_HEAD | _WITHOUT_EFFECT | _HEAD_ONLY:
            raise UserError(f"{path} does what a file of weights alone does not say: save the whole model as .keras")
    norms = [path for path, kind in layers.items() if kind.endswith("_normalization")]
    if norms and len(norms) >= num_convolutions:
        raise UserError(
            f"{norms[0]}: batch norms of Keras between convolutions are not read; model.export(FILE, format='onnx') "
            "gives a file that is"
        )
    with_arrays = {path for path in layers if f"{path}/vars" in groups and len(groups[f"{path}/vars"])}
    return [kind for path, kind in layers.items() if kind in _HEAD_ONLY and path not in with_arrays]


def _names(group: "h5py.Group", attribute: str) -> list[str] | None:
    """An attribute with names; long lists are cut into layer_names0, layer_names1, ..."""
    cut = itertools.takewhile(lambda key: key in group.attrs, (f"{attribute}{part}" for part in itertools.count()))
    keys = [attribute] if attribute in group.attrs else list(cut)
    return [as_text(name) for key in keys for name in group.attrs[key]] if keys else None


def as_text(value: Any) -> str:  # noqa: ANN401 - bytes or str, as h5py gives them
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)
