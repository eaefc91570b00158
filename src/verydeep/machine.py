"""Facts of the machine and the software; importing this needs no torch."""

import math
import os
import platform
import sys
import threading
from collections.abc import Collection, Iterator
from contextlib import suppress
from datetime import UTC, datetime
from functools import cache
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

_ROOT = Path("/")


def package_version() -> str:
    """The installed version; ``0+source`` in a source tree that is not installed."""
    try:
        return version("verydeep")
    except PackageNotFoundError:
        return "0+source"


def environment() -> dict[str, str | int]:
    """Machine and software that a result comes from, for JSON."""
    torch = {}
    with suppress(PackageNotFoundError):
        torch["torch"] = version("torch")
    return {
        "verydeep": package_version(),
        **torch,
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        "processor": _processor(),
        "cores": num_cores(),
    }


def num_cores(root: Path = _ROOT) -> int:
    """Number of cores that this process may use: by affinity, and by the quotas of its control groups, rounded up."""
    return max(1, min([len(_affinity()), *map(math.ceil, _quotas(root))]))


def has_quota(root: Path = _ROOT) -> bool:
    """Whether control groups allow this process fewer cores than its affinity does."""
    return num_cores(root) < len(_affinity())


def num_threads(root: Path = _ROOT) -> int:
    """Number of threads to compute with: OMP_NUM_THREADS where it is set, else one for each physical core."""
    asked = os.environ.get("OMP_NUM_THREADS", "").partition(",")[0].strip()
    if asked.isdecimal() and int(asked):
        return int(asked)
    return min(num_cores(root), _physical_cores(root))


def _affinity() -> Collection[int]:
    return os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else range(os.cpu_count() or 1)


def _physical_cores(root: Path) -> int:
    """Counts the cores: two hardware threads of one have its vector units between them."""
    topology = "sys/devices/system/cpu/cpu{}/topology/thread_siblings_list"
    return len({_text(root / topology.format(cpu)) or str(cpu) for cpu in _affinity()})


def _quotas(root: Path) -> Iterator[float]:
    """Yields the limits of the control groups that this process is in, in cores."""
    for line in _text(root / "proc/self/cgroup").splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers and "cpu" not in controllers.split(","):
            continue
        top = root / "sys/fs/cgroup" / ("cpu" if controllers else "")
        group = top / path.lstrip("/")
        # in a container the path may be that of the machine: what is not there limits nothing
        for folder in (group, *(parent for parent in group.parents if parent.is_relative_to(top))):
            names = ("cpu.cfs_quota_us", "cpu.cfs_period_us") if controllers else ("cpu.max",)
            numbers = " ".join(_text(folder / name) for name in names).split()
            if len(numbers) == 2 and all(number.isdecimal() for number in numbers):  # not "max", not -1
                yield int(numbers[0]) / int(numbers[1])


def _text(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError):
        return ""


@cache
def cpu_features() -> frozenset[str]:
    """What the CPU has, by Linux's names, such as avx512f, fma and amx_bf16; on another system torch is asked."""
    if sys.platform == "linux":
        return frozenset((_cpu_info("flags") or _cpu_info("Features")).split())
    try:
        import torch
    except ImportError:
        return frozenset()
    names = {name for name, has in torch.cpu.get_capabilities().items() if has is True}
    kinds = {f"avx512_{kind}": f"avx512{kind}" for kind in ("f", "bw", "dq", "vl")} | {"fma3": "fma"}
    return frozenset(kinds.get(name, name) for name in names)


def l2_cache() -> int:
    """Bytes of the second-level cache of a core; 1 MiB where the system does not report it."""
    with suppress(ValueError, OSError, AttributeError):  # a name that the system has not, or no sysconf at all
        return max(0, os.sysconf("SC_LEVEL2_CACHE_SIZE")) or 2**20
    return 2**20


def _cpu_info(key: str) -> str:
    lines = _text(_ROOT / "proc/cpuinfo").splitlines()
    return next((line.partition(":")[2].strip() for line in lines if line.partition(":")[0].strip() == key), "")


def _processor() -> str:
    return _cpu_info("model name") or platform.processor() or "unknown"


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
