"""Reads .pth and .safetensors: the names of torchvision, timm and the seed class. Nothing in a pickle is run."""

import itertools
import re
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final, Literal

import torch
from torch import Tensor

from verydeep.errors import UserError
from verydeep.nets.architecture import Geometry, layers
from verydeep.nets.net import IMAGENET_MEAN
from verydeep.nets.reuse import TORCHVISION_MEAN, TORCHVISION_STD
from verydeep.paper import constants
from verydeep.weights.heads import with_head
from verydeep.weights.imported import A_GUESS, KERAS_WORDS, ImportedWeights, Triple, as_triple, names_in_words
from verydeep.weights.layer_order import HeadLayer
from verydeep.weights.preprocessing import Recorded, record_beside, with_record
from verydeep.weights.readers.checkpoint import StateDict, load_pickle, load_safetensors
from verydeep.weights.readers.torch_names import find_convolutions, plain_name

SSD_MEAN: Final = (0.48235, 0.45882, 0.40784)
"""The mean that torchvision gives with IMAGENET1K_FEATURES, in 0..1."""

Style = Literal["torchvision", "timm"]

_HEADS: Final[dict[Style, dict[str, str]]] = {
    "torchvision": {"classifier.0": "fc6", "classifier.3": "fc7", "classifier.6": "fc8"},
    "timm": {"pre_logits.fc1": "fc6", "pre_logits.fc2": "fc7", "head.fc": "fc8"},
}
_POOLED_ALWAYS = range(constants.TOTAL_STRIDE, 100 * constants.TOTAL_STRIDE, constants.TOTAL_STRIDE)
_POOLED_BELOW = range(constants.TOTAL_STRIDE, constants.CROP, constants.TOTAL_STRIDE)
_USUAL: Final = f"as torchvision has it: {A_GUESS}"
_LAST: Final = re.compile(r"last|output|logits|(^|\.)(head|predictions?)\b")
_MOST_SHOWN = 4
_NUMBERS: Final = re.compile(r"(features|net)\.\d+\.\w+")
_KINDS: Final = {"features.": "torchvision", "net.": "seed class"}
_OTHER_NAMES: Final = "PyTorch, with names of its own"
_INPUTS: Final = ("mean", "divisor")  # of a net of this package, whose state dict was saved
_ADAPTED: Final = ("torchvision_scale", "torchvision_shift")
"""Of the first convolution of our twins of torchvision's class: from its input to what the net was trained on."""


def is_safetensors(file: Path) -> bool:
    """Whether the file begins as safetensors do: eight bytes of length, then a JSON object."""
    with file.open("rb") as opened:
        return opened.read(10)[8:] in (b'{"', b"{}", b"{ ")


def is_pickle(file: Path) -> bool:
    """Whether the file is a zip archive of torch.save, or a pickle, which files of before 2020 are."""
    with file.open("rb") as opened:
        start = opened.read(2)
    is_bare = start[:1] == b"\x80" and start[1:] <= b"\x05"
    return is_bare or any(name.endswith("/data.pkl") or name == "data.pkl" for name in member_names(file))


def member_names(file: Path) -> list[str]:
    """Names of the members of a file that begins as a zip archive; none where it is not one."""
    with file.open("rb") as opened:
        if opened.read(4) != b"PK\x03\x04":
            return []
    try:
        with zipfile.ZipFile(file) as archive:
            return archive.namelist()
    except (zipfile.BadZipFile, ValueError, EOFError):
        return []


def read_safetensors(file: Path) -> ImportedWeights:
    """Reads names and maps the tensors."""
    return from_checkpoint(load_safetensors(file), record_beside(file))


def read_pickle(file: Path, *, averaged: bool = True) -> ImportedWeights:
    """Reads a state dict; anything in the file that is no tensor and no plain value is refused."""
    return replace(from_checkpoint(load_pickle(file, averaged=averaged), record_beside(file)), averaged=averaged)


