"""The tables from beginning to end: nets trained or taken as they are, tested, fused, judged and drawn."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from verydeep.data.dataset import DataSet, describe
from verydeep.data.open import open_data
from verydeep.errors import UserError
from verydeep.machine import environment, now
from verydeep.nets.architecture import layers
from verydeep.progress import OverallProgress
from verydeep.report.pages import REPORT_FILE, Errors
from verydeep.runs.evaluation_report import errors_of
from verydeep.runs.options import TrainOptions
from verydeep.runs.start import check_images, start
from verydeep.tables.grid import TableRun, TablesOptions
from verydeep.tables.listing import fusions
from verydeep.tables.page import write_tables_page
from verydeep.tables.plan import is_trained, runs_of
from verydeep.tables.posteriors import SavedPosteriors
from verydeep.tables.progress import TablesProgress
from verydeep.tables.protocols import forward_passes, list_fused_tests, list_tests
from verydeep.tables.rows import RESULTS_FILE, TableResults, begin_results, read_results, row_of, write_results
from verydeep.tables.verdicts import ClaimResult, check_claims
from verydeep.testing.evaluate import evaluate_each
from verydeep.testing.images import check_classes
from verydeep.testing.protocols import ProtocolAt
from verydeep.testing.result import fuse
from verydeep.training.run_folder import SETTINGS_FILE, Run, check_same_options
from verydeep.training.state import Callback
from verydeep.weights.resolve import load

_TRAINING_PASSES = 3
"""A training step costs about three forward passes."""


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
        recipe = options.recipe_record()
        opened = open_data(data, reporter.progress)
        self._options, self._command, self._source = options, command, data
        self.folder = options.folder(data)
        self.file = self.folder / RESULTS_FILE
        self.runs = runs_of(options, opened, self.folder)
        self._images = opened.split(options.split)
        for model in options.models:
            check_classes(load(model), self._images)
        self.results, self.opened = self._begin(opened, recipe), opened
        self._posteriors = SavedPosteriors(
            folder=self.folder / "posteriors",
            fingerprint=opened.fingerprint,
            split=self._images.split,
            with_scales=bool(options.test_scales),
        )
        missing = [run for run in self.runs if self._missing(run) or self._is_start(run)]
        if missing and not options.models:
            self.opened, _ = check_images(opened, options.damaged == "skip", reporter)
        parts = dict(part for run in missing for part in self._parts(run))
        self._overall = OverallProgress(reporter.progress, parts)
        self._callback = TablesProgress(self._overall, reporter.note)
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

    def _missing(self, run: TableRun) -> list[ProtocolAt]:
        """The tests of a net that are not done."""
        tests = list_tests(run.net, self._options)
        return [one for one in tests if not self.results.has([run.net], run.seed, one.protocol.name, one.scales)]

    def _is_start(self, run: TableRun) -> bool:
        """Whether a net must be trained, though it is tested, for another that begins from it."""
        after = (other for other in self.runs if other.start == run and not is_trained(other))
        return not is_trained(run) and any(self._missing(other) or self._is_start(other) for other in after)

    def _parts(self, run: TableRun) -> list[tuple[str, float]]:
        """The training and the test of a net, with the multiplications of each."""
        geometry = self._options.geometry(run.net, len(self.opened.classes))
        macs, parts = float(sum(layer.macs for layer in layers(geometry))), []
        if not self._options.models and not is_trained(run):
            passes = _TRAINING_PASSES * self._options.training(run).find_recipe().epochs * len(self.opened.train)
            parts.append((f"training {run.title}", macs * passes))
        passes = len(self._images) * forward_passes(run.net, self._missing(run))
        return [*parts, (f"testing {run.title}", macs * passes)]

    def train_and_test(self) -> bool:
        """Does what is missing, net by net; False where the user stopped it."""
        for run in self.runs:
            if self._missing(run) or self._is_start(run):
                begun = time.monotonic()
                trained = bool(self._options.models) or self._train(run)
                if trained and self._missing(run):
                    self._test(run)
                self._save(begun)
                if not trained:
                    return False
        return True

    def _save(self, begun: float) -> None:
        self.results.about["seconds"] += time.monotonic() - begun
        if self.results.rows:  # a file without them could not be read
            self.folder.mkdir(parents=True, exist_ok=True)
            write_results(self.results, self.file)

    def _train(self, run: TableRun) -> bool:
        if is_trained(run):
            self._check_alike(run)
        else:
            with self._overall.within(f"training {run.title}"):
                trained = start(
                    self.opened,
                    self._training(run),
                    reporter=self._callback,
                    data_source=self._source,
                    command=self._command,
                )
            if not trained.finished:
                return False
        log = Run.open(run.model).log_records()
        seconds = sum(line["seconds"] for line in log)
        if not self.results.log(run.net, run.seed):
            training = {"net": run.net.as_record(), "seed": run.seed, "seconds": seconds, "log": log}
            self.results.trainings.append(training)
        return True

    def _training(self, run: TableRun) -> TrainOptions:
        """The options of a training; a control has as many epochs as the training had that it is compared with."""
        matched = run.matched and self.results.log(run.matched.net, run.seed)
        return self._options.training(run, len(matched) if matched else None)

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
                **self._training(run).find_recipe().as_record(),
            },
        )

    def _test(self, run: TableRun) -> None:
        """Tests a net by all protocols that are missing, in one pass over the images."""
        options, tests = self._options, self._missing(run)
        found = {one: result for one in tests if (result := self._posteriors.load(run, one)) is not None}
        missing = [one for one in tests if one not in found]
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
        for one in missing:
            self._posteriors.save(found[one], run, one)
        log = self._log(run)
        self.results.rows.extend(row_of(found[one], [run.net], run.seed, log) for one in tests)
        errors = ", ".join(f"{self._posteriors.name(one)} {100 * found[one].top1_error:.2f}%" for one in tests)
        self._reporter.note(f"{run.title}: top-1 error on {self._images.split} {errors}")

    def _log(self, run: TableRun) -> list[dict[str, Any]]:
        """The log of a net's training; empty for a model that is no run."""
        is_run = self._options.models and (run.model / SETTINGS_FILE).is_file()
        return Run.open(run.model).log_records() if is_run else self.results.log(run.net, run.seed)

    def _remark(self, text: str) -> None:
        if text not in self.results.about["remarks"]:
            self.results.about["remarks"].append(text)

    def fuse_all(self) -> None:
        """Fuses nets of the same seed, by the protocols that all of them were tested by.

        Paper: section 4.4.
        """
        begun, num_missing = time.monotonic(), 0
        for seed in dict.fromkeys(run.seed for run in self.runs):
            runs = {run.net: run for run in self.runs if run.seed == seed}
            for group in fusions(list(runs)):
                num_missing += self._fuse([runs[net] for net in group])
        if num_missing:
            self._reporter.note(f"{num_missing} fusions are left out: the posteriors of their nets are not here now")
        self._save(begun)

    def _fuse(self, runs: Sequence[TableRun]) -> int:
        """Fuses nets of one seed by every protocol that is missing; returns for how many their posteriors are."""
        nets, seed, num_missing = [run.net for run in runs], runs[0].seed, 0
        for test, each in list_fused_tests(nets, self._options).items():
            if self.results.has(nets, seed, test.protocol.name, test.scales):
                continue
            saved = [self._posteriors.load(run, own) for run, own in zip(runs, each, strict=True)]
            results = [result for result in saved if result is not None]
            if len(results) == len(nets):
                self.results.rows.append(row_of(fuse(results), nets, seed))
            else:
                num_missing += 1
        return num_missing

    def errors_of_last(self) -> Errors | None:
        """Errors of the last net in the paper's order, dense at several scales: chosen by no error."""
        last = max((run for run in self.runs if not run.net.is_control), key=lambda run: (run.net.order, -run.seed))
        tests = sorted(list_tests(last.net, self._options), key=lambda one: one.protocol.name == "multi-scale")
        result = self._posteriors.load(last, tests[-1]) if tests else None
        if result is None:
            return None
        images = self.opened.split(result.split).without(result.skipped)
        try:
            net = load(last.model)
        except UserError:  # its run folder is gone; its posteriors are not
            net = None
        remark = f"{last.title}, by protocol {result.protocol}."
        return errors_of(result, images, net, remark, pictures=not self._options.no_pictures)
