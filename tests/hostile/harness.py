"""Gives spoilt files to readers, each in a forked process with limits of memory and time, and counts what comes.

An *answer* is a return; a *refusal* is a UserError of one line. Anything else is a fault: another exception, a crash,
too much time or memory, or words on the terminal that no command prints.
"""

import json
import os
import random
import resource
import selectors
import shutil
import signal
import tempfile
import threading
import time
import traceback
import warnings
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from tests.hostile.mutators import spoil
from verydeep.errors import UserError

SECONDS = 5.0
"""Of the processor for a case; ten times as much of the clock, on a busy machine."""

_PATIENCE = 60
"""Seconds of the clock for one of the processor, on a busy machine."""

_FORKING = threading.Lock()

MEMORY_BYTES = 1_500_000_000
"""Beyond what the process had when it was forked."""

Files = dict[str, bytes]


@dataclass(frozen=True)
class Kind:
    """A reader with its seeds."""

    name: str
    seeds: Callable[[], list[Files]]
    read: Callable[[Path], object]
    "Reads the files in a folder, as a command would."
    spoils: Callable[[str], bool] = lambda name: True
    "Which files of a seed are spoilt, by their names."


@dataclass(frozen=True)
class Fault:
    """A case that was neither answered nor refused in one line."""

    kind: str
    number: int
    what: str

    def __str__(self) -> str:
        return f"{self.kind} {self.number}: {self.what}"


@dataclass
class Counts:
    """What came of the cases of a kind."""

    answers: int = 0
    refusals: int = 0
    faults: list[Fault] = field(default_factory=list)
    slowest: float = 0.0
    "Seconds of the processor."
    most_memory: int = 0
    "Bytes, of a process that computed many cases."

    def add(self, other: "Counts") -> None:
        self.answers += other.answers
        self.refusals += other.refusals
        self.faults += other.faults
        self.slowest = max(self.slowest, other.slowest)
        self.most_memory = max(self.most_memory, other.most_memory)

    def __str__(self) -> str:
        total = self.answers + self.refusals + len(self.faults)
        return (
            f"{total:,} cases: {self.answers:,} answers, {self.refusals:,} refusals, {len(self.faults)} others; the "
            f"slowest {self.slowest:.2f} s, at most {self.most_memory / 1e6:,.0f} MB"
        )


def case(kind: Kind, seeds: list[Files], seed: int, number: int) -> Files:
    """The files of a case: the same for the same numbers."""
    chance = random.Random(f"{kind.name} {seed} {number}")
    files = chance.choice(seeds)
    return spoil(chance, files, [name for name in files if kind.spoils(name)])


def write(folder: Path, files: Files) -> None:
    for name, content in files.items():
        file = folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)


def outcome(kind: Kind, folder: Path) -> tuple[str, str]:
    """Reads the files in a folder: "answer", "refusal" or "fault", and the message."""
    try:
        kind.read(folder)
    except UserError as error:
        message = str(error)
        if "\n" in message or any(ord(character) < 32 for character in message):
            return "fault", f"a refusal of several lines, or one that steers the terminal: {message[:200]!r}"
        if "not the memory" in message:
            return "fault", f"too much memory: {message[:200]}"
        return "refusal", message
    except BaseException as error:
        place = traceback.extract_tb(error.__traceback__)[-1]
        ours = [one for one in traceback.extract_tb(error.__traceback__) if "/verydeep/" in one.filename]
        where = f"{Path(ours[-1].filename).name}:{ours[-1].lineno}" if ours else f"{place.filename}:{place.lineno}"
        return "fault", f"{type(error).__name__} at {where}: {' '.join(str(error).split())[:200]}"
    return "answer", ""


