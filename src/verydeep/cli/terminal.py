"""What a person sees while something takes long, on standard error: a bar on a terminal, plain lines elsewhere."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from verydeep.training.state import Callback, TrainState

_SECONDS_BETWEEN_LINES = 15.0


class Terminal(Callback):
    """Reports to standard error."""

    def __init__(self) -> None:
        self.console = Console(stderr=True, soft_wrap=True)
        self.epochs: int | None = None
        self._bar: Progress | None = None
        self._task: TaskID | None = None
        self._what = ""
        self._told = time.monotonic()

    def note(self, text: str) -> None:
        """Says something worth keeping."""
        self.console.print(escape(text), highlight=False)

    def before_training(self, state: TrainState) -> None:
        """A training begins: the bar spans its epochs."""
        self.close()
        self.epochs = state.recipe.epochs

    def progress(self, what: str, done: int, total: int) -> None:
        """Shows how far a step is that is no training."""
        if self.console.is_terminal:
            self._show(what, done, total, "")
            if done == total:
                self.close()
        elif time.monotonic() - self._told > _SECONDS_BETWEEN_LINES:
            self._told = time.monotonic()
            self.note(f"{what}: {done:,} of {total:,}")

    def after_update(self, state: TrainState) -> None:
        """Shows an update of the weights."""
        at, updates = state.position, state.num_updates
        what = f"epoch {at.epoch + 1}" + (f"/{self.epochs}" if self.epochs else "")
        loss, error, rate = at.loss / at.seen, at.score / at.seen, at.seen / at.seconds
        figures = f"loss {loss:.3f}  training error {100 * error:5.2f}%  {rate:,.0f} images/s"
        if self.console.is_terminal:
            # the bar spans the whole training, so that its remaining time is that of the training
            whole = updates * (self.epochs or at.epoch + 1)
            self._show(what, at.epoch * updates + at.iteration, whole, figures)
        elif time.monotonic() - self._told > _SECONDS_BETWEEN_LINES:
            self._told = time.monotonic()
            self.note(f"{what}: update {at.iteration}/{updates}, {' '.join(figures.split())}")

    def after_epoch(self, state: TrainState) -> None:
        """Prints the figures of an epoch."""
        self._told = time.monotonic()
        record = state.record
        whole = f"/{self.epochs}" if self.epochs else ""
        measured = (
            "validation error" if record.get("split", "val") == "val" else "error of training images, central crop"
        )
        self.note(
            f"epoch {record['epoch']}{whole}: loss {record['loss']:.3f}, "
            f"training error {100 * record['train_error']:.2f}%, "
            f"{measured} {100 * record['val_top1_error']:.2f}%, "
            f"rate {record['learning_rate']:.2g}, {record['images_per_second']:,.0f} images/s"
        )

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

    def close(self) -> None:
        """Takes the bar away."""
        if self._bar is not None:
            self._bar.stop()
        self._bar = self._task = None


@contextmanager
def reporting() -> Iterator[Callback]:
    """Gives what tells a person how it goes: the first process speaks for all."""
    from verydeep.distributed import launched

    if not launched().is_first:
        yield Callback()
        return
    terminal = Terminal()
    try:
        yield terminal
    finally:
        terminal.close()
