"""Checks of the tensors that native code is handed: it would read past the end of others."""

import torch
from torch import Tensor

from verydeep.errors import UsageError


def check_kind(tensor: Tensor, name: str, dtype: torch.dtype = torch.float32) -> None:
    """Refuses what the native code would take for something else, or count in 32 bits and could not."""
    if tensor.device.type != "cpu" or tensor.dtype != dtype:
        wanted, given = (str(kind).removeprefix("torch.") for kind in (dtype, tensor.dtype))
        raise UsageError(f"{name} in {given} on {tensor.device.type}: the kernel takes {wanted} on cpu")
    if max(tensor.shape, default=0) >= 2**31:
        raise UsageError(f"{name} of shape {tuple(tensor.shape)}: the kernel takes sides below 2,147,483,648")


def check_shape(
    tensor: Tensor,
    name: str,
    shape: tuple[int | None, ...],
    dtype: torch.dtype = torch.float32,
    *,
    contiguous: bool = False,
) -> None:
    """Refuses what the native code would read past the end of; None is any size."""
    check_kind(tensor, name, dtype)
    fits = len(shape) == tensor.ndim and all(
        want in (None, side) for want, side in zip(shape, tensor.shape, strict=True)
    )
    if not fits or (contiguous and not tensor.is_contiguous()):
        wanted = ",".join("any" if side is None else str(side) for side in shape)
        kind = " contiguous" if contiguous else ""
        raise UsageError(f"{name} of shape {tuple(tensor.shape)}: the kernel takes{kind} {wanted}")
