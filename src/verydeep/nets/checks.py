"""Checks of the images that a net is given."""

import torch
from jaxtyping import Num
from torch import Tensor

from verydeep.errors import UsageError, UserError
from verydeep.files import format_number


def is_traced() -> bool:
    """Whether torch captures what is computed: numbers are not known then, and a trace warns of each that is read."""
    return torch.compiler.is_compiling() or is_jit_traced()


def is_jit_traced() -> bool:
    """Whether ``torch.jit.trace`` or the older of torch's ONNX exporters captures it, for which sizes are tensors."""
    return bool(torch.jit.is_tracing())  # type: ignore[attr-defined]  # public, and not listed


def check_images(images: Num[Tensor, "..."]) -> None:
    """Checks that images are n,3,h,w, and not plainly something else than RGB in 0..255."""
    check_shape(images)
    if images.is_floating_point() and not is_traced():
        _check_range(images)


def check_shape(images: Num[Tensor, "..."]) -> None:
    """Checks that images are n,3,h,w."""
    check_tensor(images)
    if not is_jit_traced() and (images.ndim != 4 or images.shape[1] != 3):
        raise UserError(f"images of shape {tuple(images.shape)}: give n,3,h,w, RGB in 0..255")


def check_size(images: Num[Tensor, "n 3 h w"], smallest: int) -> None:
    """Checks that each side of the images has at least the pixels that a net needs."""
    check_tensor(images)
    if not is_jit_traced() and min(images.shape[-2:]) < smallest:
        size = "x".join(str(side) for side in images.shape[-2:])
        raise UserError(
            f"images of {size} pixels are too small for this net: rescale their shorter side to at least {smallest}"
        )


def check_tensor(given: object, what: str = "images", shape: str = "n,3,h,w") -> None:
    """Checks that what is given is a tensor at all."""
    if not isinstance(given, Tensor):
        kind = type(given).__name__
        raise UsageError(f"{what} of type {kind}: give a tensor {shape}, as torch.from_numpy makes of an array")


def range_of(images: Num[Tensor, "..."]) -> tuple[float, float]:
    """The smallest and the largest number; 0 and 0 of none."""
    low, high = (float(bound) for bound in images.detach().aminmax()) if images.numel() else (0.0, 0.0)
    return low, high


def _check_range(images: Tensor) -> None:
    low, high = range_of(images)
    remedy = "give RGB in 0..255: this net subtracts the mean itself"
    if low < -1:
        span = f"{format_number(low)} to {format_number(high)}"
        raise UserError(f"float images from {span} have been normalised already: {remedy}")
    if 0 < high <= 1:
        raise UserError(f"float images in {low:.3g}..{high:.3g} look like 0..1: multiply by 255 and {remedy}")
