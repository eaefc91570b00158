"""The tables from beginning to end: nets trained or taken as they are, tested, fused, judged and drawn."""

import itertools
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from verydeep.data.dataset import DataSet, describe
from verydeep.data.open import open_data
from verydeep.errors import UserError
from verydeep.machine import environment, now
from verydeep.nets.architecture import layers
from verydeep.nets.stored_net import MODEL_FILE
from verydeep.progress import OverallProgress
from verydeep.report.pages import REPORT_FILE, Errors
from verydeep.runs.evaluation_report import errors_of
from verydeep.runs.start import check_images, start
from verydeep.tables.grid import FUSED, TableRun, TablesOptions, fusions
from verydeep.tables.page import write_tables_page
from verydeep.tables.plan import is_trained, runs_of
from verydeep.tables.rows import RESULTS_FILE, TableResults, begin_results, read_results, row_of, write_results
from verydeep.tables.verdicts import ClaimResult, check_claims
from verydeep.testing.evaluate import evaluate_each
from verydeep.testing.images import check_classes
from verydeep.testing.result import Result, fuse, is_saved_posteriors, load_posteriors, save_posteriors
from verydeep.training.run_folder import Run, check_same_options
from verydeep.training.state import Callback, TrainState
from verydeep.weights.resolve import load

_TRAINING_PASSES = 3
"""A training step costs about three forward passes."""

_PASSES = {"centre": 1, "multi-scale": 6, "multi-crop": 150}
"""Forward passes of a protocol, beyond those that it shares with others."""


@dataclass(frozen=True, kw_only=True)
class MadeTables:
    """Tables that are made, what they say of the paper's claims, and the files of both."""

    results: TableResults
    claims: Sequence[ClaimResult]
    file: Path
    page: Path


def make_tables(
    data: str, options: TablesOptions, *, reporter: Callback | None = None, command: str = ""
) -> MadeTables | None:
    """Trains and tests what is missing, and writes the page; None where the user stopped it.

    Raises:
        UserError: the data, a model or the folder cannot be used.
        UsageError: an option that cannot be right, or results in the folder that began with other options.
    """
    reporter = reporter or Callback()
    tables = Tables(data, options, reporter=reporter, command=command)
    if not tables.train_and_test():
        reporter.note("stopped; everything is saved. The same command goes on:")
        reporter.note(f"  {command}")
        return None
    tables.fuse_all()
    reporter.note("comparing and drawing")
    claims = check_claims(tables.results)
    page = write_tables_page(tables.folder / REPORT_FILE, tables.results, claims, tables.errors_of_last())
    return MadeTables(results=tables.results, claims=claims, file=tables.file, page=page)


def reprint_tables(source: Path, out: Path | None) -> tuple[TableResults, Sequence[ClaimResult]]:
    """Reads results, and writes their page into a folder where one is given.

    Raises:
        UserError: there are none, or the folder cannot be written.
    """
    results = read_results(source)
    claims = check_claims(results)
    if out is not None:
        try:
            out.mkdir(parents=True, exist_ok=True)
            write_tables_page(out / REPORT_FILE, results, claims)
        except OSError as error:
            raise UserError(f"--out {out} cannot be written: {error.strerror or error}") from error
    return results, claims


