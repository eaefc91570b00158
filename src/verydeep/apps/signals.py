"""Ctrl-C as a request to stop, not as a crash."""

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any


@contextmanager
def stop_on_signals() -> Iterator[Callable[[], bool]]:
    """Turns the first Ctrl-C (or SIGTERM) into a request to stop; the second one acts as usual."""
    asked: list[int] = []

    def ask(number: int, frame: FrameType | None) -> None:
        asked.append(number)
        for name, handler in before.items():
            signal.signal(name, handler)

    before: dict[signal.Signals, Any] = {}
    try:
        for name in (signal.SIGINT, signal.SIGTERM):
            before[name] = signal.signal(name, ask)
    except ValueError:  # only the main thread may: elsewhere nobody can press Ctrl-C
        before.clear()
    try:
        yield lambda: bool(asked)
    finally:
        for name, handler in before.items():
            signal.signal(name, handler)
