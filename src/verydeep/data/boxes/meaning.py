"""What the numbers of a whole data set mean, where that is not what its format says: other corners, other units."""

from itertools import product
from typing import get_args

import numpy as np
from jaxtyping import Bool, Float64
from numpy import ndarray

from verydeep.data.boxes.reading import Code, Unit

_MISFIT = 0.1  # share of boxes that do not fit as the format has them, from which on another meaning is looked for
_FIT = 0.99  # share that must fit as that other meaning
_SLACK, _SLACK_PIXELS = 0.02, 2.0
_MANY, _LARGE = 20, 300  # boxes and pixels a side from which on "all below 100" says per cent

_WORDS: dict[Code, str] = {
    "corners": "left, top, right, bottom",
    "xywh": "left, top, width, height",
    "centre": "centre x, centre y, width, height",
}
_UNITS: dict[Unit, str] = {"pixels": "pixels", "shares": "shares of the image"}


def to_corners(
    numbers: Float64[ndarray, "m 4"], code: Code, unit: Unit, sizes: Float64[ndarray, "#m 2"]
) -> Float64[ndarray, "m 4"]:
    """Makes corners in pixels of the numbers of boxes; ``sizes`` has the width and height of the image of each."""
    corners = numbers.copy()
    with np.errstate(over="ignore", invalid="ignore"):  # of infinite numbers, which are refused
        if code == "centre":
            corners[:, :2] -= numbers[:, 2:] / 2
        if code != "corners":
            corners[:, 2:] += corners[:, :2]
        return corners * np.tile(sizes, 2) if unit == "shares" else corners


def other_meaning(
    numbers: Float64[ndarray, "m 4"], sizes: Float64[ndarray, "m 2"], code: Code, unit: Unit
) -> str | None:
    """Says what the boxes of a data set look like where that is not what they were read as; None where they fit."""
    known = np.isfinite(numbers).all(1) & (sizes.min(1, initial=np.inf) > 0)
    numbers, sizes = numbers[known], sizes[known]
    if not len(numbers):
        return None
    largest = numbers.max()
    if unit == "pixels" and numbers.min() >= 0 and largest <= 1:
        return "look like shares of the image, in 0..1"
    if unit == "pixels" and len(numbers) >= _MANY and 90 < largest <= 100 and sizes.min() >= _LARGE:
        return "look like per cent of the image, in 0..100"
    misfits = len(numbers) - int(_fits(numbers, sizes, code, unit).sum())
    if misfits < 2 or misfits <= _MISFIT * len(numbers):
        return None
    others: list[tuple[Unit, Code]] = sorted(
        product(get_args(Unit), get_args(Code)), key=lambda one: (one[0] != unit, one[1] != code)
    )
    for other_unit, other_code in others:
        if other_unit == "pixels" != unit and np.median(numbers[:, 2:]) <= 1:  # shares would be boxes of no pixel
            continue
        if _fits(numbers, sizes, other_code, other_unit).mean() >= _FIT:
            return f"look like {_WORDS[other_code]} in {_UNITS[other_unit]}, and are read as {_WORDS[code]}" + (
                "" if other_unit == unit else f" in {_UNITS[unit]}"
            )
    return None


def _fits(
    numbers: Float64[ndarray, "m 4"], sizes: Float64[ndarray, "m 2"], code: Code, unit: Unit
) -> Bool[ndarray, "m"]:
    """Whether each box has an area and lies in its image, nearly."""
    corners = to_corners(numbers, code, unit, sizes)
    slack = _SLACK * sizes + _SLACK_PIXELS
    inside = (corners[:, :2] >= -slack) & (corners[:, 2:] <= sizes + slack)
    return np.asarray((inside & (corners[:, 2:] > corners[:, :2])).all(1))
