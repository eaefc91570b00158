"""The paper's Tables 3 to 6 for other data, laid out once for the terminal and for the report.

Paper: Tables 3 to 6.
"""

import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from verydeep.tables.claims import ClaimResult
from verydeep.tables.grid import BOTH
from verydeep.tables.results import Results
from verydeep.tables.rows import Setting

_PASS = 0.001
"""Largest difference to the paper's error that counts as the same, a fraction."""

_METHODS = {"multi-scale": "dense", "multi-crop": "multi-crop", BOTH: "multi-crop & dense"}
"""How Tables 5 and 6 of the paper name the protocols."""


@dataclass(frozen=True)
class LaidTable:
    """A table to be shown.

    Attributes:
        title: such as ``Table 3``.
        caption: what it shows.
        columns: headings.
        rows: the cells.
        first_number: index of the first column of numbers.
    """

    title: str
    caption: str
    columns: tuple[str, ...]
    rows: list[tuple[str, ...]]
    first_number: int


def lay_out(results: Results) -> list[LaidTable]:
    """Lays out the tables that there are rows for."""
    single = [one for one in results.settings if len(one.nets) == 1]
    fused = [one for one in results.settings if len(one.nets) > 1]
    judge = results.about.get("data") == "imagenet" and bool(results.about.get("models"))
    errors = _error_columns(judge=judge)

    def row(setting: Setting, *first: str) -> tuple[str, ...]:
        return (*first, *_error_cells(setting, judge=judge))

    def by(protocol: str) -> list[tuple[str, ...]]:
        return [
            row(one, one.nets[0].name, one.nets[0].shown_scale, _shown(one.test_scales))
            for one in single
            if one.protocol == protocol
        ]

    with_crops = {one.nets for one in single if one.protocol == "multi-crop"}
    methods = [
        row(one, one.nets[0].name, one.nets[0].shown_scale, _shown(one.test_scales), _METHODS[one.protocol])
        for nets in dict.fromkeys(one.nets for one in single if one.nets in with_crops)
        for protocol in _METHODS
        for one in single
        if one.nets == nets and one.protocol == protocol
    ]
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
        LaidTable("Table 3", "one test scale, dense (section 4.1)", (*net_columns, *errors), by("single"), 3),
        LaidTable("Table 4", "several test scales, dense (section 4.2)", (*net_columns, *errors), by("multi-scale"), 3),
        LaidTable("Table 5", "dense and many crops (section 4.3)", (*net_columns, "method", *errors), methods, 4),
        LaidTable("Table 6", "several nets fused (section 4.4)", ("nets / S", "Q", "method", *errors), groups, 3),
        LaidTable("The central crop", "one crop at one scale (section 4.1)", (*net_columns, *errors), by("centre"), 3),
    ]
    return [table for table in tables if table.rows]


def _shown(scales: Iterable[int]) -> str:
    return ",".join(map(str, scales))


def _error_columns(*, judge: bool) -> tuple[str, ...]:
    judged = ("top-1 less paper", "top-5 less paper", "verdict") if judge else ()
    return ("seeds", "top-1 error", "top-5 error", "paper top-1", "paper top-5", *judged)


def _error_cells(setting: Setting, *, judge: bool) -> tuple[str, ...]:
    paper = setting.paper
    cells = [str(len(setting.rows)), _spread(setting.errors()), _spread(setting.errors("top5_error"))]
    cells += ["", ""] if paper is None else [f"{100 * error:.1f}" for error in paper]
    if judge:
        cells += ["", "", ""] if paper is None else _judged(setting, paper)
    return tuple(cells)


def _judged(setting: Setting, paper: tuple[float, float]) -> list[str]:
    ours = [setting.errors(), setting.errors("top5_error")]
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


def lay_out_claims(claims: Sequence[ClaimResult]) -> LaidTable:
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
    return LaidTable("The paper's claims", caption, columns, rows, 2)
