"""Layers by name: what a net has, and the size of image that each needs.

Paper: section 2.1, Table 1.
"""

import difflib
import re
from collections.abc import Collection, Sequence
from typing import Final

from verydeep.errors import UsageError, UserError
from verydeep.nets.architecture import Geometry, layers

POOLINGS: Final = ("max", "average")
"""What may stand between the blocks: the paper's max-pooling, or the average that style transfer prefers."""

_KERAS: Final = {"fc1": "relu6", "fc2": "relu7", "predictions": "fc8", "flatten": "pool5"}
"""Names of Keras that follow no rule; its dense layers and convolutions give what stands after their ReLU."""


def check_layers(names: Sequence[str], known: Collection[str], geometry: Geometry) -> None:
    """Checks that a net or a backend has layers of these names.

    Args:
        names: asked for.
        known: names that there are, from the image to the scores.
        geometry: of the net.

    Raises:
        UsageError: a name is not known; the message says the nearest that are.
    """
    if isinstance(names, str):
        raise UsageError(f"layers {names!r}: give a list of names, such as [{names!r}]")
    for name in names:
        if name not in known:
            near = nearest_layers(str(name), known, geometry)
            hint = f"did you mean {' or '.join(near)}? It" if near else "it"
            raise UsageError(f"no layer {name!r} in {geometry.title}: {hint} has {', '.join(known)}")


def nearest_layers(name: str, known: Collection[str], geometry: Geometry) -> list[str]:
    """Finds the layers that a wrong name may mean: those of torchvision and Keras have rules, others a likeness."""
    meant = _translate(name.strip().lower(), geometry)
    if meant in known:
        return [meant]
    return difflib.get_close_matches(meant, known, n=3, cutoff=0.6)


def _translate(name: str, geometry: Geometry) -> str:
    """The layer that a name of torchvision or Keras stands for, or the name with our separators."""
    named = [layer for layer in layers(geometry) if layer.kind != "local-response-norm"]
    names = [layer.name for layer in named]
    first = next(index for index, layer in enumerate(named) if layer.kind == "fully-connected")
    if match := re.fullmatch(r"(features|classifier)\.(\d+)", name):
        part = names[:first] if match[1] == "features" else names[first:]
        return part[int(match[2])] if int(match[2]) < len(part) else name
    if match := re.fullmatch(r"block(\d)_(conv(\d)|pool)", name):
        return f"pool{match[1]}" if match[3] is None else f"relu{match[1]}_{match[3]}"
    return _KERAS.get(name) or re.sub(r"^(conv|bn|relu|pool|fc|drop|norm)[-_. ]?(\d)(?:[-_. ]?(\d))?$", _joined, name)


def _joined(match: re.Match[str]) -> str:
    return match[1] + match[2] + (f"_{match[3]}" if match[3] else "")


def smallest_side(geometry: Geometry, name: str) -> int:
    """The smallest side of an image for which a layer has an output, pixels."""
    side = 1
    for layer in layers(geometry):
        if layer.kind == "max-pool":
            side *= 2
        elif layer.kind == "fully-connected":
            side = geometry.smallest_side
        if layer.name == name:
            break
    return side


def check_reaches(size: Sequence[int], geometry: Geometry, names: Sequence[str]) -> None:
    """Checks that images are large enough for layers.

    Raises:
        UserError: a map would have no position.
    """
    for name in names:
        side = smallest_side(geometry, name)
        if min(size) < side:
            raise UserError(
                f"images of {'x'.join(map(str, size))} pixels: nothing is left of them at {name}, "
                f"whose images have sides of at least {side}"
            )


def check_pooling(pooling: str) -> None:
    if pooling not in POOLINGS:
        raise UsageError(f"pooling {pooling!r}: choose one of {', '.join(POOLINGS)}")
