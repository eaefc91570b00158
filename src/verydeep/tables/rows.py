"""The rows of the tables: tests of nets as JSON lines, and gathered over seeds into the cells of the tables."""

import base64
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool
from numpy import ndarray
from pydantic import TypeAdapter, ValidationError

from verydeep.errors import UserError
from verydeep.files import atomic_write, read_lines
from verydeep.paper import tables as paper_tables
from verydeep.paper.constants import TOTAL_STRIDE
from verydeep.tables.grid import TableNet
from verydeep.testing.metrics import wrong
from verydeep.testing.protocols import PROTOCOLS
from verydeep.testing.result import Result
from verydeep.training.run_folder import check_same_options

RESULTS_FILE = "results.jsonl"
"""Name of the results in the folder of the tables."""

_NETS = TypeAdapter(tuple[TableNet, ...])


def read_net(record: dict[str, Any]) -> TableNet:
    """Reads a net of a training or a row."""
    return _NETS.validate_python([record])[0]


@dataclass(frozen=True, kw_only=True)
class ResultRow:
    """One test of one seed: a line of results.jsonl.

    Attributes:
        nets: what was tested; several where they are fused.
        seed: that the nets were trained with.
        record: the figures, with the keys of ``evaluate``. Of one net, where they are known: ``training_error``, a
            fraction, of the last epoch's crops; ``training_error_slope``, its change per epoch at the end; and lists,
            one figure for each test scale, the mean over the images: ``map_positions`` of the score map, ``share_seen``
            of a rescaled image by the net.
        wrong: which images it got wrong.
    """

    nets: tuple[TableNet, ...]
    seed: int
    record: dict[str, Any]
    wrong: Bool[ndarray, "n"] = field(repr=False)

    @property
    def protocol(self) -> str:
        return str(self.record["protocol"])

    @property
    def test_scales(self) -> tuple[int, ...]:
        """Q, pixels."""
        return tuple(self.record["test_scales"])

    def as_record(self) -> dict[str, Any]:
        """The row as a line of JSON; the images it got wrong as bits."""
        scales = [list(net.train_scale) for net in self.nets]
        return {
            **self.record,
            "train_scale": scales[0] if len(scales) == 1 else scales,
            "seed": self.seed,
            "nets": [net.as_record() for net in self.nets],
            "wrong": base64.b64encode(np.packbits(self.wrong).tobytes()).decode("ascii"),
        }


def row_of(result: Result, nets: Sequence[TableNet], seed: int, log: Sequence[dict[str, Any]] = ()) -> ResultRow:
    """Makes the row of a test; ``log`` is that of the training of one net."""
    record, is_wrong = result.as_record(), wrong(result.posteriors, result.labels)
    if len(result.members) == 1 and (member := result.members[0]).map_positions:
        record |= {"map_positions": list(member.map_positions), "share_seen": list(member.share_seen)}
    return ResultRow(nets=tuple(nets), seed=seed, record=record | training_figures(log), wrong=is_wrong)


