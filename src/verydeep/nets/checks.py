"""Checks of the images that a net is given: outside of traced code, and of what has numbers."""

import warnings
from typing import Final

import torch
from jaxtyping import Num, UInt8
from numpy import ndarray
from torch import Tensor
from torch.fx import Proxy

from verydeep.errors import UsageError, UserError

_REMEDY: Final = "give RGB in 0..255, for this net subtracts the mean itself, or say net.set_input_range"
_MOST_NORMALISED: Final = 8.0
"""Above this a float is not normalised by a deviation: the largest of torchvision's is 2.64."""

_FEWEST_LESS_MEAN: Final = -30.0
"""Below this a float is a pixel less the mean: an optimised picture overshoots by a few levels."""

_warned: set[str] = set()


def is_traced(images: object = None) -> bool:
    """Whether torch captures what is computed: numbers are not known then, and a trace warns of each that is read."""
    return torch.compiler.is_compiling() or is_jit_traced(images)


def is_jit_traced(images: object = None) -> bool:
    """Whether sizes are no numbers: for ``torch.jit.trace``, the older of torch's ONNX exporters, and ``torch.fx``."""
    tracing = torch.jit.is_tracing()  # type: ignore[attr-defined]  # public, and not listed
    return bool(tracing) or isinstance(images, Proxy)


def check_images(images: Num[Tensor, "..."]) -> None:
    """Checks that images are n,3,h,w, and warns once where they are plainly something else than RGB in 0..255."""
    check_shape(images)
    kind = None if is_traced(images) or not images.is_floating_point() else wrong_range(images)
    if kind is not None and kind not in _warned:
        _warned.add(kind)
        warnings.warn(f"{kind}: {_REMEDY} (said once)", stacklevel=2)


def check_shape(images: Num[Tensor, "..."]) -> None:
    """Checks that images are n,3,h,w."""
    check_tensor(images)
    if not is_jit_traced(images) and (images.ndim != 4 or images.shape[1] != 3):
        raise UserError(f"images of shape {tuple(images.shape)}: give n,3,h,w, RGB in 0..255")


def check_size(images: Num[Tensor, "n 3 h w"], smallest: int) -> None:
    """Checks that each side of the images has at least the pixels that a net needs."""
    check_tensor(images)
    if not is_jit_traced(images) and min(images.shape[-2:]) < smallest:
        size = "x".join(str(side) for side in images.shape[-2:])
        raise UserError(
            f"images of {size} pixels are too small for this net: rescale their shorter side to at least {smallest}"
        )


def check_tensor(given: object, what: str = "images", shape: str = "n,3,h,w") -> None:
    """Checks that what is given is a tensor at all, or stands for one in a trace."""
    if not isinstance(given, Tensor | Proxy):
        kind = type(given).__name__
        raise UsageError(f"{what} of type {kind}: give a tensor {shape}, as torch.from_numpy makes of an array")


def range_of(images: Num[Tensor, "..."]) -> tuple[float, float]:
    """The smallest and the largest number; 0 and 0 of none, and where they cannot be read: meta, fake, under vmap."""
    try:
        low, high = (float(bound) for bound in images.detach().aminmax()) if images.numel() else (0.0, 0.0)
    except RuntimeError:
        return 0.0, 0.0
    return low, high


def wrong_range(images: Num[Tensor, "..."]) -> str | None:
    """Says what floats seem to be where they are not RGB in 0..255; a dark photograph has whole numbers."""
    low, high = range_of(images)
    if low < -1 and (high < _MOST_NORMALISED or low < _FEWEST_LESS_MEAN):
        return "float images with numbers far below 0 look normalised already"
    if 0 < high <= 1 and not bool((images == images.round()).all()):
        return "float images up to 1 look like 0..1"
    return None


def pixels_of_tensor(image: Num[Tensor, "..."]) -> UInt8[ndarray, "h w 3"]:
    """Converts an image 3,h,w, RGB in 0..255, to pixels."""
    check_shape(image[None])
    if image.is_floating_point() and (kind := wrong_range(image)):
        raise UserError(f"{kind}: give RGB in 0..255, for the net subtracts the mean itself")
    pixels: ndarray = image.detach().round().clamp(0, 255).to("cpu", torch.uint8).permute(1, 2, 0).numpy()
    return pixels
