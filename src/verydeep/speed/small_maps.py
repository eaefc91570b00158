"""Convolutions of small maps as matrix multiplications.

Where a map is a few positions wide, a convolution has little to reuse, and oneDNN's weight gradient takes several times
as long as the matrix multiplication it amounts to (512 channels on 4x4 maps, batch 128, bf16 with AMX: 40 ms against
7). The last blocks of these nets on small images are such maps.
"""

from functools import cache
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from verydeep.nets.layers import windows


@cache
def max_positions(precision: torch.dtype) -> int:
    """Returns the most positions of a map whose convolution is faster as a matrix multiplication, on two cores.

    Where AMX multiplies matrices in bf16 this gains more than for a convolution. Elsewhere a training step of D with
    batch norm at 32x32 takes 7% less time in bf16, and 8% in fp32, with 4 than with 16.
    """
    if precision == torch.bfloat16 and torch.cpu.get_capabilities().get("amx_bf16"):
        return 16
    return 4 if precision in (torch.bfloat16, torch.float32) else 0


def is_small(map_: Tensor, precision: torch.dtype) -> bool:
    """Whether the convolution of a map is faster as a matrix multiplication."""
    return map_.device.type == "cpu" and map_.shape[2] * map_.shape[3] <= max_positions(precision)


def convolve_small(
    map_: Float[Tensor, "n c y x"], weight: Float[Tensor, "k c s s"], bias: Float[Tensor, "k"], precision: torch.dtype
) -> Float[Tensor, "n k y x"]:
    """Convolves with stride 1 and padding s // 2 as one matrix multiplication; the result is channels last."""
    n, _, y, x = map_.shape
    given = map_.to(precision), weight.to(precision), bias.to(precision)
    # the function for autograd refuses weights that were made in inference mode, even where it has nothing to keep
    positions: Tensor = _Product.apply(*given) if torch.is_grad_enabled() else F.linear(*_factors(*given[:2]), given[2])
    return positions.view(n, y, x, -1).permute(0, 3, 1, 2)


def _factors(
    map_: Float[Tensor, "n c y x"], weight: Float[Tensor, "k c s s"]
) -> tuple[Float[Tensor, "r l"], Float[Tensor, "k l"]]:
    """The windows of the padded map as rows, and the weights as rows."""
    n, _, y, x = map_.shape
    k, _, s, _ = weight.shape
    r = s // 2
    columns = windows(F.pad(map_.permute(0, 2, 3, 1), (0, 0, r, r, r, r)), s).reshape(n * y * x, -1)
    return columns, weight.permute(0, 2, 3, 1).reshape(k, -1)


class _Product(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, map_: Tensor, weight: Tensor, bias: Tensor) -> Tensor:  # noqa: ANN401 - autograd's own
        n, _, y, x = map_.shape
        columns, rows = _factors(map_, weight)
        ctx.save_for_backward(columns, rows)
        ctx.sizes = (n, y, x, weight.shape[2])
        return F.linear(columns, rows, bias)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None]:  # noqa: ANN401
        columns, rows = ctx.saved_tensors
        n, y, x, s = ctx.sizes
        k, r, gradient = len(rows), s // 2, gradients[0]
        of_map = None
        if ctx.needs_input_grad[0]:
            parts = (gradient @ rows).view(n, y, x, s, s, -1)
            summed = torch.zeros(n, y + 2 * r, x + 2 * r, parts.shape[-1])
            for i in range(s):
                for j in range(s):
                    summed[:, i : i + y, j : j + x] += parts[:, :, :, i, j]
            of_map = summed[:, r : r + y, r : r + x].to(gradient.dtype).permute(0, 3, 1, 2)
        of_weight = (gradient.T @ columns).view(k, s, s, -1).permute(0, 3, 1, 2)
        return of_map, of_weight, gradient.float().sum(0).to(gradient.dtype)
