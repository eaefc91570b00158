"""What ``verydeep bench`` does with its options: measure, and draw."""

import warnings
from pathlib import Path

from verydeep.bench.contender import Bench, Options
from verydeep.bench.measure import measure
from verydeep.cli.terminal import reporting
from verydeep.errors import UserError
from verydeep.files import atomic_write
from verydeep.report.bars import bars


def run(options: Options) -> Bench:
    """Measures, and shows how far it is.

    Args:
        options: what, and how.

    Raises:
        UserError: the data or the model cannot be used.
    """
    with reporting() as reporter, warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # what libraries plan is of no use to who compares them
        return measure(options, reporter.progress)


def write_figure(found: Bench, file: Path) -> None:
    """Writes the speeds as bars, one group for each case.

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
    return bars(f"verydeep bench --what {found.options.what}", "images/s", groups)
