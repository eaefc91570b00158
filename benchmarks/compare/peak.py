"""The speed of a matrix product: what arithmetic can reach at all where it is computed directly."""

import time
from collections.abc import Callable, Iterable

import torch
from torch import Tensor

_SIDE, _TIMES = 2048, 10


def product_peaks(precisions: Iterable[str], side: int = _SIDE) -> dict[str, float]:
    """Measures the largest of ten products of square matrices.

    Args:
        precisions: fp32, bf16 or int8.
        side: of the matrices.

    Returns:
        Thousands of millions of operations a second by precision; two for a multiplication with an addition.
    """
    return {precision: _peak(*_operands(precision, side), side) for precision in precisions}


def _operands(precision: str, side: int) -> tuple[Callable[[Tensor, Tensor], Tensor], Tensor]:
    matrix = torch.randn(side, side, generator=torch.Generator().manual_seed(0))
    if precision == "int8":
        return torch._int_mm, (20 * matrix).clamp(-127, 127).to(torch.int8)
    return torch.mm, matrix.to(torch.bfloat16 if precision == "bf16" else torch.float32)


def _peak(product: Callable[[Tensor, Tensor], Tensor], matrix: Tensor, side: int) -> float:
    best = float("inf")
    product(matrix, matrix)
    for _ in range(_TIMES):
        start = time.perf_counter()
        product(matrix, matrix)
        best = min(best, time.perf_counter() - start)
    return 2 * side**3 / best / 1e9
