"""Runs a process and measures it: seconds, and the peak of memory of it and all that it starts."""

import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path

BUSY = "import numpy\na = numpy.ones((1024, 1024), numpy.float32)\nwhile True: a @ a"
_SECONDS_BETWEEN_LOOKS = 0.5


@dataclass(frozen=True)
class MeasuredProcess:
    """What a process took: seconds by the clock, bytes resident at most, its exit status and its output."""

    seconds: float
    peak_memory_bytes: int
    status: int
    output: str
    errors: str

    @property
    def failure(self) -> str | None:
        """The last line of its errors; None where it succeeded."""
        last = (self.errors.strip().splitlines() or ["it says nothing"])[-1]
        return None if self.status == 0 else f"exit status {self.status}: {last}"


@dataclass(frozen=True)
class Case:
    """What a row runs on: so many of the cores that are free (None: all), and whether another process is busy there."""

    cores: int | None = None
    busy: bool = False

    @property
    def name(self) -> str:
        cores = f"{self.cores} core{'s' if self.cores != 1 else ''}" if self.cores else ""
        return ", ".join(filter(None, (cores, "beside a busy process" if self.busy else "")))

    @property
    def core_numbers(self) -> set[int]:
        return set(sorted(os.sched_getaffinity(0))[: self.cores])


def run_measured(command: Sequence[str], environment: Mapping[str, str], case: Case, log: Path) -> MeasuredProcess:
    """Runs a process to its end; its output and errors go into files beside ``log``, so that one can look meanwhile."""
    cores = case.core_numbers
    output, errors = log.with_suffix(".out"), log.with_suffix(".err")
    with output.open("wb") as out, errors.open("wb") as err, _busy(cores) if case.busy else nullcontext():
        begun = time.perf_counter()
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=err,
            env=dict(environment),
            preexec_fn=lambda: os.sched_setaffinity(0, cores),
        )
        watch = _MemoryWatch(process.pid)
        watch.start()
        try:
            status = process.wait()
        except BaseException:
            process.kill()
            raise
        finally:
            watch.ended.set()
        seconds = time.perf_counter() - begun
    watch.join()
    texts = (file.read_text(encoding="utf-8", errors="replace") for file in (output, errors))
    return MeasuredProcess(seconds, watch.peak, status, *texts)


@contextmanager
def _busy(cores: set[int]) -> Iterator[None]:
    """Multiplies matrices in another process on the same cores."""
    process = subprocess.Popen([sys.executable, "-c", BUSY], preexec_fn=lambda: os.sched_setaffinity(0, cores))
    try:
        yield
    finally:
        process.kill()
        process.wait()


class _MemoryWatch(threading.Thread):
    """Notes the most memory that a process and its children hold together; pages that they share count once."""

    def __init__(self, pid: int) -> None:
        super().__init__(daemon=True)
        self.pid, self.peak, self.ended = pid, 0, threading.Event()

    def run(self) -> None:
        # what the system says at its end has as its least the memory of who started it, so it is asked meanwhile
        while True:
            members = _tree(self.pid)
            own = _memory(self.pid, "status", "VmHWM:")
            together = sum(_memory(pid, "smaps_rollup", "Pss:") for pid in members) if len(members) > 1 else 0
            self.peak = max(self.peak, own, together)
            if self.ended.wait(_SECONDS_BETWEEN_LOOKS):
                break


def _tree(root: int) -> list[int]:
    parents: dict[int, int] = {}
    for file in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError, IndexError):  # it has ended
            parents[int(file.parent.name)] = int(file.read_text().rpartition(")")[2].split()[1])
    members = [root]
    for member in members:
        members += [pid for pid, parent in parents.items() if parent == member]
    return members


def _memory(pid: int, file: str, field: str) -> int:
    with suppress(OSError, StopIteration):  # it has ended
        lines = Path(f"/proc/{pid}/{file}").read_text(encoding="utf-8").splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(field))
    return 0
