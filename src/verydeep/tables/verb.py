"""The tables from beginning to end: made or read, tested on the paper's claims, and written as a page."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from verydeep.errors import UserError
from verydeep.report.pages import REPORT_FILE, Errors
from verydeep.runs.evaluation_report import errors_of
from verydeep.tables.claims import ClaimResult
from verydeep.tables.grid import Asked
from verydeep.tables.make import Tables
from verydeep.tables.report import write_tables_report
from verydeep.tables.results import Results, read_results
from verydeep.testing.result import is_saved_posteriors, load_posteriors
from verydeep.training.state import Callback
from verydeep.weights.resolve import load


@dataclass(frozen=True, kw_only=True)
class MadeTables:
    """Tables that are made.

    Attributes:
        results: their rows.
        claims: what they say of the paper's claims.
        file: that holds the results.
        page: that shows them.
    """

    results: Results
    claims: Sequence[ClaimResult]
    file: Path
    page: Path


def make_tables(asked: Asked, reporter: Callback) -> MadeTables | None:
    """Trains and tests what is missing, and writes the report; None where somebody stopped it."""
    tables = Tables(asked, reporter)
    if not tables.train_and_test():
        reporter.note("stopped; everything is saved. The same command goes on:")
        reporter.note(f"  {asked.command}")
        return None
    tables.fuse_all()
    reporter.note("comparing and drawing")
    claims = tables.results.claims()
    page = write_tables_report(asked.out / REPORT_FILE, tables.results, claims, _shown(tables))
    return MadeTables(results=tables.results, claims=claims, file=tables.file, page=page)


def reprint_tables(source: Path, out: Path | None) -> tuple[Results, Sequence[ClaimResult]]:
    """Reads results that are there, and writes their report into a folder where one is given.

    Raises:
        UserError: there are none, or the folder cannot be written.
    """
    results = read_results(source)
    claims = results.claims()
    if out is not None:
        try:
            out.mkdir(parents=True, exist_ok=True)
            write_tables_report(out / REPORT_FILE, results, claims)
        except OSError as error:
            raise UserError(f"--out {out} cannot be written: {error.strerror or error}") from error
    return results, claims


def _shown(tables: Tables) -> Errors | None:
    """The last net of the paper's order with its first seed, dense at several scales: chosen by no error."""
    last = max(tables.planned, key=lambda training: (training.net.order, -training.seed))
    file = tables.posteriors_file(last, "multi-scale")
    if not is_saved_posteriors(file):
        return None
    result = load_posteriors(file)
    images = tables.opened.split(result.split).without(result.skipped)
    try:
        net = load(last.folder)
    except UserError:  # its run folder is gone; its posteriors are not
        net = None
    return errors_of(result, images, net, f"{last.title}, by protocol multi-scale.")
