"""``tables``: the paper's Tables 3 to 6 for the user's data: made, planned, or printed again."""

import shlex
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter
from rich.markup import escape
from rich.table import Table

from verydeep.cli.options import (
    Damaged,
    Data,
    Device,
    Json,
    Set,
    Split,
    options_given,
    prepare_process,
    read_changes,
    read_scales,
)
from verydeep.cli.output import fetch_models, print_json, print_table, reporting
from verydeep.errors import UsageError
from verydeep.files import check_outside

if TYPE_CHECKING:
    from verydeep.tables.claims import ClaimResult
    from verydeep.tables.layout import LaidTable
    from verydeep.tables.plan import TablesPlan
    from verydeep.tables.results import Results


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class TablesOptions:
    """The options of ``tables``."""

    architectures: str = "A,A-LRN,B,C,D,E"
    "Columns of Table 1, such as A,A-LRN,B,C,D,E; B-5x5 too."
    models: str | None = None
    "Test these models, MODEL,MODEL,..., and train nothing."
    from_: Annotated[Path | None, Parameter(name="--from")] = None
    "Only print what is in these results (a file, or its folder)."
    seeds: int = 1
    "Trainings of each net."
    batch_norm: bool = False
    "A batch norm after every convolution."
    width: float = 1.0
    "Factor on the channels of every layer."
    crop: int | None = None
    "Side of the training crop. [32 for digits and cifar, else 224]"
    train_scale: tuple[str, ...] = ()
    "S, or Smin,Smax, for every net; repeatable. [those of the paper's Table 3, x crop / 224]"
    epochs: int | None = None
    "Passes over the training images. [the recipe's]"
    recipe: str = "small-images"
    "paper, small-images, quick ... or a JSON file; the same for every net."
    set: Set = ()
    split: Split = None
    out: Path | None = None
    "The folder of everything. [runs/tables-DATA]"
    plan: bool = False
    "Only say how long it would take; measured for a moment."
    device: Device = None
    precision: str | None = None
    "fp32 or bf16, of the trainings. [the faster]"
    damaged: Damaged = "fail"


_OF_TESTING = ("models", "split", "out", "plan", "device", "damaged")
"""Options that say how to test."""


def tables(data: Data | None = None, /, *, options: TablesOptions = TablesOptions(), json: Json = False) -> int:
    """Train what is missing and print the paper's Tables 3 to 6 for a data set, beside the paper's numbers.

    The same command resumes where it was interrupted, and does nothing twice.

    Example: verydeep tables digits --architectures A,B --width 0.25 --epochs 2
    """
    changes = read_changes(options.set) | ({"epochs": options.epochs} if options.epochs is not None else {})
    scales = [read_scales(text, "--train-scale") for text in options.train_scale]
    prepare_process()

    from verydeep.runs.options import ComputeOptions
    from verydeep.tables.grid import Asked, named_list, scale_bounds
    from verydeep.tables.plan import plan_tables
    from verydeep.tables.verb import make_tables, reprint_tables

    if options.from_ is not None:
        if data is not None or options.models is not None:
            raise UsageError("--from prints results that are there: give neither data nor models with it")
        results, claims = reprint_tables(options.from_, options.out)
        _print(results, claims, json)
        return 0
    if data is None:
        raise UsageError("which data? Give a folder, or a name such as digits, or --from with results")
    if options.models is not None and (of_training := options_given(options, besides=_OF_TESTING)):
        raise UsageError(f"{of_training[0]} is of trainings, and --models are trained: leave one of them out")
    asked = Asked(
        data=data,
        out=options.out or Path("runs") / f"tables-{Path(data).name}",
        models=named_list(options.models, "--models") if options.models is not None else (),
        architectures=named_list(options.architectures, "--architectures"),
        train_scales=tuple(scale_bounds(scale) for scale in scales),
        seeds=options.seeds,
        batch_norm=options.batch_norm,
        width=options.width,
        crop=options.crop,
        recipe=options.recipe,
        changes=changes,
        split=options.split,
        execution=ComputeOptions(device=options.device, precision=options.precision),
        skip_damaged=options.damaged == "skip",
        command=shlex.join(["verydeep", *sys.argv[1:]]),
    )
    check_outside(asked.out, "--out", data)
    fetch_models(*asked.models)
    with reporting() as reporter:
        if options.plan:
            plan = plan_tables(asked, reporter)
        else:
            made = make_tables(asked, reporter)
    if options.plan:
        print_json(plan.as_record()) if json else _print_plan(plan)
        return 0
    if made is None:
        return 1
    _print(made.results, made.claims, json)
    if not json:
        print(f"{made.page} shows them with curves and errors; {made.file} holds everything. To print them again:")
        print(f"  verydeep tables --from {shlex.quote(str(made.file))}")
    return 0


def _print(results: "Results", claims: Sequence["ClaimResult"], json: bool) -> None:
    """Prints every table there are rows for, and what they say of the paper's claims."""
    from verydeep.tables.layout import lay_out, lay_out_claims

    about = results.about
    if json:
        rows = [{key: value for key, value in row.as_record().items() if key != "wrong"} for row in results.rows]
        print_json({**about, "rows": rows, "claims": [one.as_record() for one in claims]})
        return
    print(f"{about['contents']}; errors in per cent of the {about['num_images']:,} {about['split']} images")
    print("Paper: errors on ILSVRC-2012 validation, 1000 classes, at the scales that these are in proportion to.")
    for remark in about.get("remarks", ()):
        print(f"Note: {remark}.")
    for laid in lay_out(results):
        _print_laid(laid)
    if claims:
        _print_laid(lay_out_claims(claims))


def _print_laid(laid: "LaidTable") -> None:
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
    for piece in plan.pieces:
        times = (piece.training_seconds, piece.testing_seconds)
        table.add_row(escape(piece.name), *(_format_duration(seconds) if seconds else "done" for seconds in times))
    print_table(table)
    print(
        f"{len(plan.pieces)} nets: {_format_duration(plan.training_seconds)} of training and "
        f"{_format_duration(plan.testing_seconds)} of testing, {_format_duration(plan.seconds)} in all"
    )


def _format_duration(seconds: float) -> str:
    """Writes a duration as a person would."""
    if seconds < 120:
        return f"{seconds:.0f} seconds" if seconds >= 2 else f"{seconds:.1f} seconds"
    return f"{seconds / 60:.0f} minutes" if seconds < 7200 else f"{seconds / 3600:.1f} hours"
