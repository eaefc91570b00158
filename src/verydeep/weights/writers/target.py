"""A program that weights are written for, and what it has to do to an image."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from verydeep.errors import UsageError
from verydeep.nets.architecture import FC_CHANNELS
from verydeep.nets.net import VeryDeep
from verydeep.paper import constants


@dataclass(frozen=True, kw_only=True)
class Preprocessing:
    """What a program has to do to an image before weights that we wrote for it."""

    channels: str  # RGB or BGR
    largest: int  # of a pixel: 255, or 1 where it is divided by 255 first
    mean: tuple[float, ...]  # subtracted from the channels in that order
    std: tuple[float, ...]  # divides them afterwards
    call: str  # of that program, that does it
    is_default: bool  # whether it is exactly what the program does by default for its VGG

    def __str__(self) -> str:
        """One line for a person."""
        mean, std = (", ".join(f"{number:.6g}" for number in numbers) for numbers in (self.mean, self.std))
        usual = "its default" if self.is_default else "which is not its default"
        return f"{self.channels} in 0..{self.largest}, less ({mean}), divided by ({std}): {self.call}, {usual}"


def subtracts(net: VeryDeep, mean: Sequence[float], divisor: Sequence[float] = (1, 1, 1)) -> bool:
    """Whether a net subtracts exactly this mean, RGB in 0..255, and divides by exactly this."""
    return net.mean.cpu().equal(torch.tensor(mean)) and net.divisor.cpu().equal(torch.tensor(divisor).float())


@dataclass(frozen=True, kw_only=True)
class Target:
    """A program whose weights we write, and which nets it can hold."""

    name: str  # as --to takes it
    suffixes: tuple[str, ...]
    architectures: tuple[str, ...]
    batch_norm: bool
    features_only: bool  # whether it takes convolutions alone
    write: Callable[[VeryDeep, Path], None]
    expects: Callable[[VeryDeep], Preprocessing]
    make: Callable[[VeryDeep], str]  # the call that makes the net there
    load: str  # the call that loads the file into it, with the name of the file in braces

    def check(self, net: VeryDeep) -> None:
        """Raises UsageError, which says why, for a net that the program cannot hold."""
        geometry = net.geometry
        reason = None
        if geometry.architecture.name not in self.architectures:
            reason = f"its VGGs are {', '.join(self.architectures)}, and this is {geometry.architecture.title}"
        elif geometry.batch_norm and not self.batch_norm:
            reason = "its VGGs have no batch norm"
        elif geometry.width != 1:
            reason = f"its VGGs have the paper's width, and this one {geometry.width:g} of it"
        elif geometry.hidden_channels != FC_CHANNELS and not net.features_only:
            reason = f"its fc6 and fc7 have {FC_CHANNELS} channels, and those of this net {geometry.hidden_channels}"
        elif net.boxes is not None:
            reason = "its VGGs have scores of classes, and this net is a localiser"
        elif geometry.head != "paper" and not net.features_only:
            reason = "its VGGs have fc6, fc7 and fc8, and this one has a linear head"
        elif geometry.crop != constants.CROP:
            reason = f"its fc6 is of crop {constants.CROP}, and this one of crop {geometry.crop}"
        elif net.features_only and not self.features_only:
            reason = "this net has its convolutions only, and a strict load there needs the fully connected layers"
        if reason:
            raise UsageError(f"{self.name} cannot hold this net: {reason}")
