"""Weights written for other programs: each a row, with the preprocessing that it then has to do."""

from pathlib import Path
from typing import Final

from safetensors import SafetensorError

from verydeep.errors import UsageError, UserError
from verydeep.nets.net import VeryDeep
from verydeep.weights.writers.keras import KERAS
from verydeep.weights.writers.target import Preprocessing, Target
from verydeep.weights.writers.torch import TIMM, TORCHVISION

TARGETS: Final[dict[str, Target]] = {row.name: row for row in (TORCHVISION, TIMM, KERAS)}


def find_target(name: str) -> Target:
    """Finds a program by name; UsageError for an unknown one."""
    if name not in TARGETS:
        raise UsageError(f"unknown program {name!r}: choose one of {', '.join(TARGETS)}, or hub for a folder")
    return TARGETS[name]


def export(net: VeryDeep, target: Target, file: Path) -> Preprocessing:
    """Writes the weights of a net for another program, whole or not at all; none of them is changed.

    A mean is never folded into the first convolution: its zero padding would then stand for another grey at the
    borders. So what the program has to do to an image follows from the net, and is returned.
    """
    target.check(net)
    if not file.name.endswith(target.suffixes):
        raise UsageError(f"{file}: {target.name} reads {' or '.join(target.suffixes)} files: give such a name")
    try:
        target.write(net, file)
    except (OSError, SafetensorError, RuntimeError) as error:
        raise UserError(f"{file} cannot be written: {error}") from error
    return target.expects(net)
