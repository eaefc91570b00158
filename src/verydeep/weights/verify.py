"""Compares imported weights with the program they come from, run on the same file with its own preprocessing."""

import os
import shutil
import tempfile
import warnings
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from torch import Tensor, log_softmax, nn, softmax
from torch.nn.functional import max_pool2d

from verydeep.errors import UserError
from verydeep.nets.architecture import Geometry
from verydeep.nets.net import IMAGENET_MEAN, VeryDeep
from verydeep.nets.reuse import TORCHVISION_MEAN, TORCHVISION_STD
from verydeep.weights.imported import ImportedWeights
from verydeep.weights.readers.checkpoint import load_pickle, load_safetensors
from verydeep.weights.readers.onnx import GraphInput, find_input
from verydeep.weights.readers.torch import is_safetensors
from verydeep.weights.readers.torch_names import find_convolutions, plain_name

_MOST_REASON: Final = 300
_NUM_PICTURES: Final = 4
_OWN = "its own preprocessing"
_NOT_IN_FILE = "the input above, which the file does not say and nothing checks,"
_RANGE_NOT_IN_FILE = "its own preprocessing, whose range is a guess that nothing checks,"

Images = Sequence[Image.Image]
Scores = Callable[[Path, ImportedWeights, Geometry, Images], Tensor]
"""Runs a file, by what was read from it and the net it became, on images of the size of the crop: scores n,k, or the
last map n,c,y,x without fully connected layers."""


@dataclass(frozen=True, kw_only=True)
class Agreement:
    """How far two programs agree."""

    package: str  # the other program, with its version
    num_images: int
    largest_difference: float  # of a number, relative to the largest of the same image
    compared: str = "scores"  # or the last map, where there are convolutions only
    preprocessing: str = _OWN  # or ours, where the file does not say


def compare(file: Path, found: ImportedWeights, net: VeryDeep, images: Images) -> Agreement:
    """Runs a file in the program it belongs to, and its weights in ours, on the same images, scaled to the crop."""
    if found.kind not in PEERS:
        raise UserError(f"weights of {found.kind} cannot be verified: no program that runs them can be installed")
    package, scores = PEERS[found.kind]
    wanted = find_input(file) if found.kind == "ONNX" else None
    side = net.geometry.crop
    if wanted and wanted.side > 0 and "fc6.weight" not in found.tensors:
        side = wanted.side
    scaled = [image.convert("RGB").resize((side, side), Image.Resampling.BICUBIC) for image in images]
    try:
        theirs = scores(file, found, net.geometry, scaled)
    except UserError:
        raise
    except Exception as error:  # whatever the other program raises
        reason = " ".join(str(error).split())[:_MOST_REASON]
        raise UserError(f"{package} does not take {file}: {reason}") from error
    pixels = torch.stack([torch.from_numpy(np.array(image)).permute(2, 0, 1) for image in scaled])
    with torch.inference_mode():
        ours = net.features(pixels) if net.features_only else net(pixels)
    if wanted and wanted.ending != "scores" and not net.features_only:
        ours = {"softmax": softmax, "log-softmax": log_softmax}[wanted.ending](ours, dim=1)
    if net.features_only and theirs.shape[-1] == 2 * ours.shape[-1]:  # the other net ends before its last pooling
        theirs = max_pool2d(theirs, 2)
    if ours.shape != theirs.shape:
        raise UserError(
            f"{package} gives {tuple(theirs.shape)} for {file}, and the net made of it {tuple(ours.shape)}: they "
            "cannot be compared"
        )
    return Agreement(
        package=f"{package} {version(package)}",
        num_images=len(images),
        largest_difference=largest_difference(ours, theirs),
        compared="last map of the convolutions" if net.features_only else "scores",
        preprocessing=_checked_input(found, wanted),
    )


def _checked_input(found: ImportedWeights, wanted: GraphInput | None) -> str:
    """Says what was done to the pixels, and whether that is more than a guess."""
    if found.is_guessed:
        return _NOT_IN_FILE
    return _RANGE_NOT_IN_FILE if wanted and wanted.largest and not wanted.is_normalised else _OWN


