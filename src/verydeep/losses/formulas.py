"""The formulas of the perceptual losses: pure functions of the maps of two pictures at one layer.

Each gives one number for each pair, in float32, with finite gradients for maps that are equal or zero.
"""

from typing import Any, Final

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

UNIT: Final = 1e-10
"""Added to the norm over channels that LPIPS divides by, outside the root, as its authors' program does."""

STABLE: Final = 1e-6
"""c1 and c2 of DISTS."""

_FLOATS: Final = 2**17
"""Numbers of a map that are compared at once: they stay in a cache from one operation to the next."""


def squared_difference(a: Float[Tensor, "n c y x"], b: Float[Tensor, "m c y x"]) -> Float[Tensor, "n"]:
    """Computes the squared difference: mean over positions, sum over channels."""
    return (a - b).square().mean((2, 3)).sum(1)


def gram(map_: Float[Tensor, "n c y x"]) -> Float[Tensor, "n c c"]:
    """Computes the Gram matrix: the sum over positions of the products of all pairs of channels, not divided."""
    rows = map_.permute(0, 2, 3, 1).flatten(1, 2)
    return torch.bmm(rows.mT, rows)


def mean_squared_difference(a: Float[Tensor, "n c d"], b: Float[Tensor, "m c d"]) -> Float[Tensor, "n"]:
    """Computes the mean of the squared difference of matrices."""
    return (a - b).square().mean((1, 2))


def unit_difference(
    a: Float[Tensor, "n c y x"], b: Float[Tensor, "m c y x"], weight: Float[Tensor, "c"]
) -> Float[Tensor, "n"]:
    """Computes LPIPS at one layer: the weighted squared difference of channels of unit length, mean over positions."""
    difference = _unit(a) - _unit(b)
    return (difference.square() * weight[:, None, None]).sum(1).mean((1, 2))


def _unit(map_: Tensor) -> Tensor:
    # the gradient of this norm is 0 where it is 0; that of a root of a sum would be infinite
    norm: Tensor = torch.linalg.vector_norm(map_, dim=1, keepdim=True)
    return map_ / (norm + UNIT)


def unit_difference_by_parts(a: Tensor, b: Tensor, weight: Float[Tensor, "c"]) -> Float[Tensor, "n"]:
    """Computes the same position by position, with its gradient where one is asked for: maps are read once.

    It is differentiable once.
    """
    distance: Tensor = _UnitDifference.apply(a, b, weight)
    return distance


class _UnitDifference(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, a: Tensor, b: Tensor, weight: Tensor) -> Tensor:  # noqa: ANN401 - autograd's own
        _, c, y, x = a.shape
        distance = a.new_zeros(max(len(a), len(b)))
        needs = ctx.needs_input_grad[:2]
        gradients = [torch.empty_like(map_) if need else None for map_, need in zip((a, b), needs, strict=True)]
        rows = [_rows(a), _rows(b)]
        rows_of = [None if map_ is None else _rows(map_) for map_ in gradients]
        step = max(1, _FLOATS // c)
        for i in range(max(len(a), len(b))):
            for at in range(0, y * x, step):
                rows_a, rows_b = (each[i if len(each) > 1 else 0, at : at + step] for each in rows)
                of_a, of_b = (None if each is None else each[i, at : at + step] for each in rows_of)
                distance[i] += _compare_rows(rows_a, rows_b, weight, of_a, of_b, 2 / (y * x))
        ctx.save_for_backward(*gradients)
        return distance / (y * x)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None, None]:  # noqa: ANN401
        of_a, of_b = (None if saved is None else saved * gradient[:, None, None, None] for saved in ctx.saved_tensors)
        return of_a, of_b, None


def _rows(map_: Float[Tensor, "n c y x"]) -> Float[Tensor, "n p c"]:
    return map_.permute(0, 2, 3, 1).flatten(1, 2)


def _compare_rows(
    a: Float[Tensor, "p c"],
    b: Float[Tensor, "p c"],
    weight: Float[Tensor, "c"],
    of_a: Float[Tensor, "p c"] | None,
    of_b: Float[Tensor, "p c"] | None,
    factor: float,
) -> Float[Tensor, ""]:
    """Sums over positions; writes the gradients of that sum times half the factor."""
    norm_a, norm_b = (torch.linalg.vector_norm(rows, dim=1, keepdim=True) for rows in (a, b))
    unit_a = a / (norm_a + UNIT)
    difference = torch.addcdiv(unit_a, b, norm_b + UNIT, value=-1)
    slope = difference * weight
    distance = torch.dot(slope.flatten(), difference.flatten())
    if of_a is not None:
        _slope_of_unit(unit_a, norm_a, slope, factor, of_a)
    if of_b is not None:
        _slope_of_unit(b / (norm_b + UNIT), norm_b, slope, -factor, of_b)
    return distance


def _slope_of_unit(unit: Tensor, norm: Tensor, slope: Tensor, factor: float, to: Tensor) -> None:
    """The gradient of a / (norm + UNIT) along a slope, times a factor; of the norm at 0 it is 0."""
    along = (slope * unit).sum(1, keepdim=True) * ((norm + UNIT) / norm.clamp_min(UNIT))
    torch.addcmul(slope, unit, along, value=-1, out=to)
    to.mul_(factor / (norm + UNIT))


def structure_and_texture(
    a: Float[Tensor, "n c y x"], b: Float[Tensor, "m c y x"], alpha: Float[Tensor, "c"], beta: Float[Tensor, "c"]
) -> Float[Tensor, "n"]:
    """Computes the likeness of DISTS at one layer: of the means of the channels, and of what varies about them."""
    mean_a, mean_b = a.mean((2, 3)), b.mean((2, 3))
    texture = (2 * mean_a * mean_b + STABLE) / (mean_a.square() + mean_b.square() + STABLE)
    variance_a = (a - mean_a[:, :, None, None]).square().mean((2, 3))
    variance_b = (b - mean_b[:, :, None, None]).square().mean((2, 3))
    covariance = (a * b).mean((2, 3)) - mean_a * mean_b
    structure = (2 * covariance + STABLE) / (variance_a + variance_b + STABLE)
    return (alpha * texture + beta * structure).sum(1)


class RootPool(nn.Module):
    """The pooling of DISTS: the root of the mean of squares under a 3x3 Hann window, stride 2, sizes rounded up."""

    def forward(self, map_: Float[Tensor, "n c y x"]) -> Float[Tensor, "n c v u"]:
        """Pools a map."""
        line = torch.tensor([0.25, 0.5, 0.25], dtype=map_.dtype, device=map_.device)
        channels = map_.shape[1]
        window = (line[:, None] * line).expand(channels, 1, 3, 3).contiguous()
        return (F.conv2d(map_.square(), window, stride=2, padding=1, groups=channels) + 1e-12).sqrt()
