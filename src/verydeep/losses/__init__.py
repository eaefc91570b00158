"""Distances of pictures by the features of a net: content, style, LPIPS and DISTS.

All take two batches of pictures and give one number for each pair; gradients flow to both:
``verydeep.losses.LPIPS()(x, y, data_range=1)``. The names below are imported when they are first used.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from verydeep.losses.distances import DISTS as DISTS
    from verydeep.losses.distances import LPIPS as LPIPS
    from verydeep.losses.distances import Content as Content
    from verydeep.losses.distances import Style as Style
    from verydeep.losses.pictures import Reference as Reference

_HOMES = {
    "DISTS": "distances",
    "LPIPS": "distances",
    "Content": "distances",
    "Reference": "pictures",
    "Style": "distances",
}

__all__ = list(_HOMES)


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module 'verydeep.losses' has no attribute {name!r}")
    return getattr(import_module(f"verydeep.losses.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOMES])
