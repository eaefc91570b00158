"""The lock of a run folder: one process at a time trains a run, and the others learn which one that is."""

import json
import os
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from filelock import BaseFileLock, FileLock, Timeout

from verydeep.distributed import broadcast_from_rank0
from verydeep.errors import UserError

LOCK_FILE, HOLDER_FILE = ".running.lock", ".running.json"

_SECONDS_TO_WAIT = 2.0
"""Whoever only asks whether a run is running holds its lock for a moment."""

_held: dict[Path, int] = {}  # by folder, the thread of this process that holds its lock


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """A context in which no other process can train the run in a folder; the lock of a process that was killed is free.

    Of several processes of one training the first takes it. Within the context it may be entered again.

    Raises:
        UserError: another process holds it, which is named.
    """
    key, found = folder.resolve(), []
    if _held.get(key) == threading.get_ident():
        yield
        return

    def take() -> dict[str, Any]:
        found.append(_take(folder))
        return {}

    broadcast_from_rank0(take)
    _held[key] = threading.get_ident()
    try:
        yield
    finally:
        del _held[key]
        for lock in filter(None, found):
            for name in HOLDER_FILE, LOCK_FILE:  # who waits for a lock of a file without a name takes another
                with suppress(OSError):
                    (folder / name).unlink(missing_ok=True)
            lock.release()


def is_locked(folder: Path) -> bool:
    """Whether a process trains the run in a folder now, as far as this machine can see."""
    if not (folder / LOCK_FILE).exists():
        return False
    try:
        with FileLock(folder / LOCK_FILE, timeout=0):
            return False
    except Timeout:
        return True
    except (NotImplementedError, OSError):  # somebody else's folder, or a file system without locks
        return False


def _take(folder: Path) -> BaseFileLock | None:
    """Takes the lock of a folder; None on a file system without locks."""
    lock = FileLock(folder / LOCK_FILE)
    try:
        lock.acquire(timeout=_SECONDS_TO_WAIT)
    except Timeout as error:
        raise _taken(folder) from error
    except (NotImplementedError, OSError):
        return None
    with suppress(OSError):  # a full disk
        holder = {"process": os.getpid(), "machine": socket.gethostname()}
        (folder / HOLDER_FILE).write_text(json.dumps(holder), encoding="utf-8")
    return lock


def _taken(folder: Path) -> UserError:
    try:
        holder = json.loads((folder / HOLDER_FILE).read_text(encoding="utf-8"))
        who = f"another process ({int(holder['process'])} on {holder['machine']})"
    except (OSError, ValueError, KeyError, TypeError):
        who = "another process"
    return UserError(f"{who} trains {folder}: wait for its end, stop it, or give another --out")
