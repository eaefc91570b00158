"""One bar for many trainings and tests."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from verydeep.training.state import Callback, TrainState

_STEPS = 100


class Whole(Callback):
    """A reporter that shows how far a number of pieces of work is as a whole.

    Args:
        below: is told.
        works: the pieces by name, with the work of each in any one unit.
    """

    def __init__(self, below: Callback, works: Mapping[str, float]) -> None:
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

    def before_training(self, state: TrainState) -> None:
        """The training of the present piece begins."""
        self._epochs = state.recipe.epochs

    def progress(self, what: str, done: int, total: int) -> None:
        """Shows a step of the present piece; only a test gets it further."""
        self._show(what, done / max(1, total) if self._epochs is None and what.startswith("testing") else 0.0)

    def after_update(self, state: TrainState) -> None:
        """Shows an update of the weights."""
        at, epochs = state.position, state.recipe.epochs
        figures = f"epoch {at.epoch + 1}/{epochs}, training error {100 * at.score / at.seen:.1f}%"
        self._show(figures, (at.epoch + at.iteration / state.num_updates) / epochs)

    def _show(self, what: str, fraction: float) -> None:
        self._fraction = max(self._fraction, fraction)
        done = (self._done + self._fraction * self._works.get(self._name, 0.0)) / self._total
        self._below.progress(f"{self._name}: {what}; per cent of all", min(_STEPS - 1, int(_STEPS * done)), _STEPS)