def training_figures(log: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """Training and validation error of the last epoch; the change of the former per epoch over their last fifth.

    A straight line by least squares through two epochs at least; without them there is no slope.
    """
    errors = [line["train_error"] for line in log if "train_error" in line]
    if not errors:
        return {}
    last = errors[-max(2, math.ceil(len(errors) / 5)) :]
    middle, mean = (len(last) - 1) / 2, sum(last) / len(last)
    spread = sum((epoch - middle) ** 2 for epoch in range(len(last)))
    slope = sum((epoch - middle) * (error - mean) for epoch, error in enumerate(last))
    figures = {"training_error": errors[-1]}
    if (validation := log[-1].get("val_top1_error")) is not None:
        figures["validation_error"] = validation
    return figures | ({"training_error_slope": slope / spread} if spread else {})


def read_row(record: dict[str, Any]) -> ResultRow:
    """Reads a row from its line.

    Raises:
        UserError: it is none.
    """
    fields = dict(record)
    try:
        nets = _NETS.validate_python(fields.pop("nets"))
        bits = np.frombuffer(base64.b64decode(fields.pop("wrong"), validate=True), dtype=np.uint8)
        is_wrong = np.unpackbits(bits, count=fields["num_images"]).astype(bool)
        return ResultRow(nets=nets, seed=fields.pop("seed"), record=fields, wrong=is_wrong)
    except (KeyError, TypeError, ValueError, ValidationError) as error:
        raise UserError(f"a row of the results cannot be read: {error}") from error


@dataclass(frozen=True, kw_only=True)
class TableCell:
    """One net, or several fused, tested by one protocol: a row for each seed."""

    nets: tuple[TableNet, ...]
    protocol: str
    rows: tuple[ResultRow, ...]

    @property
    def title(self) -> str:
        """Such as ``D, S = 256, multi-scale``."""
        return f"{' + '.join(net.title for net in self.nets)}, {self.protocol}"

    @property
    def test_scales(self) -> tuple[int, ...]:
        return self.rows[0].test_scales

    @property
    def seeds(self) -> list[int]:
        return [row.seed for row in self.rows]

    def errors(self, key: str = "top1_error") -> list[float]:
        """The errors of the seeds, as fractions; empty where there are none, as with fewer than five classes."""
        values = [row.record[key] for row in self.rows]
        return [] if None in values else values

    def wrong(self, seeds: Iterable[int] | None = None) -> Bool[ndarray, "s n"]:
        """Which images each of some seeds got wrong; by default of all."""
        by_seed = {row.seed: row.wrong for row in self.rows}
        return np.stack([by_seed[seed] for seed in (self.seeds if seeds is None else seeds)])

    @property
    def paper(self) -> tuple[float, float] | None:
        """The paper's top-1 and top-5 error of this cell, fractions; None where it has none."""
        if len(self.nets) > 1:
            known = [(net.architecture, net.paper_scale) for net in self.nets if net.paper_scale]
            fused = paper_tables.fusion_row(known, self.protocol) if len(known) == len(self.nets) else None
            return None if fused is None else (round(fused.top1 / 100, 4), round(fused.top5 / 100, 4))
        (net,) = self.nets
        if net.is_control:
            return None
        row = paper_tables.paper_row(net.architecture, net.train_scale, self.protocol, self.test_scales, crop=net.crop)
        return None if row is None else (row.top1_error, row.top5_error)


def gather_cells(rows: Iterable[ResultRow]) -> list[TableCell]:
    """Gathers rows over the seeds, in the paper's order; each protocol at other test scales is another cell."""
    groups: dict[tuple[tuple[TableNet, ...], str, tuple[int, ...]], list[ResultRow]] = {}
    for row in rows:
        groups.setdefault((row.nets, row.protocol, row.test_scales), []).append(row)
    cells = [
        TableCell(nets=nets, protocol=protocol, rows=tuple(sorted(group, key=lambda row: row.seed)))
        for (nets, protocol, _), group in groups.items()
    ]

    def order(cell: TableCell) -> tuple[Any, ...]:
        place = list(PROTOCOLS).index(cell.protocol) if cell.protocol in PROTOCOLS else len(PROTOCOLS)
        return len(cell.nets), [net.order for net in cell.nets], place, len(cell.test_scales), cell.test_scales

    return sorted(cells, key=order)


@dataclass(frozen=True, kw_only=True)
class TableResults:
    """Everything that the tables are drawn from.

    Attributes:
        about: the data, the recipe, the machine, the command.
        trainings: of each net trained: its net, its seed, the time it took and the lines of its log.
        rows: the tests.
    """

    about: dict[str, Any]
    trainings: list[dict[str, Any]] = field(default_factory=list, repr=False)
    rows: list[ResultRow] = field(default_factory=list, repr=False)

    @property
    def cells(self) -> list[TableCell]:
        """The rows, gathered over the seeds."""
        return gather_cells(self.rows)

    @property
    def remarks(self) -> list[str]:
        """What a reader of the tables should know; also how much of an image dense testing saw, where that is known."""
        return [*self.about.get("remarks", ()), *_seen_by_dense(self.rows)]

    def has(self, nets: Iterable[TableNet], seed: int, protocol: str, test_scales: Iterable[int]) -> bool:
        """Whether a test is done."""
        wanted = (tuple(nets), seed, protocol, tuple(test_scales))
        return any((row.nets, row.seed, row.protocol, row.test_scales) == wanted for row in self.rows)

    def log(self, net: TableNet, seed: int) -> list[dict[str, Any]]:
        """The log of a training; empty where it is not known."""
        wanted = (net.as_record(), seed)
        found = (one for one in self.trainings if (read_net(one["net"]).as_record(), one["seed"]) == wanted)
        return next((one["log"] for one in found), [])


def _seen_by_dense(rows: Iterable[ResultRow]) -> list[str]:
    shares = {
        scale: share
        for row in rows
        if row.protocol in ("single", "multi-scale")
        for scale, share in zip(row.test_scales, row.record.get("share_seen", ()), strict=False)
    }
    if not shares:
        return []
    shown = ", ".join(f"{100 * share:.0f}% at Q = {scale}" for scale, share in sorted(shares.items()))
    trims = any(scale % TOTAL_STRIDE for scale in shares)
    remedy = "; --test-scales of multiples of 32 leave the shorter side whole" if trims else ""
    return [f"of an image dense testing sees {shown}, on average: sides are trimmed to multiples of 32{remedy}"]


def begin_results(file: Path, about: dict[str, Any], alike: dict[str, Any]) -> TableResults:
    """Begins results, or takes those that are there; ``alike`` is the part of ``about`` that must be the same.

    Raises:
        UserError: they cannot be read.
        UsageError: they began with other options.
    """
    if not file.exists():
        return TableResults(about=about)
    before = read_results(file)
    check_same_options(f"the results in {file}", before.about, alike)
    return replace(before, about=about | {name: before.about[name] for name in ("began", "seconds", "remarks")})


def write_results(results: TableResults, file: Path) -> None:
    """Writes the results, whole or not at all: one line about them, then the trainings, then the tests."""
    lines = [
        {"kind": "about", **results.about},
        *({"kind": "training", **training} for training in results.trainings),
        *({"kind": "row", **row.as_record()} for row in results.rows),
    ]
    with atomic_write(file) as temporary:
        temporary.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")


def read_results(source: str | Path) -> TableResults:
    """Reads results from their file, or the folder that holds it.

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
    about, trainings, records = (_of_kind(lines, kind) for kind in ("about", "training", "row"))
    if not about or not records:
        raise UserError(f"--from {file} holds no results of verydeep tables")
    try:
        rows = [read_row(record) for record in records]
    except UserError as error:
        raise UserError(f"--from {file}: {error}") from error
    _check_one_set(rows, file)
    results = TableResults(about=about[0], trainings=trainings, rows=rows)
    return replace(results, rows=[_with_training(row, results) for row in rows])


def _with_training(row: ResultRow, results: TableResults) -> ResultRow:
    """Adds what version 0.1 left out of the row of one net, where its log is there."""
    if len(row.nets) > 1 or "training_error" in row.record:
        return row
    return replace(row, record=row.record | training_figures(results.log(row.nets[0], row.seed)))


def _of_kind(lines: Sequence[Any], kind: str) -> list[dict[str, Any]]:
    found = (line for line in lines if isinstance(line, dict) and line.get("kind") == kind)
    return [{key: value for key, value in line.items() if key != "kind"} for line in found]


def _check_one_set(rows: Sequence[ResultRow], file: Path) -> None:
    sets = {(row.record["data"], row.record["split"], row.record["num_images"]) for row in rows}
    if len(sets) > 1:
        shown = " and ".join(f"{data} {split} ({count} images)" for data, split, count in sorted(sets)[:2])
        raise UserError(f"{file} mixes tests of {shown}: draw the tables of each by themselves")
