"""Class posteriors of images: pure functions of a net and what it sees."""

import torch.nn.functional as F
from jaxtyping import Float, UInt8
from torch import Tensor

from verydeep.convnets.net import VeryDeep


def of_scores(net: VeryDeep, images: UInt8[Tensor, "n 3 h w"]) -> Float[Tensor, "n k"]:
    """Soft-max of the scores averaged over the places of the score map.

    Choice: the mean over places is taken of the scores, and then the soft-max.

    Paper: section 3.2.
    """
    scores: Tensor = net(images)
    return scores.float().softmax(1)


def of_adaptive_scores(net: VeryDeep, images: UInt8[Tensor, "n 3 h w"]) -> Float[Tensor, "n k"]:
    """Soft-max of the scores of the last map pooled to fc6's size: not the paper's, but what torchvision computes."""
    side = net.geometry.fc6_kernel
    pooled = F.adaptive_avg_pool2d(net.features(images), (side, side))
    return net.head(pooled).flatten(1).float().softmax(1)
