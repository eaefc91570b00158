"""How a net is tested: protocols by name."""

from collections.abc import Callable
from dataclasses import dataclass

from jaxtyping import Float
from PIL import Image
from torch import Tensor

from verydeep.convnets.net import VeryDeep
from verydeep.data.images import centre_crop, rescale, rescaled_size, trim
from verydeep.evaluation import posteriors
from verydeep.mistakes import MistakeError, WrongUseError
from verydeep.paper import TOTAL_STRIDE

MOST_PIXELS = 64_000_000
"""Pixels of a rescaled image that a net can take whole: its first block alone needs 512 bytes for each."""

View = Callable[[Image.Image, int, int], Image.Image]
"""Makes what the net sees of an image, from the test scale Q and the crop, both in pixels."""


@dataclass(frozen=True, kw_only=True)
class Protocol:
    """A way of testing.

    Attributes:
        name: of the protocol.
        remark: what it does.
        view: what the net sees of an image.
        posteriors: class posteriors of such images.
        mirrored: whether mirrored images are tested too, where the net's data allow it.
    """

    name: str
    remark: str
    view: View
    posteriors: Callable[[VeryDeep, Tensor], Float[Tensor, "n k"]]
    mirrored: bool


def _centre_view(image: Image.Image, scale: int, crop: int) -> Image.Image:
    return centre_crop(rescale(image, scale), crop, crop)


def _whole_view(image: Image.Image, scale: int, crop: int) -> Image.Image:
    return trim(_rescaled_whole(image, scale), TOTAL_STRIDE)


def _rescaled_whole(image: Image.Image, scale: int) -> Image.Image:
    width, height = rescaled_size(image.size, scale)
    if width * height > MOST_PIXELS:
        raise MistakeError(
            f"an image of {image.width}x{image.height} becomes {width}x{height} at test scale {scale}, more than "
            f"{MOST_PIXELS:,} pixels: crop it, or use --protocol centre"
        )
    return rescale(image, scale)


_ROWS = (
    Protocol(
        name="centre",
        remark="the central crop of the image rescaled to Q",
        view=_centre_view,
        posteriors=posteriors.of_scores,
        mirrored=False,
    ),
    Protocol(
        name="single",
        remark="dense: the whole image rescaled to Q and its mirror image, scores averaged over places (section 3.2)",
        view=_whole_view,
        posteriors=posteriors.of_scores,
        mirrored=True,
    ),
    Protocol(
        name="adaptive",
        remark="the whole image rescaled to Q, its last map pooled to fc6's size, as torchvision's VGG does",
        view=lambda image, scale, crop: _rescaled_whole(image, scale),
        posteriors=posteriors.of_adaptive_scores,
        mirrored=False,
    ),
)

PROTOCOLS: dict[str, Protocol] = {row.name: row for row in _ROWS}
"""The protocols by name."""


def find_protocol(name: str) -> Protocol:
    """Finds a protocol by name.

    Raises:
        WrongUseError: there is none of this name.
    """
    if name not in PROTOCOLS:
        raise WrongUseError(f"unknown protocol {name!r}: choose one of {', '.join(PROTOCOLS)}")
    return PROTOCOLS[name]


def default_test_scale(net: VeryDeep) -> int:
    """The single test scale Q of a net: S, or the middle of its training scales.

    Paper: section 4.1.
    """
    low, high = net.train_scale
    return (low + high) // 2
