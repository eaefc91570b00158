"""Activations computed again in the backward pass instead of being kept: less memory for more time."""

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext

from jaxtyping import Float
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint


def recomputed(block: nn.Module, map_: Float[Tensor, "n c y x"]) -> Float[Tensor, "n d v u"]:
    """Computes a block and keeps nothing but its input for the backward pass.

    The running statistics of batch norm are taken the first time only.
    """
    output: Tensor = checkpoint(
        block, map_, use_reentrant=False, context_fn=lambda: (nullcontext(), _statistics_kept(block))
    )
    return output


@contextmanager
def _statistics_kept(block: nn.Module) -> Iterator[None]:
    norms = [module for module in block.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)]
    before = [norm.momentum for norm in norms]
    for norm in norms:
        norm.momentum = 0.0
    try:
        yield
    finally:
        for norm, momentum in zip(norms, before, strict=True):
            norm.momentum = momentum
