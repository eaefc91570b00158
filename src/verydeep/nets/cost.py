"""The work of a net on images of any size: multiplications with an addition, counted from its layers."""

from verydeep.nets.architecture import Geometry, layers
from verydeep.paper import constants


def map_side(side: int, *, ceil: bool = False) -> int:
    """The side of the map after the last pooling.

    Args:
        side: of the image, pixels.
        ceil: whether pooling rounds sizes up, as Caffe's does.
    """
    return -(-side // constants.TOTAL_STRIDE) if ceil else side // constants.TOTAL_STRIDE


def feature_macs(geometry: Geometry, height: int, width: int, *, ceil: bool = False) -> int:
    """Counts the multiplications of the convolutions for one image.

    Args:
        geometry: of the net.
        height: of the image, pixels.
        width: of the image, pixels.
        ceil: whether pooling rounds sizes up.
    """
    total, side = 0, geometry.crop
    for layer in layers(geometry):
        if layer.kind == "convolution":
            total += layer.macs // side**2 * height * width
        elif layer.kind == "max-pool":
            side = layer.side
            height, width = ((length + ceil) // 2 for length in (height, width))
    return total


def head_macs(geometry: Geometry) -> int:
    """Counts the multiplications of the fully connected layers for one place of the score map."""
    return sum(layer.macs for layer in layers(geometry) if layer.kind == "fully-connected")


def score_positions(geometry: Geometry, height: int, width: int, *, ceil: bool = False) -> tuple[int, int]:
    """The height and width of the class score map of an image.

    Args:
        geometry: of the net.
        height: of the image, pixels.
        width: of the image, pixels.
        ceil: whether pooling rounds sizes up.

    Paper: section 3.2.
    """
    kernel = geometry.fc6_kernel
    return map_side(height, ceil=ceil) - kernel + 1, map_side(width, ceil=ceil) - kernel + 1
