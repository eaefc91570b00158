"""What a measurement starts in processes of its own."""

import os
import sys
from importlib.metadata import version

import pytest

from benchmarks.compare.contender import Options
from benchmarks.compare.environment import child_environment, run_process
from benchmarks.compare.memory import measure_memory
from verydeep.errors import UserError


def test_time_memory_and_output_of_a_process():
    code = "import time; a = bytearray(200_000_000); time.sleep(0.2); print('one'); print('two')"
    ran = run_process([sys.executable, "-c", code], dict(os.environ))
    assert ran.output == "one\ntwo\n"
    assert 0.2 < ran.seconds < 60
    # not that of this process, which has torch
    assert 200e6 < ran.peak_memory_bytes < 260e6


def test_a_process_that_fails_is_told():
    with pytest.raises(UserError, match="failed: ValueError: no"):
        run_process([sys.executable, "-c", "raise ValueError('no')"], dict(os.environ))


def test_the_allocator_is_the_same_for_all_or_the_systems(monkeypatch):
    monkeypatch.setenv("THP_MEM_ALLOC_ENABLE", "1")
    monkeypatch.setenv("GLIBC_TUNABLES", "glibc.malloc.top_pad=1")
    plain, tuned = (child_environment(3, tuned=tuned) for tuned in (False, True))
    assert plain["OMP_NUM_THREADS"] == tuned["OMP_NUM_THREADS"] == "3"
    assert "GLIBC_TUNABLES" not in plain
    assert "THP_MEM_ALLOC_ENABLE" not in plain
    assert "mmap_threshold=2147483647" in tuned["GLIBC_TUNABLES"]


def test_memory_of_one_contender():
    options = Options(what="inference", width=0.0625, crop=32, batches=(1,), architecture="A")
    peak = measure_memory(options, "A (VGG-11), crop 32, width 0.0625, batch 1", "no such contender")
    assert peak is None
    peak = measure_memory(
        options, "A (VGG-11), crop 32, width 0.0625, batch 1", f"torchvision {version('torchvision')}"
    )
    assert peak is not None
    assert 100e6 < peak < 2e9  # torch's own is most of it
