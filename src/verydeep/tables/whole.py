"""One bar for many trainings and tests."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from verydeep.training.callbacks import Reporter

if TYPE_CHECKING:
    from verydeep.training.run_folder import Progress

_STEPS = 100


class Whole:
    """A reporter that shows how far a number of pieces of work is as a whole.

    Args:
        below: is told.
        works: the pieces by name, with the work of each in any one unit.
    """

    def __init__(self, below: Reporter, works: Mapping[str, float]) -> None:
        self._below, self._works = below, works
        self._total = sum(works.values()) or 1.0
        self._done = 0.0
        self._name, self._fraction = "", 0.0
        self._epochs: int | None = None
        self._told: set[str] = set()

    @contextmanager
    def piece(self, name: str) -> Iterator[None]:
        """A context in which one of the pieces is done."""
        self._name, self._epochs, self._fraction = name, None, 0.0
        yield
        self._done += self._works[name]

    def note(self, text: str) -> None:
        """Says something once, however many pieces say it."""
        if text not in self._told:
            self._told.add(text)
            self._below.note(f"{self._name}: {text}" if self._name else text)

    def expect(self, epochs: int) -> None:
        """The training of the present piece has so many epochs."""
        self._epochs = epochs

    def progress(self, what: str, done: int, total: int) -> None:
        """Shows a step of the present piece; only a test gets it further."""
        self._show(what, done / max(1, total) if self._epochs is None and what.startswith("testing") else 0.0)

    def step(self, progress: "Progress", iterations: int, images_per_second: float) -> None:
        """Shows an update of the weights."""
        epochs = self._epochs or progress.epoch + 1
        figures = f"epoch {progress.epoch + 1}/{epochs}, training error {100 * progress.wrong / progress.seen:.1f}%"
        self._show(figures, (progress.epoch + progress.iteration / iterations) / epochs)

    def epoch(self, record: dict[str, Any]) -> None:
        """Shows nothing: the curves are in the log of the run."""

    def _show(self, what: str, fraction: float) -> None:
        self._fraction = max(self._fraction, fraction)
        done = (self._done + self._fraction * self._works.get(self._name, 0.0)) / self._total
        self._below.progress(f"{self._name}: {what}; per cent of all", min(_STEPS - 1, int(_STEPS * done)), _STEPS)
