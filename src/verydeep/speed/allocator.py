"""The memory allocator: keep the pages of big activations instead of giving them back at every step."""

import ctypes
import os
import sys

_LARGEST_INT = 2**31 - 1
_SETTINGS = {
    "mmap_threshold": (-3, _LARGEST_INT),
    "trim_threshold": (-1, _LARGEST_INT),
    "top_pad": (-2, 2**28),
}
"""Of glibc's malloc by the name of the tunable: the number that mallopt knows it by, and the value."""

TUNABLES = ":".join(f"glibc.malloc.{name}={value}" for name, (_, value) in _SETTINGS.items())
"""What GLIBC_TUNABLES has to be for a process to begin as ``tune_allocator`` makes it."""


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
    taken = [mallopt(number, value) == 1 for number, value in _SETTINGS.values()]
    return all(taken)


def use_huge_pages() -> None:
    """Lets torch ask for huge pages; has an effect only before torch is imported."""
    os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")
