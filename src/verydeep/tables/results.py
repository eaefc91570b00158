"""The results of the tables as JSON lines: everything that they are drawn from."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from verydeep.errors import UserError
from verydeep.files import atomic_write, read_lines
from verydeep.tables.claims import ClaimResult, check_claims
from verydeep.tables.rows import Setting, TableNet, TableRow, read_row, settings_of

RESULTS_FILE = "results.jsonl"
"""Name of the results in the folder of the tables."""


@dataclass(frozen=True, kw_only=True)
class Results:
    """What the tables are drawn from.

    Attributes:
        about: the data, the recipe, the machine, the command.
        trainings: of each net trained: its net, its seed, the time it took and the lines of its log.
        rows: the tests.
    """

    about: dict[str, Any]
    trainings: list[dict[str, Any]] = field(default_factory=list, repr=False)
    rows: list[TableRow] = field(default_factory=list, repr=False)

    @property
    def settings(self) -> list[Setting]:
        """The rows, gathered over the seeds."""
        return settings_of(self.rows)

    def row(self, nets: Iterable[TableNet], seed: int, protocol: str) -> TableRow | None:
        """The row of a test, where it is done."""
        key = (tuple(nets), seed, protocol)
        return next((row for row in self.rows if (row.nets, row.seed, row.protocol) == key), None)

    def claims(self) -> list[ClaimResult]:
        """The paper's claims, tested on the rows."""
        return check_claims(self.settings)


def write_results(results: Results, file: Path) -> None:
    """Writes the results, whole or not at all: one line about them, then the trainings, then the tests."""
    lines = [
        {"kind": "about", **results.about},
        *({"kind": "training", **training} for training in results.trainings),
        *({"kind": "row", **row.as_record()} for row in results.rows),
    ]
    with atomic_write(file) as temporary:
        temporary.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")


def read_results(source: str | Path) -> Results:
    """Reads results.

    Args:
        source: the file, or the folder that holds it.

    Raises:
        UserError: there are none, or they cannot be read.
    """
    file = Path(source)
    if file.is_dir():
        file = file / RESULTS_FILE
    try:
        lines = read_lines(file)
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is no text"
        raise UserError(f"--from {file} cannot be read: {reason}: give the results of verydeep tables") from error
    kinds = {kind: _of_kind(lines, kind) for kind in ("about", "training", "row")}
    if not kinds["about"] or not kinds["row"]:
        raise UserError(f"--from {file} holds no results of verydeep tables")
    try:
        rows = [read_row(line) for line in kinds["row"]]
    except UserError as error:
        raise UserError(f"--from {file}: {error}") from error
    check_one_set(rows, str(file))
    return Results(about=kinds["about"][0], trainings=kinds["training"], rows=rows)


def _of_kind(lines: Sequence[Any], kind: str) -> list[dict[str, Any]]:
    return [
        {key: value for key, value in line.items() if key != "kind"}
        for line in lines
        if isinstance(line, dict) and line.get("kind") == kind
    ]


def check_one_set(rows: Sequence[TableRow], where: str) -> None:
    """Checks that all rows are of the same images.

    Raises:
        UserError: they are not.
    """
    sets = {(row.record["data"], row.record["split"], row.record["num_images"]) for row in rows}
    if len(sets) > 1:
        shown = " and ".join(f"{data} {split} ({count} images)" for data, split, count in sorted(sets)[:2])
        raise UserError(f"{where} mixes tests of {shown}: draw the tables of each by themselves")
