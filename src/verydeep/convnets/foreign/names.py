"""Names of torch's VGGs and ours: numbered layers of torchvision, timm and the seed class."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final, Literal

from torch import Tensor

from verydeep.convnets.foreign.found import ForeignWeights
from verydeep.errors import UserError
from verydeep.nets.architecture import ARCHITECTURES, Geometry, layers
from verydeep.paper import constants

TORCHVISION_MEAN: Final = (0.485, 0.456, 0.406)
TORCHVISION_STD: Final = (0.229, 0.224, 0.225)
"""What torchvision's and timm's transforms subtract from pixels in 0..1, and divide them by."""

CAFFE_MEAN_OF_SSD: Final = (0.48235, 0.45882, 0.40784)
"""The mean that torchvision gives with IMAGENET1K_FEATURES, in 0..1."""

Style = Literal["torchvision", "timm"]

_SQUEEZED_ALWAYS = range(constants.TOTAL_STRIDE, 100 * constants.TOTAL_STRIDE, constants.TOTAL_STRIDE)
_SQUEEZED_BELOW = range(constants.TOTAL_STRIDE, constants.CROP, constants.TOTAL_STRIDE)
_FEATURE = re.compile(r"(?:features|net)\.(\d+)\.(\w+)")
_CLASSIFIER = re.compile(r"classifier\.(\d+)\.(weight|bias)")
_TIMM_HEAD = {"pre_logits.fc1": "fc6", "pre_logits.fc2": "fc7", "head.fc": "fc8"}
_TIMM_NAMES = {f"{layer}.{part}" for layer in _TIMM_HEAD for part in ("weight", "bias")}
_MOST_SHOWN = 4
_PREFIXES = ("module.", "_orig_mod.", "model.", "backbone.", "encoder.")


def pixels(fractions: Sequence[float]) -> tuple[float, float, float]:
    """Turns numbers for pixels in 0..1 into those for 0..255."""
    red, green, blue = (255 * fraction for fraction in fractions)
    return red, green, blue


def from_state_dict(state: Mapping[str, Tensor]) -> ForeignWeights:
    """Gives the weights of a state dict of torchvision, timm or the seed class.

    Raises:
        UserError: a name is of none of them.
    """
    state = without_prefixes(state)
    if any(name.startswith("conv1_1.") for name in state):
        raise UserError("the names are those of verydeep, but it is no model file: its card is missing")
    tensors: dict[str, Tensor] = {}
    features = {name: tensor for name, tensor in state.items() if _FEATURE.fullmatch(name)}
    tensors |= _named_features(features)
    channels = [tensor.shape[0] for tensor in tensors.values() if tensor.ndim == 4]
    style: Style = "timm" if any(name.startswith("pre_logits.") for name in state) else "torchvision"
    seed = any(name.startswith("net.") for name in features)
    tensors |= _named_timm_head(state) if style == "timm" else _named_classifier(state, channels)
    read = _TIMM_NAMES if style == "timm" else {name for name in state if _CLASSIFIER.fullmatch(name)}
    if unread := sorted(state.keys() - features.keys() - read):
        shown = "; ".join(f"{name[:80]}, of shape {tuple(state[name].shape)}" for name in unread[:_MOST_SHOWN])
        more = f"; and {len(unread) - _MOST_SHOWN} more" if len(unread) > _MOST_SHOWN else ""
        what = "is no name" if len(unread) == 1 else "are no names"
        raise UserError(f"{shown}{more}, {what} of a VGG of {style}, as the others are")
    head = sorted((name for name in tensors if name.startswith("fc")), key=lambda name: tensors[name].numel())
    foreign = ForeignWeights(
        kind="seed class" if seed else style,
        tensors=tensors,
        mean=pixels(TORCHVISION_MEAN),
        divisor=pixels(TORCHVISION_STD),
        convention="RGB in 0..1, minus (0.485, 0.456, 0.406), divided by (0.229, 0.224, 0.225)",
        features_only=not head,
        squeezed_crops=_SQUEEZED_BELOW if style == "timm" else _SQUEEZED_ALWAYS,
    )
    without_numbers = bool(head) and all(bool(tensors[name].isnan().all()) for name in head)
    return _convolutions_of_ssd(foreign, head) if without_numbers else foreign


def _convolutions_of_ssd(foreign: ForeignWeights, head: Sequence[str]) -> ForeignWeights:
    """Torchvision's IMAGENET1K_FEATURES: Caffe's convolutions, and NaN for what SSD did not keep."""
    return replace(
        foreign,
        tensors={name: tensor for name, tensor in foreign.tensors.items() if name not in head},
        mean=pixels(CAFFE_MEAN_OF_SSD),
        divisor=(1.0, 1.0, 1.0),
        convention="RGB in 0..1, minus (0.48235, 0.45882, 0.40784), divided by 1/255",
        features_only=True,
    )


def without_prefixes(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Takes off what DataParallel, torch.compile and training programs put before all names."""
    state = dict(state)
    while state:
        for prefix in _PREFIXES:
            if all(name.startswith(prefix) for name in state):
                state = {name.removeprefix(prefix): tensor for name, tensor in state.items()}
                break
        else:
            break
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
        norm = "running_mean" in part or part["weight"].ndim == 1 if "weight" in part else False
        if norm:
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