def from_checkpoint(state: StateDict, beside: Recorded | None = None) -> ImportedWeights:
    """Reads the weights of a state dict, with what the file or one beside it says of pixels and classes."""
    found = from_state_dict(state.tensors)
    for recorded in (beside, state.recorded):
        found = with_record(found, recorded)
    if found.classes is not None and len(found.classes) != _num_scores(found):
        found = replace(found, classes=None)  # of another head
    return replace(found, notes=(*state.notes, *found.notes))


def _num_scores(found: ImportedWeights) -> int:
    return len(found.tensors["fc8.weight"]) if "fc8.weight" in found.tensors else 0


def pixels(fractions: Sequence[float]) -> Triple:
    """Turns numbers for pixels in 0..1 into those for 0..255."""
    red, green, blue = (255 * fraction for fraction in fractions)
    return red, green, blue


def from_state_dict(state: Mapping[str, Tensor]) -> ImportedWeights:
    """Reads the weights of a state dict with the convolutions of a VGG, under any of the names that are known."""
    named = find_convolutions(state)
    if named is None:
        shown = "; ".join(f"{name[:80]}, of shape {tuple(state[name].shape)}" for name in sorted(state)[:_MOST_SHOWN])
        more = f"; and {len(state) - _MOST_SHOWN} more" if len(state) > _MOST_SHOWN else ""
        raise UserError(
            f"{shown}{more}: no name is that of a convolution of a VGG, such as features.0, conv1_1 or block1_conv1"
        )
    plain = {plain_name(name).removeprefix(named.prefix): name for name in named.rest}
    if named.container is not None and (twice := next(filter(_NUMBERS.fullmatch, plain), None)):
        raise UserError(f"{plain[twice]} is there twice, under features.* and net.*")
    container = (named.container or "").removeprefix(named.prefix)
    tensors, adapted = dict(named.tensors), {}
    for part in _ADAPTED:
        if f"conv1_1.{part}" in tensors:
            adapted[part] = tensors.pop(f"conv1_1.{part}")
    found = ImportedWeights(
        kind=_KINDS.get(container, _OTHER_NAMES),
        tensors=tensors,
        mean=pixels(TORCHVISION_MEAN),
        divisor=pixels(TORCHVISION_STD),
        convention=f"RGB in 0..1, minus (0.485, 0.456, 0.406), divided by (0.229, 0.224, 0.225), {_USUAL}",
        is_guessed=True,
    )
    found = _with_own_input(found, adapted, {name: named.rest[theirs] for name, theirs in plain.items()})
    if named.container is None and found.is_guessed:  # the names of Caffe, whose ports keep what it does to the pixels
        first = tensors["conv1_1.weight"].flip(1)
        found = replace(
            found,
            tensors=tensors | {"conv1_1.weight": first},
            mean=IMAGENET_MEAN,
            divisor=(1.0, 1.0, 1.0),
            convention=f"{KERAS_WORDS}, as Caffe has it, whose names these are: {A_GUESS}",
            was_bgr=True,
        )
    rest = {name: tensor for name, tensor in named.rest.items() if plain_name(name).rpartition(".")[2] not in _INPUTS}
    found = with_head(found, _head_layers(rest))
    if found.kind == "torchvision" and not found.features_only and any("pre_logits." in name for name in rest):
        found = replace(found, kind="timm")
    if named.outside:
        found = replace(found, notes=(f"passed over, no part of the net: {names_in_words(named.outside)}",))
    found = replace(found, pooled_crops=_POOLED_BELOW if found.kind == "timm" else _POOLED_ALWAYS)
    head = sorted(
        (name for name in found.tensors if name.startswith("fc")), key=lambda name: found.tensors[name].numel()
    )
    if not head or not all(bool(found.tensors[name].isnan().all()) for name in head):
        return found
    return replace(  # torchvision's IMAGENET1K_FEATURES: Caffe's convolutions, and NaN for what SSD did not keep
        found.without_head(),
        mean=pixels(SSD_MEAN),
        divisor=(1.0, 1.0, 1.0),
        is_guessed=False,
        convention="RGB in 0..1, minus (0.48235, 0.45882, 0.40784), divided by 1/255",
    )


