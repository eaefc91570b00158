"""``tables``: the paper's Tables 3 to 6 for the user's data: made, planned, or printed again."""

import shlex
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter
from rich.markup import escape
from rich.table import Table

from verydeep.cli.options import (
    Data,
    Json,
    Set,
    options_given,
    prepare_process,
    read_changes,
    read_scales,
)
from verydeep.cli.output import fetch_models, print_json, print_table, reporting
from verydeep.cli.plain import print
from verydeep.errors import UsageError
from verydeep.tables.grid import OF_TESTING, TablesOptions

if TYPE_CHECKING:
    from verydeep.tables.layout import TableLayout
    from verydeep.tables.plan import TablesPlan
    from verydeep.tables.rows import TableResults
    from verydeep.tables.verdicts import ClaimResult


_READ_HERE = ("architectures", "models", "train_scale", "test_scales", "protocols", "changes")
"""Options that are given as text."""


def tables(
    data: Data | None = None,
    /,
    *,
    architectures: Annotated[
        str, Parameter(help="Columns of Table 1, such as A,A-LRN,B,C,D,E; B-5x5 too.")
    ] = "A,A-LRN,B,C,D,E",
    models: Annotated[str | None, Parameter(help="Test these models, MODEL,MODEL,..., and train nothing.")] = None,
    options: Annotated[TablesOptions, Parameter(name="*", parse=f"^(?!({'|'.join(_READ_HERE)})$)")] = TablesOptions(),
    train_scale: Annotated[
        tuple[str, ...],
        Parameter(help="S, or Smin,Smax, for every net; repeatable. [those of the paper's Table 3, x crop / 224]"),
    ] = (),
    test_scales: Annotated[
        str | None,
        Parameter(
            help="Test every net at these Q, Q,Q,...: at each by itself, and at all together; dense where Q is a "
            "multiple of 32, which leaves the shorter side of an image whole. [those that go with S]"
        ),
    ] = None,
    protocols: Annotated[
        str | None, Parameter(help="Test by these protocols alone, NAME,NAME,... [all of Tables 3 to 5]")
    ] = None,
    set: Set = (),
    from_: Annotated[
        Path | None,
        Parameter(name="--from", help="Only print what is in these results (a file, or its folder)."),
    ] = None,
    markdown: Annotated[bool, Parameter(help="Print Markdown, as results/README.md of the repository has it.")] = False,
    plan: Annotated[bool, Parameter(help="Only say how long it would take; measured for a moment.")] = False,
    json: Json = False,
) -> int:
    """Train what is missing and print the paper's Tables 3 to 6 for a data set, beside the paper's numbers.

    The same command resumes where it was interrupted, and does nothing twice.

    Example: verydeep tables digits --architectures A,B --width 0.25 --epochs 2
    """
    options = replace(
        options,
        architectures=_names(architectures, "--architectures"),
        models=() if models is None else _names(models, "--models"),
        train_scale=tuple(scale_bounds(read_scales(text, "--train-scale")) for text in train_scale),
        protocols=() if protocols is None else _names(protocols, "--protocols"),
        test_scales=() if test_scales is None else read_scales(test_scales, "--test-scales"),
        changes=read_changes(set),
    )
    prepare_process()

    from verydeep.tables.make import make_tables, reprint_tables
    from verydeep.tables.plan import plan_tables

    if from_ is not None:
        if data is not None or options.models:
            raise UsageError("--from prints results that are there: give neither data nor models with it")
        _print(*reprint_tables(from_, options.out), json, markdown)
        return 0
    if data is None:
        raise UsageError("which data? Give a folder, or a name such as digits, or --from with results")
    if options.models and (of_training := options_given(options, besides=OF_TESTING)):
        raise UsageError(f"{of_training[0]} is of trainings, and --models are trained: leave one of them out")
    options.check(data)
    fetch_models(*options.models)
    if plan:
        with reporting() as reporter:
            planned = plan_tables(data, options, reporter=reporter)
        print_json(planned.as_record()) if json else _print_plan(planned)
        return 0
    with reporting() as reporter:
        made = make_tables(data, options, reporter=reporter, command=shlex.join(["verydeep", *sys.argv[1:]]))
    if made is None:
        return 1
    _print(made.results, made.claims, json, markdown)
    if not json and not markdown:
        print(f"{made.page} shows them with curves and errors; {made.file} holds everything. To print them again:")
        print(f"  verydeep tables --from {shlex.quote(str(made.file))}")
    return 0


def _names(text: str, option: str) -> tuple[str, ...]:
    names = tuple(name.strip() for name in text.split(","))
    if not all(names):
        raise UsageError(f"{option} {text!r}: give names between commas, such as A,B,D")
    return names


def scale_bounds(scales: Sequence[int]) -> tuple[int, int]:
    """Returns the bounds of a training scale that was given as one or two numbers."""
    if len(scales) > 2 or scales[0] > scales[-1]:
        raise UsageError(f"--train-scale {','.join(map(str, scales))}: give S, or Smin,Smax")
    return scales[0], scales[-1]


def _print(results: "TableResults", claims: Sequence["ClaimResult"], json: bool, markdown: bool) -> None:
    from verydeep.tables.layout import lay_out, lay_out_claims
    from verydeep.tables.markdown import results_in_markdown

    about = results.about
    if json:
        rows = [{key: value for key, value in row.as_record().items() if key != "wrong"} for row in results.rows]
        print_json({**about, "rows": rows, "claims": [one.as_record() for one in claims]})
        return
    if markdown:
        print(results_in_markdown(results, claims))
        return
    print(f"{about['contents']}; errors in per cent of the {about['num_images']:,} {about['split']} images")
    print("Paper: errors on ILSVRC-2012 validation, 1000 classes, at the scales that these are in proportion to.")
    for remark in results.remarks:
        print(f"Note: {remark}.")
    for laid in lay_out(results):
        _print_laid(laid)
    for laid in lay_out_claims(claims):
        _print_laid(laid)


def _print_laid(laid: "TableLayout") -> None:
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


def _print_plan(plan: "TablesPlan") -> None:
    table = Table("net", "training", "testing")
    for net in plan.nets:
        times = (net.training_seconds, net.testing_seconds)
        table.add_row(escape(net.name), *(_format_duration(seconds) if seconds else "done" for seconds in times))
    print_table(table)
    print(
        f"{len(plan.nets)} nets: {_format_duration(plan.training_seconds)} of training and "
        f"{_format_duration(plan.testing_seconds)} of testing, {_format_duration(plan.seconds)} in all"
    )
    if plan.claims:
        from verydeep.tables.layout import lay_out_plan

        _print_laid(lay_out_plan(plan.claims))


def _format_duration(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} seconds" if seconds >= 2 else f"{seconds:.1f} seconds"
    return f"{seconds / 60:.0f} minutes" if seconds < 7200 else f"{seconds / 3600:.1f} hours"
