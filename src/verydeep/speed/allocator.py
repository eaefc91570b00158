"""The memory allocator: keep the pages of big activations instead of giving them back at every step."""

import ctypes
import os
import sys

_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_THRESHOLD = -1, -2, -3
_LARGEST_INT = 2**31 - 1


def tune_allocator() -> bool:
    """Tells glibc's malloc to keep freed memory, so that the kernel need not clear the same pages at every step.

    Changes the whole process: the command line calls it, an import never does. Best called before torch allocates.

    Returns:
        Whether the allocator took the settings; False where it is not glibc's.
    """
    if not sys.platform.startswith("linux"):
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return False
    settings = {_M_MMAP_THRESHOLD: _LARGEST_INT, _M_TRIM_THRESHOLD: _LARGEST_INT, _M_TOP_PAD: 2**28}
    taken = [mallopt(name, value) == 1 for name, value in settings.items()]
    return all(taken)


def use_huge_pages() -> None:
    """Lets torch ask for huge pages; has an effect only before torch is imported."""
    os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")
