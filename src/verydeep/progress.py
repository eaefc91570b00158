"""The function that long work calls to report its progress, and one percentage for work of several parts."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

Progress = Callable[[str, int, int], None]
"""Called with a description of the work, how much of it is done, and how much there is."""


def ignore_progress(what: str, done: int, total: int) -> None:
    """Does nothing: the default of long work."""


class OverallProgress:
    """Progress over weighted parts, as one percentage.

    Args:
        progress: called with it.
        weights: the parts by name, with how long each takes in any one unit.
    """

    def __init__(self, progress: Progress, weights: Mapping[str, float]) -> None:
        self._progress, self._weights = progress, weights
        self._total = sum(weights.values()) or 1.0
        self._done = self._fraction = 0.0
        self.part = ""

    @contextmanager
    def within(self, part: str) -> Iterator[None]:
        """A context in which one of the parts is done."""
        self.part, self._fraction = part, 0.0
        yield
        self._done += self._weights[part]

    def show(self, what: str, done: int, total: int) -> None:
        """Shows a step of the part that takes no time worth counting."""
        percentage = int(100 * (self._done + self._fraction * self._weights.get(self.part, 0.0)) / self._total)
        self._progress(f"{self.part}: {what}; per cent of all", min(99, percentage), 100)

    def advance(self, what: str, done: int, total: int) -> None:
        """Shows the step that the part consists of."""
        self._fraction = max(self._fraction, done / max(1, total))
        self.show(what, done, total)
