"""Processes that a measurement starts: threads and allocator alike for all, time and memory of each."""

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from verydeep.errors import UserError
from verydeep.speed.allocator import TUNABLES


def child_environment(threads: int, *, tuned: bool) -> dict[str, str]:
    """Gives the environment of a process.

    Args:
        threads: of the libraries that ask the environment.
        tuned: whether its allocator keeps freed memory, as ``verydeep.tune_allocator`` asks for, and torch huge pages.
    """
    environment = dict(os.environ) | {"OMP_NUM_THREADS": str(threads), "MKL_NUM_THREADS": str(threads)}
    for name in ("GLIBC_TUNABLES", "THP_MEM_ALLOC_ENABLE"):
        environment.pop(name, None)
    if tuned:
        environment |= {"GLIBC_TUNABLES": TUNABLES, "THP_MEM_ALLOC_ENABLE": "1"}
    return environment


@dataclass(frozen=True)
class Ran:
    """What a process took from its start to its end.

    Attributes:
        seconds: by the clock.
        peak_memory_bytes: resident at most.
        output: its standard output.
    """

    seconds: float
    peak_memory_bytes: int
    output: str


def run_process(command: Sequence[str], environment: dict[str, str]) -> Ran:
    """Runs a process to its end.

    Args:
        command: with its arguments.
        environment: of it.

    Raises:
        UserError: it failed.
    """
    clock = [sys.executable, "-I", "-S", str(Path(__file__).with_name("clock.py")), *command]
    done = subprocess.run(clock, env=environment, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        last = (done.stderr.strip().splitlines() or ["it says nothing"])[-1]
        raise UserError(f"{' '.join(command)[:120]} failed: {last}")
    output, _, measured = done.stdout.rstrip("\n").rpartition("\n")
    return Ran(output=output, **json.loads(measured))
