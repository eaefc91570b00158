"""The tables of the paper for other data, as a person reads them in a terminal."""

from collections.abc import Sequence

from rich.markup import escape
from rich.table import Table

from verydeep.cli.printed import print_table
from verydeep.tables.claims import ClaimResult
from verydeep.tables.layout import LaidTable, lay_out, lay_out_claims
from verydeep.tables.plan import TablesPlan
from verydeep.tables.results import Results


def print_tables(results: Results, claims: Sequence[ClaimResult]) -> None:
    """Prints every table there are rows for, and what they say of the paper's claims."""
    about = results.about
    print(f"{about['contents']}; errors in per cent of the {about['num_images']:,} {about['split']} images")
    print("Paper: errors on ILSVRC-2012 validation, 1000 classes, at the scales that these are in proportion to.")
    for remark in about.get("remarks", ()):
        print(f"Note: {remark}.")
    for laid in lay_out(results):
        _print(laid)
    if claims:
        _print(lay_out_claims(claims))


def print_tables_plan(plan: TablesPlan) -> None:
    """Prints what the tables would take."""
    table = Table("net", "training", "testing")
    for piece in plan.pieces:
        table.add_row(escape(piece.name), _time(piece.training_seconds), _time(piece.testing_seconds))
    print_table(table)
    print(
        f"{len(plan.pieces)} nets: {format_duration(plan.training_seconds)} of training and "
        f"{format_duration(plan.testing_seconds)} of testing, {format_duration(plan.seconds)} in all"
    )


def format_duration(seconds: float) -> str:
    """Writes a duration as a person would."""
    if seconds < 120:
        return f"{seconds:.0f} seconds" if seconds >= 2 else f"{seconds:.1f} seconds"
    return f"{seconds / 60:.0f} minutes" if seconds < 7200 else f"{seconds / 3600:.1f} hours"


def _time(seconds: float) -> str:
    return format_duration(seconds) if seconds else "done"


def _print(laid: LaidTable) -> None:
    table = Table(title=f"{laid.title}: {laid.caption}", title_justify="left", title_style="bold")
    for number, name in enumerate(laid.columns):
        longest = max(len(row[number]) for row in laid.rows)  # headings are broken sooner than cells
        table.add_column(
            name,
            justify="right" if number >= laid.first_number else "left",
            overflow="fold",
            min_width=longest if number else None,
        )
    for row in laid.rows:
        table.add_row(*map(escape, row))
    print_table(table)
