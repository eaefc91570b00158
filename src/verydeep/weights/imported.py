"""Weights of another program in our names, and the net of Table 1 that their shapes make of them."""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor

from verydeep.errors import UsageError, UserError, printable
from verydeep.nets.architecture import ARCHITECTURES, BLOCK_CHANNELS, FC_CHANNELS, Architecture, Geometry, Head
from verydeep.nets.net import IMAGENET_MEAN, VeryDeep, empty_net
from verydeep.nets.plain_weights import unshared
from verydeep.paper import constants

Triple = tuple[float, float, float]
MeanAndDivisor = tuple[Triple, Triple]
"""RGB, of pixels in 0..255."""

KERAS_WORDS = "BGR in 0..255, minus (103.939, 116.779, 123.68)"
"""What keras.applications does to the pixels before its VGGs."""

A_GUESS = "a guess, the file does not say (--mean, --divisor and --bgr say otherwise)"

_CONVOLUTION = re.compile(r"conv([1-9])_([1-9])\.weight")
_MOST_SHOWN = 8
_COUNTER = "num_batches_tracked"  # the tensor of a batch norm that older files lack


@dataclass(frozen=True, kw_only=True)
class ImportedWeights:
    """Weights of another program in the names, shapes and channel order of ours: what every reader returns.

    Attributes:
        kind: whose format it is, such as ``torchvision`` or ``Keras``.
        tensors: by our names: ``conv1_1.weight`` (o,i,y,x; the first over RGB), ``conv1_1.bias``, ``bn1_1.*`` as torch
            names them, ``fc6.weight`` (o,512,y,x), ``fc7.weight``, ``fc8.weight`` (o,i,1,1); fc8 alone is a linear
            head.
        mean: subtracted from the pixels, RGB in 0..255.
        divisor: divides them afterwards.
        convention: what the file's own program does to the pixels, in words.
        classes: in the order of the scores, where the file names them.
        pooled_crops: crops for which its program pools the last map to the side of fc6, as torchvision does for any, so
            that fc6 can be rewritten exactly for a net trained on them.
        is_guessed: whether mean, divisor and order of the channels are its program's usual ones, and not in the file.
        crop: of the images that the file asks for, where it says so: that of a linear head, which fits any.
        head_names: in the file's own words, of what follows its convolutions.
        reason: why that was left out, where it was not asked for.
        was_bgr: whether the first convolution was over blue, green, red in the file.
        notes: what was taken and passed over, for the user.
        averaged: whether averaged weights were taken where the file has both.
    """

    kind: str
    tensors: dict[str, Tensor] = field(repr=False)
    mean: Triple
    divisor: Triple
    convention: str
    classes: tuple[str, ...] | None = None
    pooled_crops: range = range(0)
    is_guessed: bool = False
    crop: int | None = None
    head_names: tuple[str, ...] = ()
    reason: str | None = None
    was_bgr: bool = False
    notes: tuple[str, ...] = ()
    averaged: bool = True

    @property
    def features_only(self) -> bool:
        """Whether it has convolutions and no fully connected layers."""
        return not any(name.startswith("fc") for name in self.tensors)

    @property
    def left_out(self) -> tuple[str, ...]:
        """Names in the file of what was not read."""
        return self.head_names if self.features_only else ()

    def without_head(self) -> "ImportedWeights":
        """Returns the convolutions only."""
        return replace(self, tensors={name: part for name, part in self.tensors.items() if not name.startswith("fc")})

    def with_input(
        self, *, mean: Triple | None = None, divisor: Triple | None = None, bgr: bool = False
    ) -> "ImportedWeights":
        """Returns the weights with the mean, divisor and channel order that they were trained with."""
        tensors = self.tensors
        if bgr and "conv1_1.weight" in tensors:
            tensors = tensors | {"conv1_1.weight": tensors["conv1_1.weight"].flip(1)}
        return replace(
            self,
            tensors=tensors,
            mean=mean or self.mean,
            divisor=divisor or self.divisor,
            convention="as given by --mean, --divisor and --bgr" if mean or divisor or bgr else self.convention,
            is_guessed=self.is_guessed and not (mean or divisor or bgr),
        )


def names_in_words(names: Sequence[str]) -> str:
    """Lists the first names of layers, and how many more there are."""
    more = f" and {len(names) - _MOST_SHOWN} more" if len(names) > _MOST_SHOWN else ""
    return ", ".join(printable(name[:80]) for name in names[:_MOST_SHOWN]) + more


