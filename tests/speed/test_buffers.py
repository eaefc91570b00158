"""The memory that the kernel computes in."""

import mmap
import os
import subprocess
import sys

import pytest
import torch

from verydeep.speed import memory
from verydeep.speed.memory import Buffer, huge_pages


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_a_forked_process_computes_in_memory_of_its_own():
    code = (
        "import os\n"
        "import torch\n"
        "from verydeep.speed.memory import huge_pages\n"
        "torch.set_num_threads(1)\n"  # a child has none of its parent's threads, and would wait for them
        "memory = huge_pages(2**20).fill_(1)\n"
        "child = os.fork()\n"
        "if child == 0:\n"
        "    memory.fill_(2)\n"
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
    assert torch.equal(huge_pages(2**20), torch.zeros(2**20))
    monkeypatch.delattr(memory.mmap, "MADV_HUGEPAGE", raising=False)
    assert torch.equal(huge_pages(2**20), torch.zeros(2**20))


def test_a_buffer_grows_and_stays():
    buffer = Buffer()
    first = buffer.take(2, 3)
    assert first.shape == (2, 3)
    large = buffer.take(2**20)
    assert buffer.take(5).data_ptr() == large.data_ptr()
