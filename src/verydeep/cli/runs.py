"""``runs``: what lies in runs/, and what differs between two runs."""

import json as json_text
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter
from rich.markup import escape
from rich.table import Table

from verydeep.cli.options import Json
from verydeep.cli.output import percent, print_json, print_table
from verydeep.cli.plain import print
from verydeep.errors import UsageError, printable

if TYPE_CHECKING:
    from verydeep.runs.listing import Difference, RunSummary


def runs(
    folder: Annotated[Path, Parameter(name="FOLDER", help="Where they lie.")] = Path("runs"),
    /,
    *,
    compare: Annotated[
        tuple[Path, Path] | None, Parameter(help="Show what differs between two runs: paths, or names in FOLDER.")
    ] = None,
    json: Json = False,
) -> None:
    """List the runs in runs/: state, data, net, error and when; or show what differs between two of them.

    Example: verydeep runs
    """
    from verydeep.runs.listing import compare_runs, find_run, list_runs

    if compare is None:
        nothing_yet = folder == Path("runs") and not folder.exists()
        found = [] if nothing_yet else list_runs(folder)
        print_json({"folder": str(folder), "runs": [run.as_record() for run in found]}) if json else _print(found)
        return
    first, second = (find_run(run, folder) for run in compare)
    if first.resolve() == second.resolve():
        raise UsageError(f"--compare {first} is given twice: give two runs")
    differences = compare_runs(first, second)
    if json:
        print_json({"runs": [str(first), str(second)], "differences": [vars(one) for one in differences]})
    else:
        _print_differences(first, second, differences)


def _print(runs: Sequence["RunSummary"]) -> None:
    if not runs:
        print("No runs yet: verydeep train DATA makes one.")
        return
    table = Table("run", "state", "data", "net", "recipe", "epochs", "top-1 error", "measured on")
    table.add_column("began", no_wrap=True)
    for run in runs:
        epochs = "-" if run.epochs is None else f"{run.epochs}/{run.most_epochs}"
        measured = "-" if run.top1_error is None else f"{run.split} by {run.protocol}"
        cells = (str(run.folder), run.state, run.data, run.net, run.recipe, epochs, percent(run.top1_error), measured)
        table.add_row(*(_cell(cell) for cell in (*cells, (run.began or "-")[:16].replace("T", " "))))
    print_table(table)
    for run in runs:
        if run.problem is not None:
            print(f"{printable(str(run.folder))}: {printable(run.problem)}")
    if any(run.state == "interrupted" for run in runs):
        print("Resume one that was interrupted with: verydeep train --resume --out RUN")


def _print_differences(first: Path, second: Path, differences: Sequence["Difference"]) -> None:
    if not differences:
        print(f"{first} and {second} differ in nothing that they store")
        return
    table = Table("", "", _cell(str(first)), _cell(str(second)))
    for one in differences:
        table.add_row(
            one.about, _cell(one.name), *(_cell(_shown(one.name, value)) for value in (one.first, one.second))
        )
    print_table(table)


def _shown(name: str, value: Any) -> str:  # noqa: ANN401 - whatever run.json holds
    if name in ("top1_error", "top5_error") and isinstance(value, float):
        return percent(value)
    return value if isinstance(value, str) else "-" if value is None else json_text.dumps(value)


def _cell(text: str | None) -> str:
    return "-" if text is None else escape(printable(text))
