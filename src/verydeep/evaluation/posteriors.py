"""Class posteriors of images: pure functions of a net and what it sees."""

from collections.abc import Sequence

import numpy as np
import torch.nn.functional as F
from jaxtyping import Float, Num
from numpy import ndarray
from torch import Tensor, nn

from verydeep.evaluation.tiling import MOST_AT_ONCE, mean_scores, tiled_map, tiles
from verydeep.speed.accelerate import Accelerated, Computing


def features_with_ceiling(net: Computing, images: Num[Tensor, "n 3 h w"]) -> Float[Tensor, "n c y x"]:
    """Computes the map after the last pooling with pooling that rounds sizes up, as Caffe's does."""
    plain = net.net if isinstance(net, Accelerated) else net  # the kernel rounds down
    x = plain.normalise(images)
    for block in plain.blocks():
        for layer in block:
            x = F.max_pool2d(x, 2, ceil_mode=True) if isinstance(layer, nn.MaxPool2d) else layer(x)
    return x


def last_map(
    net: Computing, images: Num[Tensor, "n 3 h w"], *, ceil: bool = False, most: int = MOST_AT_ONCE
) -> Float[Tensor, "n c y x"]:
    """Computes the map after the last pooling, of large images tile by tile.

    Args:
        net: the net.
        images: RGB in 0..255.
        ceil: whether pooling rounds sizes up.
        most: pixels of a tile at most.
    """

    def features(part: Num[Tensor, "n 3 y x"]) -> Float[Tensor, "n c i j"]:
        return features_with_ceiling(net, part) if ceil else net.features(part)

    return tiled_map(features, images, *tiles(net.geometry, *images.shape[-2:], ceil=ceil, most=most))


def dense_scores(
    net: Computing, images: Num[Tensor, "n 3 h w"], *, ceil: bool = False, most: int = MOST_AT_ONCE
) -> Float[Tensor, "n k"]:
    """Computes the mean over the places of the class score map, of images of any size in bounded memory.

    Args:
        net: the net.
        images: RGB in 0..255, each side at least the crop.
        ceil: whether pooling rounds sizes up.
        most: pixels of a tile at most.

    Paper: section 3.2.
    """
    crop = net.geometry.crop
    if images.shape[-2:] == (crop, crop) and not ceil:
        return net(images)
    return mean_scores(net, last_map(net, images, ceil=ceil, most=most))


def of_scores(net: Computing, images: Num[Tensor, "n 3 h w"]) -> Float[Tensor, "n k"]:
    """Soft-max of the scores averaged over the places of the score map: of crops, which have one, or of whole images.

    Choice: the mean over places is taken of the scores, and then the soft-max.

    Paper: section 3.2.
    """
    return dense_scores(net, images).float().softmax(1)


def of_ceiling_scores(net: Computing, images: Num[Tensor, "n 3 h w"]) -> Float[Tensor, "n k"]:
    """The same with pooling that rounds sizes up, so that the last rows and columns count too: Caffe's.

    Paper: section 3.2.
    """
    return dense_scores(net, images, ceil=True).float().softmax(1)


def of_adaptive_scores(net: Computing, images: Num[Tensor, "n 3 h w"]) -> Float[Tensor, "n k"]:
    """Soft-max of the scores of the last map pooled to fc6's size: not the paper's, but what torchvision computes."""
    side = net.geometry.fc6_kernel
    pooled = F.adaptive_avg_pool2d(last_map(net, images), (side, side))
    return net.head(pooled).flatten(1).float().softmax(1)


def mean_posteriors(several: Sequence[Float[ndarray, "n k"]]) -> Float[ndarray, "n k"]:
    """The mean of the posteriors of several nets or protocols on the same images.

    Paper: section 4.3, section 4.4.
    """
    mean: ndarray = np.mean([np.asarray(one, dtype=np.float64) for one in several], axis=0).astype(np.float32)
    return mean
