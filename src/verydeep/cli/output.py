"""Printing, for all verbs: tables and JSON on standard output, notes and progress on standard error."""

import json
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn
from rich.table import Table

from verydeep.cli.plain import make_printable, print
from verydeep.errors import printable
from verydeep.files import format_bytes, format_number
from verydeep.training.state import Callback, TrainState

_SECONDS_BETWEEN_LINES = 15.0
"""Of progress where there is no terminal."""

FEW_IMAGES = 100
"""Images below which an error rate stands with their number."""


def print_json(record: dict[str, Any]) -> None:
    """Prints a record; NaN and infinity, which JSON has not, are an error."""
    print(json.dumps(record, indent=2, allow_nan=False))


def print_table(table: Table) -> None:
    """Prints a table as wide as the terminal, without control characters; elsewhere no line is broken at its edge."""
    terminal = sys.stdout.isatty()
    Console(width=None if terminal else 120, soft_wrap=not terminal).print(make_printable(table))


def percent(fraction: float | None) -> str:
    """Writes an error rate for a person; a dash where there is none."""
    return "-" if fraction is None else f"{100 * fraction:.2f}%"


def between(error: float, num_images: int) -> str:
    """Writes the 95% interval of an error rate, such as ``0 to 66%``."""
    from verydeep.testing.metrics import interval95  # numpy, which --help does without

    low, high = interval95(error, num_images)
    return f"{100 * low:.0f} to {100 * high:.0f}%"


def is_first_process() -> bool:
    """Whether this process prints: the only one, or the first of several."""
    from verydeep.distributed import launched  # which imports numpy

    return launched().is_first


class ProgressBar(Callback):
    """Shows the progress of a training or of other long work: a bar on a terminal, plain lines elsewhere."""

    def __init__(self) -> None:
        self.console = Console(stderr=True, soft_wrap=True)
        self.epochs: int | None = None
        self._bar: Progress | None = None
        self._task: TaskID | None = None
        self._last_line = time.monotonic()

    def note(self, text: str) -> None:
        self.console.print(escape(printable(text)), highlight=False)

    def progress(self, what: str, done: int, total: int) -> None:
        what = printable(what)
        if self.console.is_terminal:
            self._show(what, done, total, "")
            if done == total:
                self.close()
        else:
            self._note_seldom(f"{what}: {done:,} of {total:,}")

    def before_training(self, state: TrainState) -> None:
        self.close()
        self.epochs = state.recipe.epochs

    def after_update(self, state: TrainState) -> None:
        at, updates = state.position, state.num_updates
        what = f"epoch {at.epoch + 1}{self._of_epochs}"
        loss, error, rate = at.loss / at.seen, at.score / at.seen, at.seen / at.seconds
        figures = f"loss {loss:.3f}  training error {100 * error:5.2f}%  {format_number(rate)} images/s"
        if self.console.is_terminal:
            # the bar spans the whole training, so that its remaining time is that of the training
            total = updates * (self.epochs or at.epoch + 1)
            self._show(what, at.epoch * updates + at.iteration, total, figures)
        else:
            self._note_seldom(f"{what}: update {at.iteration}/{updates}, {' '.join(figures.split())}")

    def after_epoch(self, state: TrainState) -> None:
        self._last_line = time.monotonic()
        record = state.record
        measured = "validation error" if record["split"] == "val" else "error of training images"
        count = record.get("num_images")
        few = f" of only {count} images" if count is not None and count < FEW_IMAGES else ""
        self.note(
            f"epoch {record['epoch']}{self._of_epochs}: loss {record['loss']:.3f}, "
            f"training error {100 * record['train_error']:.2f}%, "
            f"{measured} {100 * record['val_top1_error']:.2f}%{few} by {record['protocol']}, "
            f"rate {record['learning_rate']:.2g}, {format_number(record['images_per_second'])} images/s"
        )

    def close(self) -> None:
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


@contextmanager
def reporting() -> Iterator[Callback]:
    """A context with a progress bar; of several processes only the first has one."""
    if not is_first_process():
        yield Callback()
        return
    bar = ProgressBar()
    try:
        yield bar
    finally:
        bar.close()


def fetch_models(*models: str | None) -> None:
    """Fetches those of the models that are published names and not in the cache; files and folders come first."""
    from verydeep.weights.shipped import SHIPPED

    for model in filter(None, models):
        if Path(model).exists() or model in SHIPPED:
            continue
        from verydeep.weights.published import find_published

        if (row := find_published(model)) is not None and not row.is_here:
            fetch_published(row.name)


def fetch_published(name: str, accept_hash: str | None = None) -> None:
    from verydeep.weights.published import known_weights

    row = known_weights(name)
    if row.is_here and accept_hash is None:
        return
    from verydeep.weights.fetch import fetch_weights, pinned_hash

    with reporting() as reporter:
        if not row.is_here:
            reporter.note(
                f"{row.name} is fetched from {row.publisher} ({format_bytes(row.size)}); licence: {row.licence}"
            )
        file = fetch_weights(row.name, accept_hash=accept_hash, progress=reporter.progress)
        pinned = pinned_hash(row)
        if pinned is not None and row.sha256 is None:
            reporter.note(f"the publisher's file has the sha256 {pinned}: from now on another is refused")
        reporter.note(f"{row.name} is in {file}")