def assemble(found: ImportedWeights, *, crop: int | None = None, classes: Sequence[str] | None = None) -> VeryDeep:
    """Makes a net of imported weights; architecture, batch norm, width and number of classes follow from their shapes.

    Args:
        found: the weights in our names.
        crop: side of the crop the net was trained on, pixels; by default what the shape of fc6 says, or for a linear
            head the file. Another one is possible where there is no fc6, or where the other program pools its last map
            to the side of fc6, as torchvision does for crop 32: then fc6 is rewritten exactly.
        classes: names of the classes in the order of the scores; by default those of the file.

    Raises:
        UserError: the tensors are no net of Table 1, or a weight, the mean, the divisor or the names are unusable.
        UsageError: a crop that the weights cannot have.

    Paper: section 2.1, Table 1.
    """
    features_only = found.features_only
    net = find_net(found.tensors)
    _check_numbers(found)
    tensors = found.tensors | {"mean": torch.tensor(IMAGENET_MEAN), "divisor": torch.ones(3)}
    has_fc6 = "fc6.weight" in tensors
    if crop is None and net.geometry.head == "linear":
        crop = found.crop
    if crop is not None and crop != net.geometry.crop:
        geometry = replace(net.geometry, crop=crop)
        if has_fc6 and crop not in found.pooled_crops:
            raise UsageError(f"crop {crop}: fc6 of these weights of {found.kind} is of crop {net.geometry.crop}")
        if has_fc6:
            tensors["fc6.weight"] = fold_adaptive_pool(tensors["fc6.weight"], geometry.head_kernel)
        net = empty_net(geometry, features_only=features_only)
    for name, like in net.state_dict().items():
        tensor = tensors.get(name, torch.tensor(0))  # a counter that is not there
        tensors[name] = tensor.detach().to("cpu", like.dtype).contiguous()
    net.load_state_dict(unshared(tensors), assign=True)
    net.set_input(found.mean, found.divisor)
    names = found.classes if classes is None else tuple(classes)
    if names is not None and not features_only:
        if len(names) != net.geometry.num_classes:
            raise UserError(f"{len(names):,} names of classes for the {net.geometry.num_classes:,} scores of fc8")
        net.classes = names
    return net.eval()


def mean_and_divisor(factor: NDArray[np.float64], offset: NDArray[np.float64]) -> MeanAndDivisor | None:
    """Those of a net that first computes factor * pixel + offset; None where they are no usable numbers."""
    with np.errstate(all="ignore"):
        mean, divisor = 0 - offset / factor, 1 / factor
    if not np.isfinite([mean, divisor]).all() or not (divisor > 0).all():
        return None
    return as_triple(mean), as_triple(divisor)


def whole_crop(side: int) -> int | None:
    """The crop whose last map is that of images of this side, which poolings round down; None where there is none."""
    return side // constants.TOTAL_STRIDE * constants.TOTAL_STRIDE or None if side > 0 else None


def as_triple(numbers: NDArray[np.float64]) -> Triple:
    red, green, blue = numbers.tolist()
    return red, green, blue


def pooling_matrix(side: int, kernel: int) -> Float[Tensor, "kernel side"]:
    """Adaptive average pooling from ``side`` to ``kernel`` positions along one direction, as a float64 matrix."""
    return F.adaptive_avg_pool1d(torch.eye(side, dtype=torch.float64), kernel).T


def fold_adaptive_pool(weight: Float[Tensor, "o c y x"], side: int) -> Float[Tensor, "o c side side"]:
    """Rewrites fc6 so that adaptive average pooling before it is not needed.

    Pooling is linear, so the weights of a smaller map, of ``side`` = crop/32, are sums of those of the pooled one: at
    crop 32 each channel has one position, which pooling repeats 49 times, and its weight is the sum of the 49. Added in
    float64.
    """
    pooling = pooling_matrix(side, weight.shape[-1])
    # a slice at a time: in float64 the whole is 800 MB
    folded = [pooling.T @ part.double() @ pooling for part in weight.split(64)]
    return torch.cat([part.float() for part in folded])


def find_net(tensors: Mapping[str, Tensor]) -> VeryDeep:
    """Makes the only net of Table 1 with these shapes, on the meta device; without fc6 it is of crop 224."""
    row = _find_row(tensors)
    batch_norm = any(name.startswith("bn") for name in tensors)
    crop, num_classes = constants.CROP, 1000
    connected = {name.partition(".")[0] for name in tensors if name.startswith("fc")}
    head: Head = "linear" if connected == {"fc8"} else "paper"
    if head == "linear":
        num_classes = _shape_of(tensors, "fc8.weight")[0]
    elif connected:
        *_, height, side = shape = _shape_of(tensors, "fc6.weight")
        if height != side:
            raise UserError(f"fc6.weight has the shape {shape}: nets of square crops have square kernels")
        crop, num_classes = side * constants.TOTAL_STRIDE, _shape_of(tensors, "fc8.weight")[0]
    widths = _possible_widths(tensors, row)
    shapes: list[tuple[float, int | None]] = [(width, None) for width in widths]
    if head == "paper" and connected:  # fc6 and fc7 of another width than the paper's are tried last
        shapes += [(width, _shape_of(tensors, "fc6.weight")[0]) for width in widths]
    misfits: list[str] = []
    for width, hidden in shapes:
        try:
            geometry = Geometry(
                architecture=row,
                batch_norm=batch_norm,
                num_classes=num_classes,
                crop=crop,
                width=width,
                head=head,
                hidden=hidden,
            )
        except UsageError as error:
            raise UserError(misfits[0] if misfits else f"no net of Table 1: {error}") from error
        net = empty_net(geometry, features_only=not connected)
        misfit = _misfit(tensors, net)
        if misfit is None:
            return net
        misfits.append(misfit)
    raise UserError(misfits[0])


