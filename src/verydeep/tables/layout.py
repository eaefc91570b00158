"""The paper's Tables 3 to 6 for other data and its claims, laid out once for the terminal and for pages.

Paper: Tables 3 to 6.
"""

import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from verydeep.tables.grid import DENSE_AND_CROPS, TableNet
from verydeep.tables.rows import TableCell, TableResults
from verydeep.tables.trained import FITTED, STILL, training_ends
from verydeep.tables.verdicts import DECIDABLE, ClaimResult, PlannedClaim

_PASS = 0.001
"""Largest difference to the paper's error that counts as the same, a fraction."""

_METHODS = {"multi-scale": "dense", "multi-crop": "multi-crop", DENSE_AND_CROPS: "multi-crop & dense"}
"""How Tables 5 and 6 of the paper name the protocols."""


@dataclass(frozen=True)
class TableLayout:
    """A table to be shown."""

    title: str  # such as Table 3
    caption: str
    columns: tuple[str, ...]
    rows: list[tuple[str, ...]]
    first_number: int  # index of the first column of numbers


def lay_out(results: TableResults) -> list[TableLayout]:
    """Lays out the tables that there are rows for."""
    cells = results.cells
    single, fused = ([cell for cell in cells if (len(cell.nets) > 1) == several] for several in (False, True))
    judge = results.about.get("data") == "imagenet" and bool(results.about.get("models"))
    errors = _error_columns(judge=judge)

    def row(cell: TableCell, *first: str) -> tuple[str, ...]:
        return (*first, *_error_cells(cell, judge=judge))

    def by(protocol: str) -> list[tuple[str, ...]]:
        return [
            row(one, one.nets[0].name, one.nets[0].shown_scale, _shown(one.test_scales))
            for one in single
            if one.protocol == protocol
        ]

    def by_method(nets: tuple[TableNet, ...], scales: tuple[int, ...]) -> list[tuple[str, ...]]:
        there = {one.protocol: one for one in single if (one.nets, one.test_scales) == (nets, scales)}
        return [
            row(there[name], nets[0].name, nets[0].shown_scale, _shown(there[name].test_scales), method)
            for name, method in _METHODS.items()
            if name in there
        ]

    with_crops = [(one.nets, one.test_scales) for one in single if one.protocol == "multi-crop"]
    methods = [line for nets, scales in with_crops for line in by_method(nets, scales)]
    groups = [
        row(
            one,
            " + ".join(f"{net.name}/{net.shown_scale}" for net in one.nets),
            _shown(one.test_scales),
            _METHODS.get(one.protocol, "dense, one scale"),
        )
        for one in fused
    ]
    net_columns = ("net", "S", "Q")
    tables = [
        TableLayout("Table 3", "one test scale, dense (section 4.1)", (*net_columns, *errors), by("single"), 3),
        TableLayout(
            "Table 4", "several test scales, dense (section 4.2)", (*net_columns, *errors), by("multi-scale"), 3
        ),
        TableLayout("Table 5", "dense and many crops (section 4.3)", (*net_columns, "method", *errors), methods, 4),
        TableLayout("Table 6", "several nets fused (section 4.4)", ("nets / S", "Q", "method", *errors), groups, 3),
        TableLayout(
            "The central crop", "one crop at one scale (section 4.1)", (*net_columns, *errors), by("centre"), 3
        ),
        _lay_out_trainings(results),
    ]
    return [table for table in tables if table.rows]


def _shown(scales: Iterable[int]) -> str:
    return ",".join(map(str, scales))


def _error_columns(*, judge: bool) -> tuple[str, ...]:
    judged = ("top-1 less paper", "top-5 less paper", "verdict") if judge else ()
    return ("seeds", "top-1 error", "top-5 error", "paper top-1", "paper top-5", *judged)


def _error_cells(cell: TableCell, *, judge: bool) -> tuple[str, ...]:
    paper = cell.paper
    cells = [str(len(cell.rows)), _spread(cell.errors()), _spread(cell.errors("top5_error"))]
    cells += ["", ""] if paper is None else [f"{100 * error:.1f}" for error in paper]
    if judge:
        cells += ["", "", ""] if paper is None else _judged(cell, paper)
    return tuple(cells)


