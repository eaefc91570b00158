"""Compares imported weights with the program they come from, run on the same file with its own preprocessing."""

import os
import shutil
import tempfile
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from PIL import Image
from torch import Tensor, log_softmax, nn, softmax
from torch.nn.functional import max_pool2d

from verydeep.errors import UserError
from verydeep.nets.architecture import Geometry
from verydeep.nets.net import IMAGENET_MEAN, VeryDeep
from verydeep.weights.imported import ImportedWeights
from verydeep.weights.readers.onnx import find_input
from verydeep.weights.readers.torch import is_safetensors, load_pickle, load_safetensors, without_prefixes

_MOST_REASON: Final = 300

Forward = Callable[[Sequence[Image.Image]], Tensor]
"""Scores n,k of images of the size of the crop; without fully connected layers the last map n,c,y,x."""


def _scores(scores: Tensor) -> Tensor:
    return scores


_ENDINGS: Final[dict[str, Callable[[Tensor], Tensor]]] = {
    "scores": _scores,
    "softmax": partial(softmax, dim=1),
    "log-softmax": partial(log_softmax, dim=1),
}


@dataclass(frozen=True, kw_only=True)
class Peer:
    """A program that can run the files of one kind."""

    package: str
    load: Callable[[Path, ImportedWeights, Geometry], Forward]  # the file, what was read from it, the net it became
    ending: Callable[[Path], Callable[[Tensor], Tensor]] = lambda file: _scores  # of the scores, by the file


@dataclass(frozen=True, kw_only=True)
class Agreement:
    """How far two programs agree.

    Attributes:
        package: the other program, with its version.
        num_images: images compared.
        largest_difference: largest difference of a score, relative to the largest score of the same image.
    """

    package: str
    num_images: int
    largest_difference: float


def compare(file: Path, found: ImportedWeights, net: VeryDeep, images: Sequence[Image.Image]) -> Agreement:
    """Runs a file in the program it belongs to, and its weights in ours, on the same images.

    Args:
        file: the third-party file.
        found: what was read from it.
        net: what that became.
        images: of any size; both programs see them scaled to the crop.

    Raises:
        UserError: that program is not installed, or does not take the file.
    """
    if found.kind not in PEERS:
        raise UserError(f"weights of {found.kind} cannot be verified: no program that runs them can be installed")
    peer = PEERS[found.kind]
    crop = net.geometry.crop
    scaled = [image.convert("RGB").resize((crop, crop), Image.Resampling.BICUBIC) for image in images]
    try:
        theirs = peer.load(file, found, net.geometry)(scaled)
    except UserError:
        raise
    except Exception as error:  # whatever the other program raises
        reason = " ".join(str(error).split())[:_MOST_REASON]
        raise UserError(f"{peer.package} does not take {file}: {reason}") from error
    pixels = torch.stack([torch.from_numpy(np.array(image)).permute(2, 0, 1) for image in scaled])
    with torch.inference_mode():
        ours = net.features(pixels) if net.features_only else peer.ending(file)(net(pixels))
    if net.features_only and theirs.shape[-1] == 2 * ours.shape[-1]:  # the other net ends before its last pooling
        theirs = max_pool2d(theirs, 2)
    if ours.shape != theirs.shape:
        raise UserError(
            f"{peer.package} gives {tuple(theirs.shape)} for {file}, and the net made of it {tuple(ours.shape)}: they "
            "cannot be compared"
        )
    return Agreement(
        package=f"{peer.package} {version(peer.package)}",
        num_images=len(images),
        largest_difference=largest_difference(ours, theirs),
    )


def largest_difference(ours: Tensor, theirs: Tensor) -> float:
    """Largest difference of two arrays of scores of one shape, relative to the largest score of the same image."""
    ours, theirs = ours.flatten(1).double(), theirs.flatten(1).double()
    return float(((ours - theirs).abs().amax(1) / theirs.abs().amax(1)).max())


def _torchvision(file: Path, found: ImportedWeights, geometry: Geometry) -> Forward:
    _import("torchvision")
    from torchvision.models.vgg import VGG, cfgs, make_layers
    from torchvision.transforms._presets import ImageClassification

    row = geometry.architecture.name
    if row not in cfgs:
        raise UserError(f"torchvision has no {geometry.architecture.title}, so it cannot be compared with it")
    with torch.device("meta"):
        model = VGG(make_layers(cfgs[row], geometry.batch_norm), num_classes=geometry.num_classes, init_weights=False)
    state = {
        f"features.{name[4:]}" if name.startswith("net.") else name: value.float()
        if value.is_floating_point()
        else value
        for name, value in _state(file).items()
    }
    if found.features_only:
        state = {name: tensor for name, tensor in state.items() if name.startswith("features.")}
        model.classifier = nn.Sequential()
    model.load_state_dict(state, strict=True, assign=True)
    preset = ImageClassification(
        crop_size=geometry.crop,
        resize_size=geometry.crop,
        mean=tuple(number / 255 for number in found.mean),
        std=tuple(number / 255 for number in found.divisor),
    )
    return _forward(model.features if found.features_only else model, preset)


