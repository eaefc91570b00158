"""The speeds as a person reads them in a terminal."""

import sys
from collections.abc import Callable
from typing import Any

from rich.markup import escape
from rich.table import Table

from benchmarks.compare.contender import Bench, Row, Summary, allocator_in_words
from verydeep.cli.output import print_table
from verydeep.files import format_number
from verydeep.machine import environment


def report_progress(what: str, done: int, total: int) -> None:
    """Writes how far the measurement is over the last line of a terminal; elsewhere nothing."""
    if sys.stderr.isatty():
        print(f"\r\033[K{what} {done}/{total}", end="\n" if done == total else "", file=sys.stderr, flush=True)


def print_bench(found: Bench) -> None:
    """Prints a table for each case, what it comes to, and what could not be measured."""
    options, machine = found.options, environment()
    threads = f"{options.threads} thread" + ("s" if options.threads > 1 else "")
    print(f"{machine['processor']}, {machine['cores']} cores, {threads} for all; torch {machine['torch']}")
    print(f"Allocator: {allocator_in_words(options)}. Medians, in brackets the slowest and the fastest round.")
    for precision, peak in found.product_peak_gflops.items():
        print(f"Peak of a matrix product in {precision}: {peak:,.0f} GFLOP/s.")
    for note in found.notes:
        print(f"Note: {note}.")
    for case in found.cases:
        rows = [row for row in found.rows if row.case == case.case]
        print_table(_table(case, rows, in_seconds=options.what in ("predict", "dense") and rows[0].images == 1))
        print(_sentence(case))
    for name, value in found.extra.items():
        print(f"{name.replace('_', ' ').replace('mac ', 'MAC ')}: {format_number(value)}")
    for row in found.rows:
        if row.computed_by is not None:
            print(f"{row.case}: {row.name} computed by {row.computed_by}")
    for missing in found.absent:
        print(f"{missing.name.rstrip(',')}: {missing.reason}")


_COLUMNS: tuple[tuple[str, Callable[[Row], Any], Callable[[Any], str]], ...] = (
    ("of the best peer", lambda row: row.ratio_to_best_peer, lambda value: f"{value:.2f}"),
    ("error", lambda row: row.relative_error, lambda value: f"{value:.1e}"),
    ("difference", lambda row: row.pixel_difference, lambda value: f"{value:.2f}"),
    ("of the peak", lambda row: row.share_of_product_peak, lambda value: f"{100 * value:.0f}%"),
    ("memory", lambda row: row.peak_memory_bytes, lambda value: f"{value / 1e6:,.0f} MB"),
)


def _table(case: Summary, rows: list[Row], *, in_seconds: bool) -> Table:
    table = Table(title=case.case, title_justify="left", title_style="bold")
    table.add_column("", overflow="fold", min_width=24)
    several = any(row.precision != "fp32" for row in rows)
    if several:
        table.add_column("precision")
    table.add_column("seconds" if in_seconds else "images/s", justify="right")
    # what was measured of no row has no column
    columns = [column for column in _COLUMNS if any(column[1](row) is not None for row in rows)]
    for heading, _, _ in columns:
        table.add_column(heading, justify="right")
    for row in sorted(rows, key=lambda row: -row.images_per_second):
        cells = [escape(row.name), *([row.precision] if several else []), _speed(row, in_seconds)]
        for _, value, written in columns:
            cells.append("-" if value(row) is None else written(value(row)))
        table.add_row(*cells, style="bold" if row.is_ours else None)
    return table


def _speed(row: Row, in_seconds: bool) -> str:
    values = [row.images_per_second, row.slowest, row.fastest]
    if in_seconds:
        values = [row.seconds, row.images / row.slowest, row.images / row.fastest]
    middle, slowest, fastest = map(format_number, values)
    return f"{middle} ({slowest} to {fastest})"


def _sentence(case: Summary) -> str:
    if case.best_peer is None:
        return "No peer could be measured."
    return f"{case.ours.rstrip(',')} is {case.ratio_to_best_peer:.2f} times as fast as {case.best_peer}, the best peer."
