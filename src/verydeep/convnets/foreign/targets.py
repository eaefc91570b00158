"""Weights of ours in the files of other programs, with the preprocessing that each of them then has to do."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import torch
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor

from verydeep.convnets.foreign.keras_writer import CAFFE_INPUT, KERAS_SUFFIXES, has_caffe_input, write_keras
from verydeep.convnets.foreign.names import TORCHVISION_MEAN, TORCHVISION_STD, Style, parts, pixels
from verydeep.errors import UsageError, UserError
from verydeep.files import atomic_write
from verydeep.nets.net import VeryDeep
from verydeep.paper import constants


@dataclass(frozen=True, kw_only=True)
class Preprocessing:
    """What a program has to do to an image before weights that we wrote for it.

    Attributes:
        channels: order of the channels, RGB or BGR.
        largest: of a pixel: 255, or 1 where it is divided by 255 first.
        mean: subtracted from the channels in that order.
        std: divides them afterwards.
        call: the call of that program that does it.
        is_default: whether it is exactly what the program does by default for its VGG.
    """

    channels: str
    largest: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    call: str
    is_default: bool

    def __str__(self) -> str:
        """One line for a person."""
        mean, std = (", ".join(f"{number:.6g}" for number in numbers) for numbers in (self.mean, self.std))
        usual = "its default" if self.is_default else "which is not its default"
        return f"{self.channels} in 0..{self.largest}, less ({mean}), divided by ({std}): {self.call}, {usual}"


@dataclass(frozen=True, kw_only=True)
class Target:
    """A program whose weights we write.

    Attributes:
        name: as ``--to`` takes it.
        suffixes: endings that a file for it may have.
        architectures: names of the columns of Table 1 that it has.
        batch_norm: whether it has batch norm.
        features_only: whether it takes convolutions alone.
        write: writes the file.
        expects: gives the preprocessing.
        make: gives the call that makes the net there.
        load: the call that loads the file into it, with the name of the file in braces.
    """

    name: str
    suffixes: tuple[str, ...]
    architectures: tuple[str, ...]
    batch_norm: bool
    features_only: bool
    write: Callable[[VeryDeep, Path], None]
    expects: Callable[[VeryDeep], Preprocessing]
    make: Callable[[VeryDeep], str]
    load: str

    def check(self, net: VeryDeep) -> None:
        """Refuses a net that the program cannot hold.

        Raises:
            UsageError: it cannot; the message says why.
        """
        geometry = net.geometry
        reason = None
        if geometry.architecture.name not in self.architectures:
            reason = f"its VGGs are {', '.join(self.architectures)}, and this is {geometry.architecture.title}"
        elif geometry.batch_norm and not self.batch_norm:
            reason = "its VGGs have no batch norm"
        elif geometry.width != 1:
            reason = f"its VGGs have the paper's width, and this one {geometry.width:g} of it"
        elif geometry.crop != constants.CROP:
            reason = f"its fc6 is of crop {constants.CROP}, and this one of crop {geometry.crop}"
        elif net.features_only and not self.features_only:
            reason = "this net has its convolutions only, and a strict load there needs the fully connected layers"
        if reason:
            raise UsageError(f"{self.name} cannot hold this net: {reason}")


def to_state_dict(net: VeryDeep, style: Style) -> dict[str, Tensor]:
    """Gives the weights under the names of torchvision or timm; views of ours, and no copies."""
    state: dict[str, Tensor] = {}
    ours = net.state_dict()
    for part in parts(net.geometry, style):
        prefix = f"{part.ours}."
        for name, tensor in ours.items():
            if name.startswith(prefix):
                matrix = part.is_matrix and name.endswith(".weight")
                state[part.theirs + "." + name.removeprefix(prefix)] = tensor.flatten(1) if matrix else tensor
    return state


def _write_torchvision(net: VeryDeep, file: Path) -> None:
    with atomic_write(file) as temporary:
        torch.save(to_state_dict(net, "torchvision"), temporary)


def _write_timm(net: VeryDeep, file: Path) -> None:
    tensors = {name: tensor.contiguous() for name, tensor in to_state_dict(net, "timm").items()}
    with atomic_write(file) as temporary:
        save_file(tensors, temporary, {"format": "pt"})


def _same(net: VeryDeep, mean: tuple[float, ...], divisor: tuple[float, ...]) -> bool:
    return net.mean.cpu().equal(torch.tensor(mean)) and net.divisor.cpu().equal(torch.tensor(divisor))


def has_torchvision_input(net: VeryDeep) -> bool:
    """Whether a net subtracts and divides by exactly what torchvision does."""
    return _same(net, pixels(TORCHVISION_MEAN), pixels(TORCHVISION_STD))


def _torch_preprocessing(net: VeryDeep, call: str) -> Preprocessing:
    default = has_torchvision_input(net)
    mean = TORCHVISION_MEAN if default else tuple(number / 255 for number in net.mean.tolist())
    std = TORCHVISION_STD if default else tuple(number / 255 for number in net.divisor.tolist())
    return Preprocessing(channels="RGB", largest=1, mean=mean, std=std, call=call, is_default=default)


def _expected_by_keras(net: VeryDeep) -> Preprocessing:
    if has_caffe_input(net):
        mean, std = (tuple(reversed(numbers)) for numbers in CAFFE_INPUT)
        call = "keras.applications.vgg16.preprocess_input(rgb)"
        return Preprocessing(channels="BGR", largest=255, mean=mean, std=std, call=call, is_default=True)
    if has_torchvision_input(net):
        call = "keras.applications.imagenet_utils.preprocess_input(rgb, mode='torch')"
        mean, std, largest = TORCHVISION_MEAN, TORCHVISION_STD, 1
    else:
        mean, std, largest = tuple(net.mean.tolist()), tuple(net.divisor.tolist()), 255
        call = f"(rgb - {_numbers(mean)}) / {_numbers(std)}"
    return Preprocessing(channels="RGB", largest=largest, mean=mean, std=std, call=call, is_default=False)


def _numbers(values: tuple[float, ...]) -> str:
    return f"numpy.array([{', '.join(f'{value:.9g}' for value in values)}])"


def _vgg(net: VeryDeep) -> str:
    return f"vgg{net.geometry.architecture.weight_layers}{'_bn' if net.geometry.batch_norm else ''}"


def _make_keras(net: VeryDeep) -> str:
    top = f"classes={net.geometry.num_classes}, classifier_activation=None"
    options = "include_top=False" if net.features_only else top
    return f"keras.applications.VGG{net.geometry.architecture.weight_layers}(weights=None, {options})"


_ROWS = (
    Target(
        name="torchvision",
        suffixes=(".pth", ".pt"),
        architectures=("A", "B", "D", "E"),
        batch_norm=True,
        features_only=False,
        write=_write_torchvision,
        expects=lambda net: _torch_preprocessing(net, "transforms.v2.Normalize(mean, std) after division by 255"),
        make=lambda net: f"torchvision.models.{_vgg(net)}(num_classes={net.geometry.num_classes})",
        load="model.load_state_dict(torch.load({file!r}, weights_only=True), strict=True)",
    ),
    Target(
        name="timm",
        suffixes=(".safetensors",),
        architectures=("A", "B", "D", "E"),
        batch_norm=True,
        features_only=False,
        write=_write_timm,
        expects=lambda net: _torch_preprocessing(net, "timm.data.create_transform(mean=mean, std=std)"),
        make=lambda net: f"timm.create_model({_vgg(net)!r}, num_classes={net.geometry.num_classes})",
        load="model.load_state_dict(safetensors.torch.load_file({file!r}), strict=True)",
    ),
    Target(
        name="keras",
        suffixes=KERAS_SUFFIXES,
        architectures=("D", "E"),
        batch_norm=False,
        features_only=True,
        write=write_keras,
        expects=_expected_by_keras,
        make=_make_keras,
        load="model.load_weights({file!r})",
    ),
)

TARGETS: Final[dict[str, Target]] = {row.name: row for row in _ROWS}
"""The rows by name."""


def find_target(name: str) -> Target:
    """Finds a program by name.

    Raises:
        UsageError: an unknown name.
    """
    if name not in TARGETS:
        raise UsageError(f"unknown program {name!r}: choose one of {', '.join(TARGETS)}, or hub for a folder")
    return TARGETS[name]


def export(net: VeryDeep, target: Target, file: Path) -> Preprocessing:
    """Writes the weights of a net for another program, whole or not at all; none of them is changed.

    A mean is never folded into the first convolution: its zero padding would then stand for another grey at the
    borders. So what the program has to do to an image follows from the net, and is given back.

    Args:
        net: the net.
        target: the program.
        file: with one of its suffixes.

    Raises:
        UserError: the file cannot be written.
        UsageError: the program cannot hold this net, or the file has another ending.
    """
    target.check(net)
    if not file.name.endswith(target.suffixes):
        raise UsageError(f"{file}: {target.name} reads {' or '.join(target.suffixes)} files: give such a name")
    try:
        target.write(net, file)
    except (OSError, SafetensorError, RuntimeError) as error:
        raise UserError(f"{file} cannot be written: {error}") from error
    return target.expects(net)
