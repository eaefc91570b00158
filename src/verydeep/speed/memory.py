"""Memory that is taken once and used again, in huge pages where the system has them; arrays as tensors."""

import mmap
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import numpy as np
import torch
from jaxtyping import Float, Float32, UInt8
from numpy import ndarray
from torch import Tensor

_HUGE = 2**21


def huge_pages(floats: int) -> Float[Tensor, "floats"]:
    """Takes zeroed memory, above 2 MiB in huge pages: these nets wander through more of it than small pages reach.

    It is given back when the tensor and all views of it are gone.
    """
    if floats * 4 < _HUGE or not hasattr(mmap, "MADV_HUGEPAGE"):
        return torch.zeros(floats)
    size = (floats * 4 + _HUGE - 1) // _HUGE * _HUGE
    # private: by default a forked process would compute in the same memory
    memory = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    with suppress(OSError):  # a system built without huge pages
        memory.madvise(mmap.MADV_HUGEPAGE)
    return torch.frombuffer(memory, dtype=torch.float32, count=floats)


class Buffer:
    """Memory that grows to the largest tensor ever asked of it, and is then never allocated again."""

    def __init__(self) -> None:
        self._floats = huge_pages(0)

    def take(self, *shape: int) -> Float[Tensor, "..."]:
        """Gives an uninitialised tensor in place of the one before it.

        Args:
            shape: of the tensor.
        """
        count = 1
        for side in shape:
            count *= side
        if count > len(self._floats):
            self._floats = huge_pages(0)  # the old memory goes before the new comes
            self._floats = huge_pages(count)
        return self._floats[:count].view(shape)


Pixels = UInt8[ndarray, "n h w 3"] | Float32[ndarray, "n h w 3"]
"""Images, RGB in 0..255."""


def as_tensor(array: ndarray) -> Tensor:
    """Returns an array as a tensor: a copy only where PyTorch cannot share it, mirrored or not writable."""
    shared = array.flags.writeable and min(array.strides) >= 0
    return torch.from_numpy(array if shared else np.array(array, order="C"))


@contextmanager
def ordinary_tensors() -> Iterator[None]:
    """A context whose tensors take no gradients and are not inference mode's, so that they can be written to later."""
    with torch.inference_mode(False), torch.no_grad(), torch.autocast("cpu", enabled=False):
        yield
