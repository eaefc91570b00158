"""Progress on standard error: a bar on a terminal, plain lines elsewhere."""

import time

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from verydeep.training.state import Callback, TrainState

_SECONDS_BETWEEN_LINES = 15.0


class ProgressBar(Callback):
    """Shows how far a training is, or other long work."""

    def __init__(self) -> None:
        self.console = Console(stderr=True, soft_wrap=True)
        self.epochs: int | None = None
        self._bar: Progress | None = None
        self._task: TaskID | None = None
        self._last_line = time.monotonic()

    def note(self, text: str) -> None:
        """Prints a line that stays."""
        self.console.print(escape(text), highlight=False)

    def progress(self, what: str, done: int, total: int) -> None:
        """Shows how far work is that is no training."""
        if self.console.is_terminal:
            self._show(what, done, total, "")
            if done == total:
                self.close()
        else:
            self._note_seldom(f"{what}: {done:,} of {total:,}")

    def before_training(self, state: TrainState) -> None:
        """Begins a bar that spans all epochs."""
        self.close()
        self.epochs = state.recipe.epochs

    def after_update(self, state: TrainState) -> None:
        """Shows the running figures of the epoch."""
        at, updates = state.position, state.num_updates
        what = f"epoch {at.epoch + 1}{self._of_epochs}"
        loss, error, rate = at.loss / at.seen, at.score / at.seen, at.seen / at.seconds
        figures = f"loss {loss:.3f}  training error {100 * error:5.2f}%  {rate:,.0f} images/s"
        if self.console.is_terminal:
            # the bar spans the whole training, so that its remaining time is that of the training
            total = updates * (self.epochs or at.epoch + 1)
            self._show(what, at.epoch * updates + at.iteration, total, figures)
        else:
            self._note_seldom(f"{what}: update {at.iteration}/{updates}, {' '.join(figures.split())}")

    def after_epoch(self, state: TrainState) -> None:
        """Prints the figures of the epoch."""
        self._last_line = time.monotonic()
        record = state.record
        measured = (
            "validation error" if record.get("split", "val") == "val" else "error of training images, central crop"
        )
        self.note(
            f"epoch {record['epoch']}{self._of_epochs}: loss {record['loss']:.3f}, "
            f"training error {100 * record['train_error']:.2f}%, "
            f"{measured} {100 * record['val_top1_error']:.2f}%, "
            f"rate {record['learning_rate']:.2g}, {record['images_per_second']:,.0f} images/s"
        )

    def close(self) -> None:
        """Removes the bar."""
        if self._bar is not None:
            self._bar.stop()
        self._bar = self._task = None

    @property
    def _of_epochs(self) -> str:
        return f"/{self.epochs}" if self.epochs else ""

    def _note_seldom(self, text: str) -> None:
        if time.monotonic() - self._last_line > _SECONDS_BETWEEN_LINES:
            self._last_line = time.monotonic()
            self.note(text)

    def _show(self, what: str, done: int, total: int, figures: str) -> None:
        if self._bar is None or self._task is None:
            self._bar = Progress(
                TextColumn("{task.description}"),
                BarColumn(bar_width=24),
                TextColumn("{task.percentage:>3.0f}%"),
                TextColumn("{task.fields[figures]}"),
                TimeRemainingColumn(),
                TextColumn("left"),
                console=self.console,
                transient=True,
            )
            self._task = self._bar.add_task(what, total=total, figures=figures)
            self._bar.start()
        self._bar.update(self._task, description=what, completed=done, total=total, figures=figures)
