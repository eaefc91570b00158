"""Printing on a terminal what strangers have named: files, classes and data cannot steer it."""

import builtins
from typing import TextIO

from rich.table import Table

from verydeep.errors import printable


def print(*values: object, file: TextIO | None = None) -> None:
    """Prints like the built-in, with control characters replaced."""
    builtins.print(*(printable(str(value)) for value in values), file=file)


def make_printable(table: Table) -> Table:
    """Replaces the control characters in the texts of a table."""
    for text in ("title", "caption"):
        if isinstance(given := getattr(table, text), str):
            setattr(table, text, printable(given))
    for column in table.columns:
        column._cells[:] = [printable(cell) if isinstance(cell, str) else cell for cell in column._cells]
        if isinstance(column.header, str):
            column.header = printable(column.header)
    return table