def largest_difference(ours: Tensor, theirs: Tensor) -> float:
    """Largest difference of two arrays of scores of one shape, relative to the largest score of the same image."""
    ours, theirs = ours.flatten(1).double(), theirs.flatten(1).double()
    return float(((ours - theirs).abs().amax(1) / theirs.abs().amax(1)).max())


def drawn_pictures() -> list[Image.Image]:
    """A few pictures with edges, areas and noise, always the same."""
    pictures = []
    for seed in range(_NUM_PICTURES):
        random = np.random.default_rng(seed)
        coarse = Image.fromarray(random.integers(0, 256, (6, 8, 3), dtype=np.uint8))
        picture = coarse.resize((320, 240), Image.Resampling.BICUBIC)
        draw = ImageDraw.Draw(picture)
        for _ in range(30):
            left, top = (int(number) for number in random.integers(0, (300, 220)))
            width, height = (int(number) for number in random.integers(5, 90, 2))
            colour = tuple(int(number) for number in random.integers(0, 256, 3))
            shape = draw.rectangle if random.random() < 0.5 else draw.ellipse
            shape((left, top, left + width, top + height), fill=colour)
        noise = random.normal(0, 8, (240, 320, 3))
        pictures.append(Image.fromarray(np.clip(np.asarray(picture) + noise, 0, 255).astype(np.uint8)))
    return pictures


def _torchvision(file: Path, found: ImportedWeights, geometry: Geometry, images: Images) -> Tensor:
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
        for name, value in _state(file, found).items()
    }
    state = {name: tensor for name, tensor in state.items() if "torchvision_" not in name}
    state["features.0.weight"] = found.tensors["conv1_1.weight"].float()  # over RGB, whatever the file had
    if found.features_only:
        state = {name: tensor for name, tensor in state.items() if name.startswith("features.")}
        model.classifier = nn.Sequential()
    elif geometry.head == "linear":
        places = {"weight": found.tensors["fc8.weight"].flatten(1), "bias": found.tensors["fc8.bias"]}
        state = {name: tensor for name, tensor in state.items() if name.startswith("features.")}
        state |= {f"classifier.{part}": tensor.float() for part, tensor in places.items()}
        outputs, inputs = places["weight"].shape
        model.avgpool, model.classifier = nn.AdaptiveAvgPool2d(1), nn.Linear(inputs, outputs, device="meta")
    model.load_state_dict(state, strict=True, assign=True)
    mean, std = _of_fractions(found)
    preset = ImageClassification(crop_size=geometry.crop, resize_size=geometry.crop, mean=mean, std=std)
    return _run(model.features if found.features_only else model, preset, images)


def _timm(file: Path, found: ImportedWeights, geometry: Geometry, images: Images) -> Tensor:
    timm = _import("timm")
    name = f"vgg{geometry.architecture.weight_layers}" + ("_bn" if geometry.batch_norm else "")
    model = timm.create_model(name, pretrained=False, num_classes=geometry.num_classes)
    model.load_state_dict(_state(file, found), strict=True)
    mean, std = _of_fractions(found)
    size = {"input_size": (3, geometry.crop, geometry.crop), "crop_pct": 1.0}
    settings = timm.data.resolve_data_config(size | {"mean": mean, "std": std}, model=model)
    return _run(model, timm.data.create_transform(**settings), images)


def _of_fractions(found: ImportedWeights) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """The mean and divisor of pixels in 0..1."""
    return tuple(number / 255 for number in found.mean), tuple(number / 255 for number in found.divisor)


def _run(model: nn.Module, transform: Callable[[Image.Image], Tensor], images: Images) -> Tensor:
    with torch.inference_mode():
        scores: Tensor = model.eval()(torch.stack([transform(image) for image in images]))
    return scores


def _state(file: Path, found: ImportedWeights) -> dict[str, Tensor]:
    state = (load_safetensors(file) if is_safetensors(file) else load_pickle(file, averaged=found.averaged)).tensors
    named = find_convolutions(state)
    assert named is not None  # it was imported
    plain = {plain_name(name): name for name in state if name not in named.outside}
    return {name.removeprefix(named.prefix): state[theirs] for name, theirs in plain.items()}


