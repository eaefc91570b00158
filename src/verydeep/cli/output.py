"""What all verbs print with: tables and JSON on standard output, notes and progress on standard error."""

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table

from verydeep.files import format_bytes

if TYPE_CHECKING:
    from verydeep.training.state import Callback


def print_json(record: dict[str, Any]) -> None:
    """Prints a record; NaN and infinity, which JSON has not, are an error."""
    print(json.dumps(record, indent=2, allow_nan=False))


def print_table(table: Table) -> None:
    """Prints a table as wide as the terminal; elsewhere no line is broken at its edge."""
    terminal = sys.stdout.isatty()
    Console(width=None if terminal else 120, soft_wrap=not terminal).print(table)


def percent(fraction: float | None) -> str:
    """Writes an error rate for a person; a dash where there is none."""
    return "-" if fraction is None else f"{100 * fraction:.2f}%"


def is_first_process() -> bool:
    """Whether this process prints: the only one, or the first of several."""
    from verydeep.distributed import launched  # which imports torch

    return launched().is_first


@contextmanager
def reporting() -> Iterator["Callback"]:
    """Gives what reports progress on standard error; the first of several processes reports for all."""
    from verydeep.cli.progress import ProgressBar  # which imports torch
    from verydeep.training.state import Callback

    if not is_first_process():
        yield Callback()
        return
    bar = ProgressBar()
    try:
        yield bar
    finally:
        bar.close()


def fetch_models(*models: str | None) -> None:
    """Fetches those of the models that are published names and not here yet; files and folders come first."""
    from verydeep.weights.published import find_published

    for model in filter(None, models):
        row = None if Path(model).exists() else find_published(model)
        if row is not None and not row.is_here:
            fetch_published(row.name)


def fetch_published(name: str, accept_hash: str | None = None) -> None:
    """Fetches published weights and shows how far that is.

    Raises:
        UserError: they cannot be had.
        UsageError: an unknown name.
    """
    from verydeep.weights.published import known_weights

    row = known_weights(name)
    if row.is_here and accept_hash is None:
        return
    from verydeep.weights.resolve import fetch_weights  # which imports torch

    with reporting() as reporter:
        if not row.is_here:
            reporter.note(
                f"{row.name} is fetched from {row.publisher} ({format_bytes(row.size)}); licence: {row.licence}"
            )
        file = fetch_weights(row.name, accept_hash=accept_hash, progress=reporter.progress)
        reporter.note(f"{row.name} is in {file}")