def _timm(file: Path, found: ImportedWeights, geometry: Geometry) -> Forward:
    timm = _import("timm")
    name = f"vgg{geometry.architecture.weight_layers}" + ("_bn" if geometry.batch_norm else "")
    model = timm.create_model(name, pretrained=False, num_classes=geometry.num_classes)
    model.load_state_dict(_state(file), strict=True)
    size = {"input_size": (3, geometry.crop, geometry.crop), "crop_pct": 1.0}
    mean, std = ([number / 255 for number in numbers] for numbers in (found.mean, found.divisor))
    settings = timm.data.resolve_data_config(size | {"mean": mean, "std": std}, model=model)
    return _forward(model, timm.data.create_transform(**settings))


def _forward(model: nn.Module, transform: Callable[[Image.Image], Tensor]) -> Forward:
    model.eval()

    def run(images: Sequence[Image.Image]) -> Tensor:
        with torch.inference_mode():
            result: Tensor = model(torch.stack([transform(image) for image in images]))
        return result

    return run


def _state(file: Path) -> dict[str, Tensor]:
    return without_prefixes(load_safetensors(file) if is_safetensors(file) else load_pickle(file))


def _keras(file: Path, found: ImportedWeights, geometry: Geometry) -> Forward:
    os.environ.setdefault("KERAS_BACKEND", "torch")  # it asks for TensorFlow otherwise, and torch is always here
    keras = _import("keras")
    make = {"D": keras.applications.VGG16, "E": keras.applications.VGG19}.get(geometry.architecture.name)
    if make is None:
        raise UserError(f"Keras has no {geometry.architecture.title}, so it cannot be compared with it")
    if found.mean != IMAGENET_MEAN or found.divisor != (1, 1, 1):
        raise UserError(
            "--verify runs keras.applications' VGG with its own preprocessing: it cannot compare weights for other "
            "pixels (--mean, --divisor, or a Rescaling in the file)"
        )
    top = {} if found.features_only else {"classes": geometry.num_classes, "classifier_activation": None}
    shape = (geometry.crop, geometry.crop, 3)
    model = make(weights=None, include_top=not found.features_only, input_shape=shape, **top)
    with tempfile.TemporaryDirectory() as folder:
        # Keras goes by the ending, and we by the content
        linked = Path(folder) / f"weights{_keras_suffix(file)}"
        if os.name == "nt":
            shutil.copy(file, linked)
        else:
            linked.symlink_to(file.resolve())
        model.load_weights(linked)

    def run(images: Sequence[Image.Image]) -> Tensor:
        pixels = np.stack([np.asarray(image, np.float32) for image in images])
        with torch.no_grad():  # for Keras on torch, which would keep every activation
            result = model(keras.applications.vgg16.preprocess_input(pixels), training=False)
            scores = torch.from_numpy(np.array(keras.ops.convert_to_numpy(result)))
        return scores.permute(0, 3, 1, 2) if found.features_only else scores

    return run


def _keras_suffix(file: Path) -> str:
    if zipfile.is_zipfile(file):
        return ".keras"
    import h5py

    with h5py.File(file) as hdf5:
        return ".weights.h5" if "layers" in hdf5 else ".h5"


def _onnx_runtime(file: Path, found: ImportedWeights, geometry: Geometry) -> Forward:
    runtime = _import("onnxruntime")
    wanted = find_input(file)
    session = runtime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    mean, divisor = (np.array(numbers, np.float32) for numbers in (found.mean, found.divisor))

    def run(images: Sequence[Image.Image]) -> Tensor:
        scores = []
        for image in images:
            pixels = np.asarray(image, np.float32)
            x = (pixels - mean) / divisor if wanted.largest is None else pixels * np.float32(wanted.largest / 255)
            x = x if wanted.axes == "nhwc" else x.transpose(2, 0, 1)
            batch = np.repeat(x[None], max(1, wanted.batch), axis=0)  # a graph may have been exported for several
            scores.append(session.run(None, {name: batch})[0][0])
        return torch.from_numpy(np.stack(scores))

    return run


def _import(name: str) -> Any:  # noqa: ANN401 - a module of another program
    try:
        return import_module(name)
    except ImportError as error:
        raise UserError(f"{name} is not installed, and only it can run its files: pip install '{name}'") from error


PEERS: Final[dict[str, Peer]] = {
    "torchvision": Peer(package="torchvision", load=_torchvision),
    "seed class": Peer(package="torchvision", load=_torchvision),
    "timm": Peer(package="timm", load=_timm),
    "Keras": Peer(package="keras", load=_keras),
    "ONNX": Peer(package="onnxruntime", load=_onnx_runtime, ending=lambda file: _ENDINGS[find_input(file).ending]),
}
"""By the kind of what was read."""
