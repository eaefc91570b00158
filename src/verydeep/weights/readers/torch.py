"""Reads .pth and .safetensors: the names of torchvision, timm and the seed class. Nothing in a pickle is run."""

import re
import warnings
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from pickle import UnpicklingError
from typing import Final, Literal

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from verydeep.errors import UserError
from verydeep.nets.architecture import Geometry, layers
from verydeep.nets.reuse import TORCHVISION_MEAN, TORCHVISION_STD
from verydeep.paper import constants
from verydeep.weights.heads import with_head
from verydeep.weights.imported import A_GUESS, ImportedWeights, Triple
from verydeep.weights.layer_order import HeadLayer

SSD_MEAN: Final = (0.48235, 0.45882, 0.40784)
"""The mean that torchvision gives with IMAGENET1K_FEATURES, in 0..1."""

Style = Literal["torchvision", "timm"]

_HEADS: Final[dict[Style, dict[str, str]]] = {
    "torchvision": {"classifier.0": "fc6", "classifier.3": "fc7", "classifier.6": "fc8"},
    "timm": {"pre_logits.fc1": "fc6", "pre_logits.fc2": "fc7", "head.fc": "fc8"},
}
_POOLED_ALWAYS = range(constants.TOTAL_STRIDE, 100 * constants.TOTAL_STRIDE, constants.TOTAL_STRIDE)
_POOLED_BELOW = range(constants.TOTAL_STRIDE, constants.CROP, constants.TOTAL_STRIDE)
_FEATURE = re.compile(r"(?:features|net)\.(\d+)\.(\w+)")
_CLASSIFIER = re.compile(r"classifier\.(\d+)\.(weight|bias)")
_PREFIXES = ("module.", "_orig_mod.", "model.", "backbone.", "encoder.")
_STATE_KEYS: Final = ("state_dict", "model_state_dict", "model", "model_state", "net", "weights")
_MOST_NESTING: Final = 4
_MOST_REPEATED: Final = 2**16  # places that one number may stand in, such as zero in a bias
_MOST_SHOWN = 4
_FORBIDDEN = re.compile(r"GLOBAL (\S+)")


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
    """Reads names and maps the tensors; the library checks length of the header, offsets and overlaps."""
    return from_state_dict(load_safetensors(file))


