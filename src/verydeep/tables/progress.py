"""The progress of the tables: each training as a part of the whole."""

from collections.abc import Callable

from verydeep.progress import OverallProgress
from verydeep.training.state import Callback, TrainState


class TablesProgress(Callback):
    """Reports a training as a part of the tables; a note that several trainings give stands once."""

    def __init__(self, overall: OverallProgress, note: Callable[[str], None]) -> None:
        self._overall, self._note = overall, note
        self._notes: set[str] = set()

    def note(self, text: str) -> None:
        if text not in self._notes:
            self._notes.add(text)
            part = self._overall.part
            self._note(f"{part}: {text}" if part else text)

    def progress(self, what: str, done: int, total: int) -> None:
        self._overall.show(what, done, total)

    def after_update(self, state: TrainState) -> None:
        at, epochs = state.position, state.recipe.epochs
        what = f"epoch {at.epoch + 1}/{epochs}, training error {100 * at.score / at.seen:.1f}%"
        self._overall.advance(what, at.epoch * state.num_updates + at.iteration, epochs * state.num_updates)