def _judged(cell: TableCell, paper: tuple[float, float]) -> list[str]:
    ours = [cell.errors(), cell.errors("top5_error")]
    differences = [statistics.mean(mine) - theirs for mine, theirs in zip(ours, paper, strict=True) if mine]
    # the paper rounds to a tenth of a point
    passes = all(abs(round(difference, 6)) <= _PASS + 0.0005 for difference in differences)
    shown = [f"{100 * difference:+.2f}" for difference in differences]
    return [*shown, *[""] * (2 - len(shown)), "PASS" if passes else "differs"]


def _spread(errors: Sequence[float]) -> str:
    """Mean and standard deviation over the seeds, in per cent."""
    if not errors:
        return "-"
    mean = f"{100 * statistics.mean(errors):.2f}"
    return f"{mean} ± {100 * statistics.stdev(errors):.2f}" if len(errors) > 1 else mean


def _lay_out_trainings(results: TableResults) -> TableLayout:
    """Lays out how far the nets were trained."""
    rows: list[tuple[str, ...]] = [
        (
            net.name,
            net.shown_scale,
            "yes" if end.is_trained_out else "no",
            str(end.num_seeds),
            f"{100 * end.error:.2f}",
            "-" if end.slope is None else f"{100 * end.slope:+.2f}",
            f"{100 * end.held_out:.2f}",
        )
        for net, end in training_ends(results).items()
    ]
    columns = ("net", "S", "trained out", "seeds", "training error", "points an epoch", "held-out error")
    caption = (
        "error on the crops of the last epoch and its change in an epoch over the last fifth of them, beside the error "
        f"on validation images by the central crop; trained out: at most {FITTED:g} of that, and falling by at most "
        f"{100 * STILL:g} points"
    )
    return TableLayout("How far the nets are trained", caption, columns, rows, 3)


def lay_out_claims(claims: Sequence[ClaimResult]) -> list[TableLayout]:
    """Lays out what the results say of the paper's claims, and the parts of those that have several."""
    if not claims:
        return []
    columns = ("the paper's claim", "here", "points", "interval", "power", "seeds")
    caption = (
        "top-1 error of the second less that of the first, in points (of depth: for each weight layer), where a claim "
        "has several parts of the worst; the intervals are for other seeds and other images and hold together with "
        "95%; power is the chance of seeing the paper's own difference"
    )
    parts: list[tuple[str, ...]] = [
        (
            one.claim.name,
            part.part.title,
            f"{100 * part.estimate.difference:+.2f}",
            shown_interval(part.interval),
            ", ".join(f"{100 * value:+.2f}" for value in part.estimate.of_seeds),
        )
        for one in claims
        for part in one.parts
        if len(one.parts) > 1
    ]
    tables = [
        TableLayout("The paper's claims", caption, columns, [_claim_cells(one) for one in claims], 2),
        TableLayout(
            "Parts of the claims",
            "as above; all of a claim must hold, but of depth the trend, with no step surely upwards",
            ("claim", "part", "points", "interval", "each seed"),
            parts,
            2,
        ),
    ]
    return [table for table in tables if table.rows]


def _claim_cells(one: ClaimResult) -> tuple[str, ...]:
    text = f"{one.claim.text} ({one.claim.source})"
    first = f"{text}: {one.reason}" if one.reason else text
    return (
        first,
        one.verdict,
        "-" if one.difference is None else f"{100 * one.difference:+.2f}",
        shown_interval(one.interval),
        "-" if one.power is None else f"{one.power:.0%}",
        str(one.num_seeds or "-"),
    )


def shown_interval(interval: tuple[float, float] | None) -> str:
    """Such as ``-1.20 to +0.30``, in points."""
    return "-" if interval is None else f"{100 * interval[0]:+.2f} to {100 * interval[1]:+.2f}"


def lay_out_plan(claims: Sequence[PlannedClaim]) -> TableLayout:
    """Lays out which claims can be decided."""
    rows: list[tuple[str, ...]] = [
        (
            f"{one.claim.text}: {one.reason}" if one.reason else one.claim.text,
            "can be decided" if one.is_decidable else "untestable here",
            "-" if one.in_paper is None else f"{100 * one.in_paper:+.2f}",
            "-" if one.power is None else f"{one.power:.0%}",
        )
        for one in claims
    ]
    columns = ("the paper's claim", "here", "the paper's points", "power")
    caption = (
        "the chance that so many images and seeds show the paper's own difference, where nets are trained out and vary "
        f"as in results/; below {DECIDABLE:.0%} a claim is untestable"
    )
    return TableLayout("Which claims can be decided", caption, columns, rows, 2)
