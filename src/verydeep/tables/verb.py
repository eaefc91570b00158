"""What ``verydeep tables`` does with its options: plan, run, or show results that are there."""

import shlex
from collections.abc import Sequence
from pathlib import Path

from verydeep.cli.json_answer import print_json
from verydeep.cli.terminal import reporting
from verydeep.errors import UserError
from verydeep.report.pages import REPORT_FILE, Errors
from verydeep.runs.evaluation_report import errors_of
from verydeep.tables.claims import ClaimResult
from verydeep.tables.grid import Asked
from verydeep.tables.make import Tables
from verydeep.tables.plan import plan_tables
from verydeep.tables.printed import print_tables, print_tables_plan
from verydeep.tables.report import write_tables_report
from verydeep.tables.results import Results, read_results
from verydeep.testing.result import is_saved_posteriors, load_posteriors
from verydeep.weights.resolve import load


def plan_and_print(asked: Asked, *, as_json: bool) -> None:
    """Says what the tables would take."""
    with reporting() as reporter:
        planned = plan_tables(asked, reporter)
    if as_json:
        print_json(planned.as_record())
    else:
        print_tables_plan(planned)


def run(asked: Asked, *, as_json: bool) -> bool:
    """Makes the tables, prints them and writes their report.

    Returns:
        Whether all is done: not so where somebody stopped it.
    """
    with reporting() as reporter:
        tables = Tables(asked, reporter)
        if not tables.train_and_test():
            reporter.note("stopped; everything is saved. The same command goes on:")
            reporter.note(f"  {asked.command}")
            return False
        tables.fuse_all()
        reporter.note("comparing and drawing")
        claims = tables.results.claims()
        file = write_tables_report(asked.out / REPORT_FILE, tables.results, claims, _shown(tables))
    _print(tables.results, claims, as_json=as_json)
    if not as_json:
        print(f"{file} shows them with curves and errors; {tables.file} holds everything. To print them again:")
        print(f"  verydeep tables --from {shlex.quote(str(tables.file))}")
    return True


def show(source: Path, out: Path | None, *, as_json: bool) -> None:
    """Prints results that are there, and writes their report into a folder where one is given.

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
    _print(results, claims, as_json=as_json)


def _print(results: Results, claims: Sequence[ClaimResult], *, as_json: bool) -> None:
    if not as_json:
        print_tables(results, claims)
        return
    rows = [{key: value for key, value in row.as_record().items() if key != "wrong"} for row in results.rows]
    print_json({**results.about, "rows": rows, "claims": [one.as_record() for one in claims]})


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
