"""Facts of the machine and the software."""

import os
import platform
import threading
from contextlib import suppress
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from weakref import WeakSet

_TURNS: "WeakSet[Turn]" = WeakSet()


class Turn:
    """A lock that threads take in turn, and that a forked process finds free.

    A plain one stays locked in the child for ever where another thread of the parent held it at the fork.
    """

    def __init__(self) -> None:
        self._lock = threading.RLock()
        _TURNS.add(self)

    def __enter__(self) -> None:
        self._lock.acquire()

    def __exit__(self, *_: object) -> None:
        with suppress(RuntimeError):  # forked meanwhile
            self._lock.release()

    def renew(self) -> None:
        self._lock = threading.RLock()


def _after_fork() -> None:
    for turn in _TURNS:
        turn.renew()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


def package_version() -> str:
    """The installed version; ``0+source`` in a source tree that is not installed."""
    try:
        return version("verydeep")
    except PackageNotFoundError:
        return "0+source"


def environment() -> dict[str, str | int]:
    """Machine and software that a result comes from, for JSON."""
    return {
        "verydeep": package_version(),
        "torch": version("torch"),
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        "processor": _processor(),
        "cores": num_cores(),
    }


def num_cores() -> int:
    """Number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or "unknown"
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "unknown")


def free_memory() -> int:
    """Bytes of memory that are free or can be freed; 4 GiB where the system does not report it."""
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable"))
    except (OSError, StopIteration):
        return 4 * 2**30


def now() -> str:
    """The time in UTC, ISO 8601, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")
