"""Memory that is taken once and used again, in huge pages where the system has them."""

import math
import mmap
from contextlib import suppress

import numpy as np
from jaxtyping import Float32, UInt8
from numpy import ndarray

_HUGE = 2**21

Pixels = UInt8[ndarray, "n h w 3"] | Float32[ndarray, "n h w 3"]
"""Images, RGB in 0..255."""


def huge_pages(floats: int) -> Float32[ndarray, "floats"]:
    """Takes zeroed memory, above 2 MiB in huge pages: these nets wander through more of it than small pages reach.

    It is given back when the array and all views of it are gone.
    """
    if floats * 4 < _HUGE or not hasattr(mmap, "MADV_HUGEPAGE"):
        return np.zeros(floats, np.float32)
    size = (floats * 4 + _HUGE - 1) // _HUGE * _HUGE
    # private: by default a forked process would compute in the same memory
    memory = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    with suppress(OSError):  # a system built without huge pages
        memory.madvise(mmap.MADV_HUGEPAGE)
    return np.frombuffer(memory, np.float32, floats)


class Buffer:
    """Memory that grows to the largest array ever asked of it, and is then never allocated again."""

    def __init__(self) -> None:
        self._floats = huge_pages(0)

    def take(self, *shape: int) -> Float32[ndarray, "..."]:
        """Gives an uninitialised array in place of the one before it.

        Args:
            shape: of the array.
        """
        count = math.prod(shape)
        if count > len(self._floats):
            self._floats = huge_pages(0)  # the old memory goes before the new comes
            self._floats = huge_pages(count)
        return self._floats[:count].reshape(shape)