def load_safetensors(file: Path) -> dict[str, Tensor]:
    """Maps the tensors by the names they have in the file."""
    try:
        with safe_open(file, framework="pt") as opened:
            if "verydeep" in (opened.metadata() or {}):
                raise UserError(f"{file} is a model file of verydeep already: use it as it is")
            return {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118 - no mapping
    except (SafetensorError, ValueError, RuntimeError, OverflowError) as error:
        if isinstance(error, UserError):
            raise
        raise UserError(f"{file} is a damaged safetensors file ({error}): download it again") from error


def read_pickle(file: Path) -> ImportedWeights:
    """Reads a state dict; anything in the file that is no tensor and no plain value is refused."""
    return from_state_dict(load_pickle(file))


def load_pickle(file: Path) -> dict[str, Tensor]:
    """Reads the tensors of a state dict by the names they have in the file, without running what the file asks for."""
    zipped = zipfile.is_zipfile(file)
    if zipped:
        _check_archive(file)
    # torch goes by the ending, and we by the content; only files with a name can be mapped
    mapped = zipped and file.suffix != ".safetensors"
    try:
        with warnings.catch_warnings(), file.open("rb") as opened:
            warnings.simplefilter("ignore")
            loaded = torch.load(file if mapped else opened, map_location="cpu", weights_only=True, mmap=mapped)
    except UnpicklingError as error:
        forbidden = _FORBIDDEN.search(str(error))
        what = f"asks to run {forbidden[1]}" if forbidden else "holds more than tensors"
        raise UserError(
            f"{file} is a pickle that {what}, and nothing in it was run: save the state dict alone, with "
            "torch.save(model.state_dict(), FILE)"
        ) from error
    except Exception as error:  # whatever a made-up file sets off
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UserError(f"{file} is a damaged file of PyTorch ({reason}): download it again") from error
    return _checked_tensors(file, loaded)


def _check_archive(file: Path) -> None:
    """Refuses what torch.save never writes: compressed members, scripts, members that overlap."""
    with zipfile.ZipFile(file) as archive:
        members = archive.infolist()
    if any(member.filename.endswith(("/constants.pkl", ".py")) for member in members):
        raise UserError(f"{file} is a TorchScript program: save its state dict, with torch.save(model.state_dict())")
    if any(member.compress_type != zipfile.ZIP_STORED for member in members):
        raise UserError(f"{file} has compressed members, which torch.save does not write: it is refused")
    total = sum(member.file_size for member in members)
    if total > (size := file.stat().st_size):
        raise UserError(f"{file} claims {total:,} bytes in a file of {size:,}: it is refused")


def _checked_tensors(file: Path, loaded: object) -> dict[str, Tensor]:
    for _ in range(_MOST_NESTING):  # a made-up file may lie in itself
        if isinstance(loaded, Mapping) and (key := next((key for key in _STATE_KEYS if key in loaded), None)):
            loaded = loaded[key]
    if not isinstance(loaded, Mapping) or not loaded:
        raise UserError(f"{file} holds a {type(loaded).__name__} and no state dict")
    state: dict[str, Tensor] = {}
    for name, value in loaded.items():
        if not isinstance(name, str) or not isinstance(value, Tensor):
            raise UserError(f"{file} holds {name!r}, a {type(value).__name__}, where a state dict has tensors")
        if value.layout != torch.strided or value.is_quantized or value.is_meta:
            raise UserError(f"{file}: {name} is sparse, quantised or without numbers: give the plain weights")
        is_short = value.untyped_storage().nbytes() < value.numel() * value.element_size()
        if is_short and value.numel() > _MOST_REPEATED:
            raise UserError(f"{file}: {name} claims the shape {tuple(value.shape)} and has fewer numbers")
        state[name] = value
    return state


def pixels(fractions: Sequence[float]) -> Triple:
    """Turns numbers for pixels in 0..1 into those for 0..255."""
    red, green, blue = (255 * fraction for fraction in fractions)
    return red, green, blue


def from_state_dict(state: Mapping[str, Tensor]) -> ImportedWeights:
    """Reads the weights of a state dict with the convolutions of torchvision, timm or the seed class."""
    state = without_prefixes(state)
    if any(name.startswith("conv1_1.") for name in state):
        raise UserError("the names are those of verydeep, but it is no model file: its card is missing")
    features = {name: tensor for name, tensor in state.items() if _FEATURE.fullmatch(name)}
    rest = {name: tensor for name, tensor in state.items() if name not in features}
    if not features and not all(_CLASSIFIER.fullmatch(name) for name in rest):
        shown = "; ".join(f"{name[:80]}, of shape {tuple(rest[name].shape)}" for name in sorted(rest)[:_MOST_SHOWN])
        more = f"; and {len(rest) - _MOST_SHOWN} more" if len(rest) > _MOST_SHOWN else ""
        raise UserError(f"{shown}{more}: no name is that of a convolution of torchvision's and timm's VGGs, features.N")
    convolutions = ImportedWeights(
        kind="torchvision",
        tensors=_named_features(features),
        mean=pixels(TORCHVISION_MEAN),
        divisor=pixels(TORCHVISION_STD),
        convention="RGB in 0..1, minus (0.485, 0.456, 0.406), divided by (0.229, 0.224, 0.225)",
        is_guessed=True,
    )
    found = with_head(convolutions, _head_layers(rest))
    if any(name.startswith("net.") for name in features):
        found = replace(found, kind="seed class")
    elif not found.features_only and any(name.startswith("pre_logits.") for name in rest):
        found = replace(found, kind="timm")
    if rest and "fc6.weight" not in found.tensors:
        found = replace(found, convention=f"{found.convention}, as torchvision has it: {A_GUESS}")
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


def without_prefixes(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Takes off what DataParallel, torch.compile and training programs put before all names."""
    state = dict(state)
    while state and (common := [prefix for prefix in _PREFIXES if all(name.startswith(prefix) for name in state)]):
        state = {name.removeprefix(common[0]): tensor for name, tensor in state.items()}
    return state


def _named_features(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Names convolutions and batch norms by block; a pooling shows as a number that is left out."""
    numbered: dict[int, dict[str, Tensor]] = {}
    for name, tensor in state.items():
        if found := _FEATURE.fullmatch(name):
            part = numbered.setdefault(int(found[1]), {})
            if found[2] in part:
                raise UserError(f"{name} is there twice, under features.* and net.*")
            part[found[2]] = tensor
    named: dict[str, Tensor] = {}
    block, index, following, label = 1, 0, 0, ""
    for number in sorted(numbered):
        part = numbered[number]
        if "running_mean" in part or ("weight" in part and part["weight"].ndim == 1):
            prefix = f"bn{label}"
            following += 1
        else:
            if number == following + 1 and index:
                block, index = block + 1, 0
            elif number != following:
                raise UserError(f"features.{number} is not where a VGG has a convolution: {following} was expected")
            index += 1
            label = f"{block}_{index}"
            prefix = f"conv{label}"
            following = number + 2
        named |= {f"{prefix}.{name}": tensor for name, tensor in part.items()}
    return named


def _head_layers(state: Mapping[str, Tensor]) -> list[HeadLayer]:
    """Lists what follows the convolutions by the numbers in its names; ReLUs are taken to stand where there is room."""
    modules: dict[str, dict[str, Tensor]] = {}
    for name in sorted(state, key=_in_order):
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


def _in_order(name: str) -> tuple[bool, list[tuple[int, str]]]:
    """Sorts by numbers, which in safetensors are in no order; timm's pre_logits come before its head."""
    parts = re.findall(r"\d+|\D+", name)
    return not name.startswith("pre_logits."), [(int(part), "") if part.isdigit() else (-1, part) for part in parts]


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
