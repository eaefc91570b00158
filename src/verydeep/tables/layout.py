"""The paper's Tables 3 to 6 for other data and its claims, laid out once for the terminal and for pages.

Paper: Tables 3 to 6.
"""

import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from verydeep.tables.claims import ClaimResult
from verydeep.tables.grid import DENSE_AND_CROPS, TableNet
from verydeep.tables.rows import TableCell, TableResults

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


def lay_out_claims(claims: Sequence[ClaimResult]) -> TableLayout:
    """Lays out what the results say of the paper's claims."""
    rows: list[tuple[str, ...]] = [
        (
            f"{one.claim.text} ({one.claim.source})",
            one.verdict,
            f"{100 * one.difference.difference:+.2f}",
            f"{100 * one.difference.interval95[0]:+.2f} to {100 * one.difference.interval95[1]:+.2f}",
            f"{one.corrected_p_value:.2g}",
            str(len(one.pairs)),
            str(one.difference.num_seeds),
        )
        for one in claims
    ]
    columns = ("the paper's claim", "here", "points", "95% interval", "p", "pairs", "seeds")
    caption = (
        "top-1 error of the second less that of the first, in points, mean over the pairs; the interval is for other "
        f"seeds and other images; p is corrected for the {len(claims)} claims; one seed decides nothing about nets"
    )
    return TableLayout("The paper's claims", caption, columns, rows, 2)
