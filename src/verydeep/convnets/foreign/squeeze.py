"""fc6 of a net that pools every map to 7x7, rewritten for the crops it was trained on."""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor


def pooling_matrix(side: int, kernel: int) -> Float[Tensor, "kernel side"]:
    """Gives adaptive average pooling from ``side`` to ``kernel`` places, along one direction, as a matrix (float64)."""
    return F.adaptive_avg_pool1d(torch.eye(side, dtype=torch.float64), kernel).T


def fold_pooling(weight: Float[Tensor, "o c y x"], side: int) -> Float[Tensor, "o c side side"]:
    """Rewrites fc6 so that adaptive average pooling before it is not needed.

    Pooling is linear, so the weights of a smaller map are sums of those of the pooled one: at crop 32 each channel has
    one place, which pooling repeats 49 times, and its weight is the sum of the 49. Added in float64.

    Args:
        weight: of fc6 after pooling to y,x places.
        side: of the last map of one crop, crop/32.
    """
    pooling = pooling_matrix(side, weight.shape[-1])
    # a slice at a time: in float64 the whole is 800 MB
    folded = [pooling.T @ part.double() @ pooling for part in weight.split(64)]
    return torch.cat([part.float() for part in folded])
