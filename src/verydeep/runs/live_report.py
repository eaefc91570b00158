"""The page of a training while it runs: ``report.html`` from the first minute, renewed as it goes.

The page is made of plain data, so that what comes before the loop (descriptors, a linear classifier) can write it too;
of the loop it is a callback. It says when it was written: a training that was killed leaves no page that claims to run.
"""

import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Final

from verydeep.data.dataset import DataSet
from verydeep.distributed import processes
from verydeep.files import format_number
from verydeep.report.pages import REPORT_FILE, Card, Page, Section, percent, sections_of_log, write_page
from verydeep.runs.image_findings import read_findings, sections_of_findings
from verydeep.testing.metrics import interval95
from verydeep.training.run_folder import Run
from verydeep.training.state import Callback, TrainState

RENEWED_SECONDS: Final = 20
"""Between two writings of the page, and between two readings by a browser."""

_SECONDS_BETWEEN_EPOCHS = 2.0
"""At least, for epochs that take less."""


class LiveReport(Callback):
    """Writes the page of a training that runs into its folder; of several processes only the first does.

    A page that cannot be written is left as it is: the training goes on.

    Args:
        folder: of the run.
        title: which net on which data.
        facts: tables of names and values, by their titles.
        lines: what was chosen, with the reasons.
        verb: what trains it.
    """

    def __init__(
        self,
        folder: Path,
        title: str,
        facts: Mapping[str, Mapping[str, Any]],
        lines: Sequence[str] = (),
        verb: str = "train",
    ) -> None:
        self.folder, self.title, self.facts, self.lines = folder, title, facts, list(lines)
        self._resume = Run(folder, {"verb": verb}).resume_command
        self.log: list[Mapping[str, Any]] = []
        self.sections: list[Section] = []
        """More of them, such as those of ``sections_of_findings``."""
        self._cards: list[Card] = []
        self._doing = "beginning"
        self._written = 0.0
        self._runs = True
        self._began, self._images_before = 0.0, 0

    @staticmethod
    def of_run(run: Run, title: str, data: DataSet) -> "LiveReport":
        """The page of a run folder: its recipe, how it is computed, and what was found in its training images."""
        settings = run.settings
        computed = settings["choice"] | {"seed": settings["seed"]} | settings["environment"]
        facts = {"The recipe": settings["recipe"], "How it is computed": computed | {"began": settings["began"]}}
        live = LiveReport(run.folder, title, facts, run.plan.get("reasons", ()), run.verb)
        live.log = list(run.log_records())
        live.sections = sections_of_findings(
            read_findings(run.folder), data.classes, data.train.names, data.train.read if run.pictures else None
        )
        return live

    def note(self, text: str) -> None:
        """Adds a line to what was chosen and found, and writes the page."""
        self.lines.append(text)
        self._write()

    def progress(self, what: str, done: int, total: int) -> None:
        self._doing = f"{what}: {done:,} of {total:,}"
        self._write_seldom(RENEWED_SECONDS)

    def doing(self, what: str) -> None:
        """Says what is going on now, and writes the page."""
        self._doing = what
        self._write()

    def before_training(self, state: TrainState) -> None:
        self._began, self._images_before = time.monotonic(), self._images(state)
        self._runs = True
        self._show(state)
        self._write()

    def after_update(self, state: TrainState) -> None:
        if not state.in_epoch:
            self._doing = f"validating after epoch {state.position.epoch + 1}"
            self._write_seldom(_SECONDS_BETWEEN_EPOCHS)
        elif time.monotonic() - self._written > RENEWED_SECONDS:
            self._show(state)
            self._write()

    def after_epoch(self, state: TrainState) -> None:
        self.log.append(state.record)
        self._show(state)
        self._write_seldom(_SECONDS_BETWEEN_EPOCHS)

    def after_training(self, state: TrainState) -> None:
        self._show(state)
        if state.finished:
            self._doing = "the training has ended; its errors are measured"
        else:
            self._runs = False
            self._doing = f"stopped in epoch {state.position.epoch + 1}; resume with {self._resume}"
        self._write()

    def _images(self, state: TrainState) -> int:
        return state.position.epoch * state.num_images + state.position.seen

    def _show(self, state: TrainState) -> None:
        """Takes from the training what the page says of it."""
        at, epochs = state.position, state.recipe.epochs
        done, total = self._images(state), epochs * state.num_images
        cards = [Card("epoch", f"{min(at.epoch + 1, epochs)}", f"of {epochs} at most")]
        self._doing = f"epoch {at.epoch + 1}: update {at.iteration:,} of {state.num_updates:,}"
        if at.seen:
            self._doing += f", loss {at.loss / at.seen:.3f}, training error {percent(at.score / at.seen)}"
            rate = at.seen / at.seconds if at.seconds else 0.0
            cards.append(Card("images/s", format_number(rate), "of this epoch, while it learns"))
        seconds, learnt = time.monotonic() - self._began, done - self._images_before
        if learnt and done < total:
            end = datetime.now().astimezone() + timedelta(seconds=seconds * (total - done) / learnt)
            cards.append(Card("expected end", end.strftime("%H:%M"), f"{end:%A %d %B, %Z}, at the latest"))
        self._cards = cards + self._error_card()

    def _error_card(self) -> list[Card]:
        if not self.log:
            return []
        last = self.log[-1]
        error, count = last["val_top1_error"], last.get("num_images")
        below = f"after epoch {last['epoch']}, central crop"
        if count:
            low, high = interval95(error, count)
            below += f"; of {count:,} images, 95% interval {100 * low:.2f} to {percent(high)}"
        what = "validation error" if last.get("split", "val") == "val" else f"error of {last['split']} images"
        return [Card(what, percent(error), below)]

    def _write_seldom(self, seconds: float) -> None:
        if time.monotonic() - self._written > seconds:
            self._write()

    def _write(self) -> None:
        self._written = time.monotonic()
        if processes().is_first and self.folder.is_dir():
            with suppress(OSError):
                write_page(self.folder / REPORT_FILE, self.page())

    def page(self) -> Page:
        """The page as it would be written now."""
        at = datetime.now().astimezone()
        remarks = [f"As of {at:%H:%M:%S} on {at:%A %d %B %Y} ({at:%Z}): {self._doing}."]
        if self._runs:
            remarks.append(
                f"This page is renewed about every {RENEWED_SECONDS} seconds while the training runs. If that time is "
                f"long past, it was stopped: resume it with {self._resume}"
            )
        return Page(
            title=self.title,
            cards=self._cards,
            remarks=remarks,
            sections=[
                Section("What was chosen, and why", "lines", self.lines),
                *sections_of_log(self.log),
                *self.sections,
                *(Section(heading, "facts", table) for heading, table in self.facts.items()),
            ],
            footer="The errors, class by class and with the worst of them, follow when the training has ended.",
            renewed=RENEWED_SECONDS if self._runs else None,
        )