def run(
    kind: Kind,
    numbers: Iterable[int],
    *,
    seed: int = 0,
    seconds: float = SECONDS,
    files: Callable[[int], Files] | None = None,
) -> Counts:
    """Reads the cases of a kind by their numbers, in forks of this process, and counts.

    ``files`` gives those of a case; by default they are spoilt from the seeds.
    """
    counts, waiting = Counts(), list(numbers)
    files = files or partial(case, kind, kind.seeds(), seed)
    while waiting:
        done = 0
        for number, what, message, used in _in_fork(kind, files, waiting, seconds):
            done += 1
            counts.slowest = max(counts.slowest, used)
            if what == "answer":
                counts.answers += 1
            elif what == "refusal":
                counts.refusals += 1
            elif what == "memory":
                counts.most_memory = max(counts.most_memory, int(message))
                done -= 1
            else:
                counts.faults.append(Fault(kind.name, number, message))
        if not done:
            raise RuntimeError(f"the process that reads {kind.name} does not come to its first case")
        waiting = waiting[done:]
    return counts


def _in_fork(
    kind: Kind, files: Callable[[int], Files], numbers: list[int], seconds: float
) -> Iterator[tuple[int, str, str, float]]:
    """Yields what came of cases until one kills its process, which is the last."""
    base = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    work = tempfile.mkdtemp(dir=base, prefix="hostile-")
    with _FORKING:  # else another fork would hold this pipe open
        reading, writing = os.pipe()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # of forking with threads
            child = os.fork()
        if not child:
            os.close(reading)
            try:
                _work(kind, files, numbers, seconds, writing, Path(work))
            finally:
                os._exit(0)
        os.close(writing)
    begun: int | None = None
    buffer, ended = b"", False
    with selectors.DefaultSelector() as selector:
        selector.register(reading, selectors.EVENT_READ)
        while not ended:
            if not selector.select(_PATIENCE * seconds):
                os.kill(child, signal.SIGKILL)
            part = os.read(reading, 2**16)
            ended, buffer = not part, buffer + part
            *lines, buffer = buffer.split(b"\n")
            for line in lines:
                record = json.loads(line)
                if isinstance(record, int):
                    begun = record
                else:
                    begun = None if record[1] != "memory" else begun
                    yield tuple(record)
    os.close(reading)
    shutil.rmtree(work, ignore_errors=True)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if begun is not None:
        reason = {-signal.SIGPROF: f"more than {seconds:g} s", -signal.SIGKILL: "it did not come back"}
        yield begun, "fault", reason.get(status, f"the process ended with {status}"), seconds


def _work(
    kind: Kind, files: Callable[[int], Files], numbers: list[int], seconds: float, writing: int, work: Path
) -> None:
    """Reads cases one after another and writes what came of them into a pipe."""
    said = tempfile.TemporaryFile()  # noqa: SIM115 - to the end of the process
    for stream in (1, 2):
        os.dup2(said.fileno(), stream)
    warnings.simplefilter("ignore")
    if (statm := Path("/proc/self/statm")).exists():
        taken = int(statm.read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (taken + MEMORY_BYTES, resource.getrlimit(resource.RLIMIT_AS)[1]))
    signal.signal(signal.SIGPROF, signal.SIG_DFL)
    os.chdir(work)
    folder = work / "case"
    for number in numbers:
        os.write(writing, json.dumps(number).encode() + b"\n")
        folder.mkdir()
        write(folder, files(number))
        began = time.process_time()
        signal.setitimer(signal.ITIMER_PROF, seconds)
        what, message = outcome(kind, folder)
        signal.setitimer(signal.ITIMER_PROF, 0)
        used = time.process_time() - began
        if what != "fault" and os.fstat(said.fileno()).st_size:
            what, message = "fault", f"it printed {os.pread(said.fileno(), 200, 0)!r}"
        os.ftruncate(said.fileno(), 0)
        os.lseek(said.fileno(), 0, os.SEEK_SET)
        os.write(writing, json.dumps([number, what, message, used]).encode() + b"\n")
        shutil.rmtree(folder, ignore_errors=True)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    os.write(writing, json.dumps([0, "memory", str(peak), 0.0]).encode() + b"\n")
