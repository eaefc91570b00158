"""The memory that the kernel computes in."""

import mmap
import os
import subprocess
import sys

import numpy as np
import pytest

from verydeep.speed import memory
from verydeep.speed.memory import Buffer, huge_pages


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_a_forked_process_computes_in_memory_of_its_own():
    code = (
        "import os\n"
        "from verydeep.speed.memory import huge_pages\n"
        "memory = huge_pages(2**20)\n"
        "memory[:] = 1\n"
        "child = os.fork()\n"
        "if child == 0:\n"
        "    memory[:] = 2\n"
        "    os._exit(0)\n"
        "os.waitpid(child, 0)\n"
        "assert memory.max() == 1"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)


def test_a_system_without_huge_pages_gives_others(monkeypatch):
    class Refusing(mmap.mmap):
        def madvise(self, *_):
            raise OSError(22, "Invalid argument")

    monkeypatch.setattr(memory.mmap, "mmap", Refusing)
    assert np.array_equal(huge_pages(2**20), np.zeros(2**20))
    monkeypatch.delattr(memory.mmap, "MADV_HUGEPAGE", raising=False)
    assert np.array_equal(huge_pages(2**20), np.zeros(2**20))


def test_a_buffer_grows_and_stays():
    buffer = Buffer()
    first = buffer.take(2, 3)
    assert first.shape == (2, 3)
    large = buffer.take(2**20)
    assert buffer.take(5).ctypes.data == large.ctypes.data