def _keras(file: Path, found: ImportedWeights, geometry: Geometry, images: Images) -> Tensor:
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
    shape = (geometry.crop, geometry.crop, 3)
    if "fc6.weight" in found.tensors:
        top = {"classes": geometry.num_classes, "classifier_activation": None}
        models = [make(weights=None, input_shape=shape, **top)]
    else:  # a head of somebody's own may stand in one model with the convolutions, or around theirs
        base = make(weights=None, include_top=False, input_shape=shape)
        layers = keras.layers
        head = [] if found.features_only else [layers.GlobalAveragePooling2D(), layers.Dense(geometry.num_classes)]
        nested = keras.Sequential([layers.Input(shape), base, *head])
        models = [keras.Sequential([*base.layers, *head]), nested]
    model = _loaded(models, file)
    pixels = np.stack([np.asarray(image, np.float32) for image in images])
    with torch.no_grad():  # for Keras on torch, which would keep every activation
        result = model(keras.applications.vgg16.preprocess_input(pixels), training=False)
        scores = torch.from_numpy(np.array(keras.ops.convert_to_numpy(result)))
    return scores.permute(0, 3, 1, 2) if found.features_only else scores


def _loaded(models: Sequence[Any], file: Path) -> Any:  # noqa: ANN401 - of Keras
    """Loads a file into the first model that takes it, and returns that."""
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of every group that a model before the right one does not find
        # Keras goes by the ending, and we by the content
        linked = Path(folder) / f"weights{_keras_suffix(file)}"
        if os.name == "nt":
            shutil.copy(file, linked)
        else:
            linked.symlink_to(file.resolve())
        reason: Exception | None = None
        for model in models:
            try:
                model.load_weights(linked)
            except ValueError as error:
                reason = error
            else:
                return model
        raise UserError(
            f"--verify: Keras loads {file} into no VGG of its own ({' '.join(str(reason).split())[:_MOST_REASON]}), so "
            "that nothing can be compared: import it without --verify"
        )


def _keras_suffix(file: Path) -> str:
    if zipfile.is_zipfile(file):
        return ".keras"
    import h5py

    with h5py.File(file) as hdf5:
        return ".weights.h5" if "layers" in hdf5 else ".h5"


def _onnx_runtime(file: Path, found: ImportedWeights, geometry: Geometry, images: Images) -> Tensor:
    runtime = _import("onnxruntime")
    wanted = find_input(file)
    is_bgr = not torch.equal(wanted.first_kernel, found.tensors["conv1_1.weight"])
    model = _ending_with(file, wanted.last_map) if found.features_only else str(file)
    session = runtime.InferenceSession(model, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    mean, divisor = (np.array(numbers, np.float32) for numbers in (found.mean, found.divisor))
    scores = []
    for image in images:
        pixels: NDArray[np.float32] = np.asarray(image, np.float32)
        x: NDArray[np.floating]
        if wanted.is_normalised:
            usual = (np.array(numbers, np.float32) for numbers in (TORCHVISION_MEAN, TORCHVISION_STD))
            x = (pixels / 255 - next(usual)) / next(usual)
        elif wanted.largest is None:
            x = (pixels - mean) / divisor
        else:
            x = pixels * np.float32(wanted.largest / 255)
        x = x[..., ::-1] if is_bgr else x
        x = x if wanted.axes == "nhwc" else x.transpose(2, 0, 1)
        batch = np.repeat(x[None], max(1, wanted.batch), axis=0)  # a graph may have been exported for several
        scores.append(session.run(None, {name: batch})[0][0])
    return torch.from_numpy(np.stack(scores))


def _ending_with(file: Path, value: str) -> bytes:
    """A model with a value of its graph as its only output."""
    import onnx

    model = onnx.load_model(file)
    del model.graph.output[:]
    model.graph.output.append(onnx.ValueInfoProto(name=value))
    content: bytes = model.SerializeToString()
    return content


def _import(name: str) -> Any:  # noqa: ANN401 - a module of another program
    try:
        return import_module(name)
    except ImportError as error:
        raise UserError(f"{name} is not installed, and only it can run its files: pip install '{name}'") from error


PEERS: Final[dict[str, tuple[str, Scores]]] = {
    "torchvision": ("torchvision", _torchvision),
    "seed class": ("torchvision", _torchvision),
    "timm": ("timm", _timm),
    "Keras": ("keras", _keras),
    "ONNX": ("onnxruntime", _onnx_runtime),
}
"""The package that runs the files, and how, by the kind of what was read."""
