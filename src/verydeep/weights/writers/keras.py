"""Weights of ours as the .weights.h5 of Keras 3, or the .h5 that Keras 1 and 2 and keras.applications read."""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np
from torch import Tensor

from verydeep.errors import UserError
from verydeep.files import atomic_write
from verydeep.nets.architecture import layers
from verydeep.nets.net import IMAGENET_MEAN, VeryDeep
from verydeep.nets.reuse import TORCHVISION_MEAN, TORCHVISION_STD
from verydeep.weights.preprocessing import KEY, record_of
from verydeep.weights.writers.target import Preprocessing, Target, subtracts
from verydeep.weights.writers.torch import has_torchvision_input

if TYPE_CHECKING:
    import h5py

_DENSE = {"fc6": "fc1", "fc7": "fc2", "fc8": "predictions"}


_Stored = tuple[str, str, np.ndarray, np.ndarray]
"""Name of a layer in keras.applications, its kind, kernel and bias."""


def has_caffe_input(net: VeryDeep) -> bool:
    """Whether a net subtracts exactly the mean that keras.applications does, and divides by nothing."""
    return subtracts(net, IMAGENET_MEAN)


def write_keras(net: VeryDeep, file: Path) -> None:
    """Writes ``.weights.h5`` for Keras 3, or another ``.h5`` in the older form, which Keras 3 reads too.

    The first convolution is over blue, green, red where the net has Keras's input, and over red, green, blue elsewhere.
    """
    try:
        import h5py
    except ImportError as error:
        raise UserError(
            f"{file} is to be an HDF5 file, and h5py, which writes it, is not installed: pip install "
            "'verydeep[weights]'"
        ) from error
    with atomic_write(file) as temporary, h5py.File(temporary, "w") as hdf5:
        (_write_keras3 if file.name.endswith(".weights.h5") else _write_legacy)(hdf5, net)
        hdf5.attrs[KEY] = record_of(net, bgr=has_caffe_input(net))


def _write_keras3(hdf5: "h5py.File", net: VeryDeep) -> None:
    counts: Counter[str] = Counter()
    for name, kind, kernel, bias in _stored(net):
        number = f"_{counts[kind]}" if counts[kind] else ""
        counts[kind] += 1
        group = hdf5.create_group(f"layers/{kind}{number}/vars")
        group.attrs["name"] = name
        group.create_dataset("0", data=kernel)
        group.create_dataset("1", data=bias)


def _write_legacy(hdf5: "h5py.File", net: VeryDeep) -> None:
    names: list[bytes] = []
    for layer, _, kernel, bias in _stored(net):
        names.append(layer.encode())
        group = hdf5.create_group(layer)
        weights = {f"{layer}/kernel": kernel, f"{layer}/bias": bias}
        group.attrs["weight_names"] = np.array([name.encode() for name in weights])
        for name, values in weights.items():
            group.create_dataset(name, data=values)
    hdf5.attrs["layer_names"] = np.array(names)
    hdf5.attrs["backend"] = b"tensorflow"  # whose kernels are not flipped
    hdf5.attrs["keras_version"] = b"2.0.0"


def _stored(net: VeryDeep) -> Iterator[_Stored]:
    state = net.state_dict()
    for layer in layers(net.geometry, features_only=net.features_only):
        if layer.kind not in ("convolution", "fully-connected"):
            continue
        weight, bias = state[f"{layer.name}.weight"], _array(state[f"{layer.name}.bias"])
        if layer.name == "conv1_1" and has_caffe_input(net):
            weight = weight.flip(1)
        kernel = _array(weight.permute(2, 3, 1, 0))
        if layer.kind == "convolution":
            block, index = layer.name.removeprefix("conv").split("_")
            yield f"block{block}_conv{index}", "conv2d", kernel, bias
        else:
            yield _DENSE[layer.name], "dense", kernel.reshape(-1, kernel.shape[-1]), bias  # rows, columns, channels


def _array(tensor: Tensor) -> np.ndarray:
    return np.ascontiguousarray(tensor.detach().cpu().float().numpy())


def _preprocessing(net: VeryDeep) -> Preprocessing:
    if has_caffe_input(net):
        call = "keras.applications.vgg16.preprocess_input(rgb)"
        mean = tuple(reversed(IMAGENET_MEAN))
        return Preprocessing(channels="BGR", largest=255, mean=mean, std=(1.0,) * 3, call=call, is_default=True)
    if has_torchvision_input(net):
        call = "keras.applications.imagenet_utils.preprocess_input(rgb, mode='torch')"
        mean, std, largest = TORCHVISION_MEAN, TORCHVISION_STD, 1
    else:
        mean, std, largest = tuple(net.mean.tolist()), tuple(net.divisor.tolist()), 255
        call = f"(rgb - {_numbers(mean)}) / {_numbers(std)}"
    return Preprocessing(channels="RGB", largest=largest, mean=mean, std=std, call=call, is_default=False)


def _numbers(values: tuple[float, ...]) -> str:
    return f"numpy.array([{', '.join(f'{value:.9g}' for value in values)}])"


def _make(net: VeryDeep) -> str:
    top = f"classes={net.geometry.num_classes}, classifier_activation=None"
    options = "include_top=False" if net.features_only else top
    return f"keras.applications.VGG{net.geometry.architecture.weight_layers}(weights=None, {options})"


KERAS: Final = Target(
    name="keras",
    suffixes=(".weights.h5", ".h5"),
    architectures=("D", "E"),
    batch_norm=False,
    features_only=True,
    write=write_keras,
    expects=_preprocessing,
    make=_make,
    load="model.load_weights({file!r})",
)