def _named_classifier(state: Mapping[str, Tensor], channels: Sequence[int]) -> dict[str, Tensor]:
    numbers = sorted({int(found[1]) for name in state if (found := _CLASSIFIER.fullmatch(name))})
    if not numbers:
        return {}
    if len(numbers) != 3:
        raise UserError(f"there are {len(numbers)} fully connected layers (classifier.N), and a VGG has three")
    heads = dict(zip((f"classifier.{number}" for number in numbers), ("fc6", "fc7", "fc8"), strict=True))
    return {
        name: as_convolution(name, tensor, channels[-1] if name == "fc6.weight" and channels else None)
        for name, tensor in _renamed(state, heads)
    }


def _named_timm_head(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: as_convolution(name, tensor, None) for name, tensor in _renamed(state, _TIMM_HEAD)}


def _renamed(state: Mapping[str, Tensor], heads: Mapping[str, str]) -> Iterator[tuple[str, Tensor]]:
    for theirs, ours in heads.items():
        for part in ("weight", "bias"):
            if f"{theirs}.{part}" in state:
                yield f"{ours}.{part}", state[f"{theirs}.{part}"]


def as_convolution(name: str, tensor: Tensor, channels: int | None) -> Tensor:
    """Gives the matrix of a fully connected layer as a convolution, flattened as channels, rows, columns.

    Args:
        name: ours, for a message.
        tensor: o,i; or anything else, which comes back as it is.
        channels: of the map before fc6; None for the others.

    Raises:
        UserError: the inputs are no square map of these channels.
    """
    if tensor.ndim != 2:
        return tensor
    out, inputs = tensor.shape
    channels = inputs if channels is None else channels
    side = round((inputs / channels) ** 0.5)
    if channels * side * side != inputs:
        raise UserError(
            f"{name} has the shape {tuple(tensor.shape)}: {inputs:,} inputs are no square map of {channels} channels"
        )
    return tensor.reshape(out, channels, side, side)


@dataclass(frozen=True)
class Part:
    """A layer with weights in two sets of names.

    Attributes:
        ours: such as ``conv1_1``, ``bn1_1`` or ``fc6``.
        theirs: such as ``features.0``, ``pre_logits.fc1`` or ``classifier.6``.
        is_matrix: whether the other program has a matrix where we have a convolution.
    """

    ours: str
    theirs: str
    is_matrix: bool


def parts(geometry: Geometry, style: Style) -> list[Part]:
    """Lists the layers with weights of a net in the names of torchvision or timm."""
    timm = {ours: theirs for theirs, ours in _TIMM_HEAD.items()}
    torchvision = {"fc6": "classifier.0", "fc7": "classifier.3", "fc8": "classifier.6"}
    found: list[Part] = []
    for number, layer in enumerate(layers(geometry)):
        if layer.kind == "fully-connected":
            theirs = (timm if style == "timm" else torchvision)[layer.name]
            found.append(Part(layer.name, theirs, is_matrix=style == "torchvision" or layer.name == "fc8"))
        elif layer.kind in ("convolution", "batch-norm"):
            found.append(Part(layer.name, f"features.{number}", is_matrix=False))
    return found


def names_in_order(kernels: Sequence[int]) -> list[str]:
    """Names convolutions that are known by their order alone, by the only column of Table 1 they can be.

    Args:
        kernels: sides of the kernels from the image on.

    Raises:
        UserError: no column has these convolutions.
    """
    for row in ARCHITECTURES.values():
        if [kernel for block in row.blocks for kernel in block] == list(kernels):
            return [
                f"conv{block}_{index}"
                for block, sides in enumerate(row.blocks, start=1)
                for index in range(1, len(sides) + 1)
            ]
    shown = ", ".join(f"{kernel}x{kernel}" for kernel in kernels)
    raise UserError(f"its {len(kernels)} convolutions ({shown}) are no column of Table 1")
