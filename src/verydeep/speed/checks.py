"""Checks of the arrays and tensors that native code is handed: it would read past the end of others."""

from typing import Any

from numpy import ndarray

from verydeep.errors import UsageError


def check_kind(values: Any, name: str, dtype: str = "float32") -> None:  # noqa: ANN401 - an array or a tensor
    """Refuses what the native code would take for something else, or count in 32 bits and could not."""
    given, device = str(values.dtype).removeprefix("torch."), str(values.device).partition(":")[0]
    if device != "cpu" or given != dtype:
        raise UsageError(f"{name} in {given} on {device}: the kernel takes {dtype} on cpu")
    if max(values.shape, default=0) >= 2**31:
        raise UsageError(f"{name} of shape {tuple(values.shape)}: the kernel takes sides below 2,147,483,648")


def check_shape(
    values: ndarray, name: str, shape: tuple[int | None, ...], dtype: str = "float32", *, contiguous: bool = False
) -> None:
    """Refuses what the native code would read past the end of; None is any size."""
    check_kind(values, name, dtype)
    fits = len(shape) == values.ndim and all(
        want in (None, side) for want, side in zip(shape, values.shape, strict=True)
    )
    if not fits or (contiguous and not values.flags.c_contiguous):
        wanted = ",".join("any" if side is None else str(side) for side in shape)
        kind = " contiguous" if contiguous else ""
        raise UsageError(f"{name} of shape {values.shape}: the kernel takes{kind} {wanted}")
