"""Whether nets are trained out: how far their training error came, and whether it still fell at the end.

A net is trained out where its training error, on the crops and with the dropout of the last epoch, lies a tenth below
its error on images held out, by the central crop, and fell by no more than half a point an epoch over the last fifth of
the epochs. The slope alone proves little, since a learning rate that falls to zero flattens every curve. The images are
those of validation: which nets are compared must not depend on the errors that are compared. Where the log of a
training is not there, they are those of the test.

Paper: section 3.1.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import mean
from typing import Any

from verydeep.tables.grid import TableNet
from verydeep.tables.rows import ResultRow, TableCell, TableResults, training_figures

FITTED = 0.9
"""A net that is trained out has at most this share of its error on images held out on its training images."""

STILL = 0.005
"""Its training error falls by no more than this in an epoch, a fraction."""


@dataclass(frozen=True, kw_only=True)
class TrainingEnd:
    """How far the trainings of a net came, the mean over its seeds.

    Attributes:
        error: on the crops of the last epoch, a fraction.
        slope: its change in an epoch over the last fifth of them, a fraction; None after a single epoch.
        held_out: error on validation images by the central crop, a fraction.
        num_seeds: trainings.
    """

    error: float
    slope: float | None
    held_out: float
    num_seeds: int

    @property
    def is_trained_out(self) -> bool:
        return self.error <= FITTED * self.held_out and self.slope is not None and self.slope >= -STILL


def training_ends(results: TableResults) -> dict[TableNet, TrainingEnd]:
    """How far each net was trained, where the rows or the logs of the trainings say it."""
    tests: dict[TableNet, list[TableCell]] = {}
    for cell in results.cells:
        if len(cell.nets) == 1:
            tests.setdefault(cell.nets[0], []).append(cell)
    found = {}
    for net, cells in tests.items():
        middle = sum(net.train_scale) // 2
        tested = min(cells, key=lambda cell: (cell.protocol != "centre", abs(cell.test_scales[0] - middle)))
        ends = [_end(row, results.log(net, row.seed)) for row in tested.rows]
        known = [end for end in ends if end is not None]
        if known:
            slopes = [end.slope for end in known if end.slope is not None]
            found[net] = TrainingEnd(
                error=mean(end.error for end in known),
                slope=mean(slopes) if slopes else None,
                held_out=mean(end.held_out for end in known),
                num_seeds=len(known),
            )
    return found


def _end(row: ResultRow, log: Sequence[Mapping[str, Any]]) -> TrainingEnd | None:
    """How far one training came: what the row says, else the log."""
    figures = training_figures(log) | row.record
    if "training_error" not in figures:
        return None
    return TrainingEnd(
        error=figures["training_error"],
        slope=figures.get("training_error_slope"),
        held_out=figures.get("validation_error", float(row.wrong.mean())),
        num_seeds=1,
    )
