"""The speeds as a drawing: bars, one group for each case."""

from pathlib import Path

from benchmarks.compare.bars import bars
from benchmarks.compare.contender import Bench
from verydeep.errors import UserError
from verydeep.files import atomic_write


def write_figure(found: Bench, file: Path) -> None:
    """Writes the speeds as bars.

    Raises:
        UserError: the file cannot be written.
    """
    try:
        with atomic_write(file) as temporary:
            temporary.write_text(figure(found), encoding="utf-8")
    except OSError as error:
        raise UserError(f"--out {file} cannot be written: {error.strerror or error}") from error


def figure(found: Bench) -> str:
    """Draws the speeds as bars, one group for each case, as a file of its own."""
    groups = {
        case.case: [
            (row.name, row.images_per_second, (row.slowest, row.fastest), row.is_ours)
            for row in sorted(found.rows, key=lambda row: -row.images_per_second)
            if row.case == case.case and row.compared
        ]
        for case in found.cases
    }
    return bars(f"python -m benchmarks {found.options.what}", "images/s", groups)
