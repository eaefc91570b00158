"""Modules that were pickled whole, as ``torch.save(model)`` writes them, and weights beside objects of other programs.

Their tensors are taken by name, and nothing is run. An empty object takes the place of every class and function that
such a pickle names: it can be made and given attributes, which is all that a pickle does with the classes of a module.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor

_DEPTH: Final = 4  # of mappings in which weights are looked for
_MOST_DEPTH: Final = 64  # of modules in modules: a made-up file may lie in itself


class Inert:
    """What a pickle makes of a name that is not known."""

    def __new__(cls, *_: object) -> "Inert":
        return super().__new__(cls)

    def __setstate__(self, state: object) -> None:
        if isinstance(state, dict):
            self.__dict__.update({name: value for name, value in state.items() if isinstance(name, str)})


def load_states(file: Path) -> tuple[object, list[str]] | None:
    """Reads a zipped pickle, with state dicts for its modules and without other objects of classes that are not known.

    Returns what it holds and the names of those classes; None where it holds no weights, or where it has no module and
    asks to call something.
    """
    called: list[bool] = []

    class Uncalled(Inert):
        def __init__(self, *_: object) -> None:
            called.append(True)

    names = torch.serialization.get_unsafe_globals_in_checkpoint(file)
    with torch.serialization.safe_globals([(Uncalled, name) for name in names]):
        loaded = torch.load(file, map_location="cpu", weights_only=True, mmap=True)
    states, has_modules = with_states(loaded)
    if has_modules:
        return states, []
    return (states, names) if not called and holds_tensors(states) else None


def holds_tensors(value: object, depth: int = _DEPTH) -> bool:
    """Whether there is a tensor in a mapping, or in a mapping in it."""
    if not isinstance(value, Mapping) or not depth:
        return isinstance(value, Tensor)
    return any(holds_tensors(inner, depth - 1) for inner in value.values())


def with_states(value: object, depth: int = _DEPTH) -> tuple[object, bool]:
    """Puts state dicts into the place of modules; returns whether there was one."""
    if isinstance(value, Inert):
        return (_state(value, ""), True) if isinstance(vars(value).get("_modules"), Mapping) else (None, False)
    if not isinstance(value, Mapping) or not depth:
        return value, False
    found = {name: with_states(inner, depth - 1) for name, inner in value.items()}
    return {name: inner for name, (inner, _) in found.items()}, any(is_one for _, is_one in found.values())


def _state(module: Inert, prefix: str, depth: int = _MOST_DEPTH) -> dict[str, Tensor]:
    """The parameters and buffers of a module, as its own ``state_dict`` names them."""
    parts: dict[str, Any] = vars(module)
    left_out = parts.get("_non_persistent_buffers_set") or ()
    tensors = {}
    for kind in "_parameters", "_buffers":
        own = parts.get(kind)
        for name, tensor in own.items() if isinstance(own, Mapping) else ():
            if isinstance(tensor, Tensor) and name not in left_out:
                tensors[f"{prefix}{name}"] = tensor.detach()
    inner = parts.get("_modules")
    for name, one in inner.items() if isinstance(inner, Mapping) and depth else ():
        if isinstance(one, Inert):
            tensors |= _state(one, f"{prefix}{name}.", depth - 1)
    return tensors
