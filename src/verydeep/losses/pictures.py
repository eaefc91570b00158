"""The pictures that a perceptual loss is given: checked, as pixels, in parts; and what is kept of them."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor

from verydeep.errors import UsageError, UserError
from verydeep.files import format_number
from verydeep.nets.checks import check_tensor

OVERSHOOT: Final = 0.25
"""How far pictures may lie outside of their range, as a part of it: one that is being optimised often does a little."""


MOST_PIXELS: Final = 2**17
"""Of the pictures that are computed at once: each layer of block 1 takes 32 MiB for them."""


@dataclass(frozen=True, eq=False)
class Reference:
    """What a loss keeps of pictures to compare others with: made by ``loss.reference``, without gradients.

    Attributes:
        size: height and width of the pictures.
        kept: what is compared, by layer.
        description: of the loss that made it.
    """

    size: tuple[int, int]
    kept: dict[str, Tensor]
    description: str

    def __len__(self) -> int:
        """Counts the pictures."""
        return len(next(iter(self.kept.values())))


def check_range(data_range: object) -> None:
    """Checks that the range of the pictures is one of the two that there are."""
    if data_range not in (1, 255) or isinstance(data_range, bool):
        raise UsageError(f"data_range={data_range!r}: give 1 for pictures in 0..1 or 255 for 0..255")


def check_pictures(pictures: Tensor, what: str, data_range: float) -> None:
    """Checks that pictures are n,3,h,w, and not plainly in another range than 0..data_range."""
    check_tensor(pictures, what)
    if pictures.ndim != 4 or pictures.shape[1] != 3 or not pictures.numel():
        raise UserError(f"{what} of shape {tuple(pictures.shape)}: give n,3,h,w, RGB in 0..{data_range}")
    if pictures.dtype == torch.uint8:
        if data_range == 1:
            raise UserError(f"{what} in uint8 with data_range=1: such pictures are in 0..255, give data_range=255")
        return
    if not pictures.is_floating_point():
        kind = str(pictures.dtype).removeprefix("torch.")
        raise UserError(f"{what} in {kind}: give uint8 or floating point")
    low, high = (float(bound) for bound in pictures.detach().aminmax())
    found = f"{what} from {format_number(low)} to {format_number(high)}, which is not 0..{data_range}"
    if low != low or high != high:
        raise UserError(f"{what} has NaN in it: give RGB in 0..{data_range}")
    if low < -OVERSHOOT * data_range or high > (1 + OVERSHOOT) * data_range:
        remedy = "(x + 1) / 2 makes 0..1 of -1..1" if -1.01 <= low < 0 and high <= 1.01 else "say its range"
        if data_range == 1 and low >= 0 and high <= 255:
            remedy = "give data_range=255"
        raise UserError(f"{found}: {remedy}")
    if data_range == 255 and 0 < high <= 1:
        raise UserError(f"{found}: give data_range=1")


def check_against(x: Tensor, shape: Sequence[int], dtype: torch.dtype | None) -> None:
    """Checks that two batches of pictures are of one shape and type; a reference has none, and may be one for all."""
    same = tuple(x.shape) == tuple(shape)
    if dtype is None:
        same = same or (shape[0] == 1 and tuple(x.shape[1:]) == tuple(shape[1:]))
    if not same:
        shapes = " and y of ".join(str(tuple(each)) for each in (x.shape, shape))
        raise UserError(f"x of shape {shapes}: give pictures of one size, as many of each")
    if dtype not in (None, x.dtype):
        kinds = " and y in ".join(str(kind).removeprefix("torch.") for kind in (x.dtype, dtype))
        raise UserError(f"x in {kinds}: give both in one type, such as y.to(x.dtype)")


def parts(pictures: Tensor) -> list[slice]:
    """The pictures that are computed at once."""
    n, _, height, width = pictures.shape
    step = max(1, MOST_PIXELS // (height * width))
    return [slice(first, min(n, first + step)) for first in range(0, n, step)]


def pixels(pictures: Tensor, data_range: float) -> Tensor:
    """RGB in 0..255."""
    return pictures.float() if data_range == 255 else pictures.float() * 255


def some(y: Tensor | Reference, part: slice) -> Tensor | Reference:
    if isinstance(y, Tensor):
        return y[part]
    if len(y) == 1:
        return y
    return Reference(y.size, {name: kept[part] for name, kept in y.kept.items()}, y.description)