def _misfit(tensors: Mapping[str, Tensor], net: VeryDeep) -> str | None:
    title = net.geometry.title
    expected = {name: tuple(like.shape) for name, like in net.state_dict().items() if name not in ("mean", "divisor")}
    for name, shape in expected.items():
        if name not in tensors and not name.endswith(_COUNTER):
            return f"{name} of {title} is missing"
        if name in tensors and tuple(tensors[name].shape) != shape:
            return f"{name} has the shape {tuple(tensors[name].shape)}, and not {shape} as in {title}"
    for name, tensor in tensors.items():
        if name not in expected:
            return f"{name}, of shape {tuple(tensor.shape)}, is none of {title}"
    return None


def _find_row(tensors: Mapping[str, Tensor]) -> Architecture:
    blocks: dict[int, dict[int, int]] = {}
    for name, tensor in tensors.items():
        if found := _CONVOLUTION.fullmatch(name):
            if tensor.ndim != 4 or tensor.shape[-1] != tensor.shape[-2]:
                raise UserError(f"{name} has the shape {tuple(tensor.shape)}: it is no square convolution")
            blocks.setdefault(int(found[1]), {})[int(found[2])] = tensor.shape[-1]
    if not blocks:
        raise UserError("there is no convolution in it")
    kernels = tuple(tuple(kernel for _, kernel in sorted(block.items())) for _, block in sorted(blocks.items()))
    for row in ARCHITECTURES.values():
        if row.blocks == kernels and not row.local_response_norm:
            return row
    count, last = len(kernels), len(kernels[-1])
    if any((*row.blocks[: count - 1], row.blocks[count - 1][:last]) == kernels for row in _cut_rows(count)):
        raise UserError(
            f"its convolutions end with conv{count}_{last}, and a model file holds all five blocks of a net: "
            f"import the whole net, and take its activations(images, ['relu{count}_{last}'])"
        )
    shown = " | ".join(" ".join(f"{kernel}x{kernel}" for kernel in block) for block in kernels)
    known = ", ".join(row.name for row in ARCHITECTURES.values())
    raise UserError(f"its convolutions, block by block {shown}, are no column of Table 1 ({known})")


def _cut_rows(count: int) -> list[Architecture]:
    """The rows that a net of this many blocks, not one and not too many, may be the beginning of."""
    return [row for row in ARCHITECTURES.values() if 1 < count <= len(row.blocks)]


def last_channels(tensors: Mapping[str, Tensor]) -> int:
    """Channels of the map after the last pooling."""
    blocks = _find_row(tensors).blocks
    return int(tensors[f"conv{len(blocks)}_{len(blocks[-1])}.weight"].shape[0])


def _shape_of(tensors: Mapping[str, Tensor], name: str) -> tuple[int, ...]:
    if name not in tensors:
        raise UserError(f"{name} is missing")
    shape = tuple(tensors[name].shape)
    if len(shape) != 4:
        raise UserError(f"{name} has the shape {shape}, and not four dimensions")
    return shape


def _possible_widths(tensors: Mapping[str, Tensor], row: Architecture) -> list[float]:
    """Widths by the layers with most channels first: their rounding says most."""
    hidden = [tensors["fc7.weight"].shape[0] / FC_CHANNELS] if "fc7.weight" in tensors else []
    last = [
        tensors[f"conv{block}_{len(row.blocks[block - 1])}.weight"].shape[0] / BLOCK_CHANNELS[block - 1]
        for block in (5, 4, 3, 2, 1)
    ]
    return list(dict.fromkeys([*last[:1], *hidden, *last[1:]]))


def _check_numbers(found: ImportedWeights) -> None:
    for name, tensor in found.tensors.items():
        if not tensor.is_floating_point():
            if name.endswith(_COUNTER):
                continue
            raise UserError(f"{name} is of type {tensor.dtype}, and weights are floating point")
        finite = torch.isfinite(tensor.float())  # in float32, which is what becomes of it
        if not finite.all():
            count = int((~finite).sum())
            raise UserError(f"{name} has {count:,} of {tensor.numel():,} weights that are NaN or infinite")
        if name.endswith("running_var") and tensor.min() < 0:
            raise UserError(f"{name} has a variance of {float(tensor.min()):.3g}")
    if not all(math.isfinite(number) for number in (*found.mean, *found.divisor)) or min(found.divisor) <= 0:
        raise UserError(
            f"its pixels are less {found.mean} and divided by {found.divisor}: no net can be used so; say what it was "
            "trained on with --mean and --divisor"
        )