def _with_own_input(
    found: ImportedWeights, adapted: Mapping[str, Tensor], rest: Mapping[str, Tensor]
) -> ImportedWeights:
    """Takes the input that the tensors say: of our twin of torchvision's class, or of a net of this package."""
    mean, std = (255 * torch.tensor(numbers, dtype=torch.float64) for numbers in (TORCHVISION_MEAN, TORCHVISION_STD))
    if len(adapted) == len(_ADAPTED):
        scale, shift = (adapted[part].double().flatten() for part in _ADAPTED)
        divisor = std / scale
        own_mean = mean - shift * divisor
        where = "as the twin's own first convolution has it"
    elif rest.keys() >= set(_INPUTS) and all(rest[name].numel() == 3 for name in _INPUTS):
        own_mean, divisor = (rest[name].double().flatten() for name in _INPUTS)
        where = "as mean and divisor in the file say"
    else:
        return found
    own = Recorded(where=where, mean=as_triple(own_mean.numpy()), divisor=as_triple(divisor.numpy()), is_bgr=False)
    return with_record(found, own)


def _head_layers(state: Mapping[str, Tensor]) -> list[HeadLayer]:
    """Lists what follows the convolutions by the numbers in its names; ReLUs are taken to stand where there is room."""
    modules: dict[str, dict[str, Tensor]] = {}
    in_order = sorted(state, key=_in_order)
    # by their numbers; else as the file has them, or those that are called last at the end
    orders = (in_order, list(state), sorted(in_order, key=lambda name: bool(_LAST.search(name))))
    for name in next((order for order in orders if _is_chain(order, state)), in_order):
        module, _, part = name.rpartition(".")
        modules.setdefault(module or name, {})[part] = state[name]
    found: list[HeadLayer] = []
    before = ""
    for module, parts in modules.items():
        weight, bias = parts.get("weight"), parts.get("bias")
        if weight is None or weight.ndim not in (2, 4) or parts.keys() - {"weight", "bias"}:
            found.append(HeadLayer(name=module))
            continue
        if before and not _are_neighbours(before, module):
            found.append(HeadLayer(name=module, kind="ReLU"))
        found.append(HeadLayer(name=module, kind="fully connected layer", weight=weight, bias=bias))
        before = module
    return found


def _is_chain(names: Sequence[str], state: Mapping[str, Tensor]) -> bool:
    """Whether each matrix takes as many numbers as the one before it gives."""
    shapes = [state[name].shape for name in names if name.endswith("weight") and state[name].ndim == 2]
    return all(first[0] == second[1] for first, second in itertools.pairwise(shapes))


def _in_order(name: str) -> tuple[bool, list[tuple[int, str]]]:
    """Sorts by numbers, which in safetensors are in no order; timm's pre_logits come before its head."""
    parts = re.findall(r"\d+|\D+", name)
    return ".pre_logits." not in f".{name}", [(int(part), "") if part.isdigit() else (-1, part) for part in parts]


def _are_neighbours(first: str, second: str) -> bool:
    """Whether nothing stands between two modules of one nn.Sequential."""
    (stem, _, before), (other, _, after) = first.rpartition("."), second.rpartition(".")
    return stem == other and before.isdigit() and after.isdigit() and int(after) == int(before) + 1


def layer_names(geometry: Geometry, style: Style) -> dict[str, str]:
    """Names of the layers with weights of a net in torchvision or timm, by ours."""
    heads = {ours: theirs for theirs, ours in _HEADS[style].items()}
    return {
        layer.name: heads.get(layer.name, f"features.{number}")
        for number, layer in enumerate(layers(geometry))
        if layer.kind in ("convolution", "batch-norm", "fully-connected")
    }