class Tables:
    """The tables in the making; what is done is written at once, and is not done again, even where its net is gone."""

    def __init__(self, data: str, options: TablesOptions, reporter: Callback | None = None, command: str = "") -> None:
        self._reporter = reporter = reporter or Callback()
        options.check(data)
        common = options.training().find_recipe()
        opened = open_data(data, reporter.progress)
        self._options, self._command, self._source = options, command, data
        self.folder = options.folder(data)
        self.file = self.folder / RESULTS_FILE
        self.runs = runs_of(options, opened, self.folder)
        self._images = opened.split(options.split)
        for model in options.models:
            check_classes(load(model), self._images)
        self.results, self.opened = self._begin(opened, common.as_record()), opened
        missing = [run for run in self.runs if self._missing(run)]
        if missing and not options.models:
            self.opened, _ = check_images(opened, options.damaged == "skip", reporter)
        parts = dict(part for run in missing for part in self._parts(run))
        self._overall = OverallProgress(reporter.progress, parts)
        self._callback = _TrainingProgress(self._overall, reporter.note)
        self._callback.note(describe(opened))

    def _begin(self, data: DataSet, recipe: dict[str, Any]) -> TableResults:
        options, images = self._options, self._images
        alike: dict[str, Any] = {"fingerprint": data.fingerprint, "split": images.split, "models": list(options.models)}
        if not options.models:
            alike |= {"width": options.width, "recipe": recipe}
        about = {
            "command": self._command,
            "data": data.name,
            "source": self._source,
            "contents": describe(data),
            "validation": data.validation,
            "num_train": len(data.train),
            "num_images": len(images),
            "classes": list(data.classes),
            "environment": environment(),
            "began": now(),
            "seconds": 0.0,
            "remarks": [],
            **alike,
            "options": options.as_record(),
        }
        return begin_results(self.file, about, alike)

    def _missing(self, run: TableRun) -> bool:
        return any(not self.results.has([run.net], run.seed, name) for name in run.net.protocols)

    def _parts(self, run: TableRun) -> list[tuple[str, float]]:
        """The training and the test of a net, with the multiplications of each."""
        geometry = self._options.geometry(run.net, len(self.opened.classes))
        macs, parts = float(sum(layer.macs for layer in layers(geometry))), []
        if not self._options.models and not is_trained(run):
            passes = _TRAINING_PASSES * self._options.training(run).find_recipe().epochs * len(self.opened.train)
            parts.append((f"training {run.title}", macs * passes))
        passes = len(self._images) * sum(_PASSES.get(name, 0) for name in run.net.protocols)
        return [*parts, (f"testing {run.title}", macs * passes)]

    def train_and_test(self) -> bool:
        """Does what is missing, net by net; False where the user stopped it."""
        for run in self.runs:
            if self._missing(run):
                begun = time.monotonic()
                trained = bool(self._options.models) or self._train(run)
                if trained:
                    self._test(run)
                self._save(begun)
                if not trained:
                    return False
        return True

    def _save(self, begun: float) -> None:
        self.results.about["seconds"] += time.monotonic() - begun
        self.folder.mkdir(parents=True, exist_ok=True)
        write_results(self.results, self.file)

    def _train(self, run: TableRun) -> bool:
        if is_trained(run):
            self._check_alike(run)
        else:
            with self._overall.within(f"training {run.title}"):
                trained = start(
                    self.opened,
                    self._options.training(run),
                    reporter=self._callback,
                    data_source=self._source,
                    command=self._command,
                )
            if not trained.finished:
                return False
        log = Run.open(run.model).log_records()
        seconds = sum(line["seconds"] for line in log)
        self.results.trainings.append({"net": vars(run.net), "seed": run.seed, "seconds": seconds, "log": log})
        return True

    def _check_alike(self, run: TableRun) -> None:
        """Checks that a training that is there was asked for by the same options."""
        began = Run.open(run.model).settings
        check_same_options(
            f"the run in {run.model}",
            {"fingerprint": began["fingerprint"], "net": began["net"], "seed": began["seed"]} | began["recipe"],
            {
                "fingerprint": self.opened.fingerprint,
                "net": self._options.geometry(run.net, len(self.opened.classes)).title,
                "seed": run.seed,
                **self._options.training(run).find_recipe().as_record(),
            },
        )

    def _test(self, run: TableRun) -> None:
        """Tests a net by all protocols that are missing, in one pass over the images."""
        options, names = self._options, run.net.protocols
        found = {name: result for name in names if (result := self._saved(run, name)) is not None}
        missing = [name for name in names if name not in found]
        with self._overall.within(f"testing {run.title}"):
            if missing:
                (results,) = evaluate_each(
                    [run.model],
                    self.opened,
                    missing,
                    split=options.split or ("test" if self.opened.test else "val"),
                    device=options.device,
                    skip_damaged=options.damaged == "skip",
                    progress=self._overall.advance,
                    note=self._remark,
                )
                found |= zip(missing, results, strict=True)
        for name in missing:
            file = self._posteriors_file(run, name)
            file.parent.mkdir(parents=True, exist_ok=True)
            save_posteriors(found[name], file)
        for name in names:
            if not self.results.has([run.net], run.seed, name):
                self.results.rows.append(row_of(found[name], [run.net], run.seed))
        errors = ", ".join(f"{name} {100 * found[name].top1_error:.2f}%" for name in names)
        self._reporter.note(f"{run.title}: top-1 error on {self._images.split} {errors}")

    def _remark(self, text: str) -> None:
        if text not in self.results.about["remarks"]:
            self.results.about["remarks"].append(text)

    def _posteriors_file(self, run: TableRun, protocol: str) -> Path:
        return self.folder / "posteriors" / f"{run.stem}-{protocol}.safetensors"

    def _saved(self, run: TableRun, protocol: str) -> Result | None:
        """The posteriors of a test that was done, unless the net is newer."""
        file = self._posteriors_file(run, protocol)
        model = run.model / MODEL_FILE if run.model.is_dir() else run.model
        if not is_saved_posteriors(file) or (model.exists() and file.stat().st_mtime < model.stat().st_mtime):
            return None
        result = load_posteriors(file)
        alike = result.fingerprint == self.opened.fingerprint and result.split == self._images.split
        return result if alike else None

    def fuse_all(self) -> None:
        """Fuses nets of the same seed, by the protocols that all of them were tested by.

        Paper: section 4.4.
        """
        begun, num_missing = time.monotonic(), 0
        for seed in dict.fromkeys(run.seed for run in self.runs):
            runs = {run.net: run for run in self.runs if run.seed == seed}
            for group, protocol in itertools.product(fusions(list(runs)), FUSED):
                if self.results.has(group, seed, protocol) or any(protocol not in net.protocols for net in group):
                    continue
                saved = [self._saved(runs[net], protocol) for net in group]
                results = [result for result in saved if result is not None]
                if len(results) == len(group):
                    self.results.rows.append(row_of(fuse(results), group, seed))
                else:
                    num_missing += 1
        if num_missing:
            self._reporter.note(
                f"{num_missing} fusions are left out: the posteriors of their nets are not here any more"
            )
        self._save(begun)

    def errors_of_last(self) -> Errors | None:
        """Errors of the last net in the paper's order, dense at several scales: chosen by no error."""
        last = max(self.runs, key=lambda run: (run.net.order, -run.seed))
        file = self._posteriors_file(last, "multi-scale")
        if not is_saved_posteriors(file):
            return None
        result = load_posteriors(file)
        images = self.opened.split(result.split).without(result.skipped)
        try:
            net = load(last.model)
        except UserError:  # its run folder is gone; its posteriors are not
            net = None
        remark = f"{last.title}, by protocol multi-scale."
        return errors_of(result, images, net, remark, pictures=not self._options.no_pictures)


class _TrainingProgress(Callback):
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
