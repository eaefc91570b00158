"""The rows of the tables: one test of a net, or of several fused, with which images it got wrong."""

import base64
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from jaxtyping import Bool
from numpy import ndarray
from pydantic import BaseModel, ConfigDict, ValidationError

from verydeep.errors import UserError
from verydeep.nets.architecture import ARCHITECTURES
from verydeep.paper import tables as paper_tables
from verydeep.paper.tables import Scales
from verydeep.testing.metrics import wrong
from verydeep.testing.result import Result

_PAPER_SCALES = (paper_tables.FIXED_256, paper_tables.FIXED_384, paper_tables.JITTERED)


class TableNet(BaseModel):
    """A net of the tables, whatever seed it was trained with.

    Attributes:
        name: what a person calls it: its architecture, or the model that was given.
        architecture: the paper's name.
        batch_norm: whether a batch norm follows each convolution.
        crop: side of the training crop, pixels.
        train_scale: smallest and largest S, pixels.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    architecture: str
    batch_norm: bool
    crop: int
    train_scale: tuple[int, int]

    @property
    def is_jittered(self) -> bool:
        """Whether it was trained with scale jitter."""
        return self.train_scale[0] < self.train_scale[1]

    @property
    def shown_scale(self) -> str:
        """S as the paper writes it: ``256`` or ``[256;512]``."""
        low, high = self.train_scale
        return f"[{low};{high}]" if self.is_jittered else str(low)

    @property
    def title(self) -> str:
        """Such as ``D, S = [256;512]``."""
        return f"{self.name}, S = {self.shown_scale}"

    @property
    def order(self) -> tuple[int, tuple[int, int], str]:
        """Sorts nets as the paper does: by column of Table 1, fixed scales before jitter."""
        return list(ARCHITECTURES).index(self.architecture), self.train_scale[::-1], self.name

    @property
    def paper_scale(self) -> Scales | None:
        """The paper's training scale that this one is, scaled by crop/224; None where it is none."""
        for scales in _PAPER_SCALES:
            scaled = [scale * self.crop / paper_tables.CROP for scale in scales]
            if all(abs(ours - theirs) <= 1 for ours, theirs in zip(self.train_scale, scaled, strict=True)):
                return scales
        return None


@dataclass(frozen=True, kw_only=True)
class TableRow:
    """One test.

    Attributes:
        nets: what was tested; several where they are fused.
        seed: that the nets were trained with.
        record: the figures, with the keys of ``evaluate``.
        wrong: which images it got wrong.
    """

    nets: tuple[TableNet, ...]
    seed: int
    record: dict[str, Any]
    wrong: Bool[ndarray, "n"] = field(repr=False)

    @property
    def protocol(self) -> str:
        """Name of the protocol."""
        return str(self.record["protocol"])

    def as_record(self) -> dict[str, Any]:
        """The row as a line of JSON; the images it got wrong as bits."""
        scales = [list(net.train_scale) for net in self.nets]
        return {
            **self.record,
            "train_scale": scales[0] if len(scales) == 1 else scales,
            "seed": self.seed,
            "nets": [net.model_dump() for net in self.nets],
            "wrong": base64.b64encode(np.packbits(self.wrong).tobytes()).decode("ascii"),
        }


def row_of(result: Result, nets: Sequence[TableNet], seed: int) -> TableRow:
    """Makes the row of a test."""
    return TableRow(
        nets=tuple(nets), seed=seed, record=result.as_record(), wrong=wrong(result.posteriors, result.labels)
    )


def read_row(record: dict[str, Any]) -> TableRow:
    """Reads a row from its line.

    Raises:
        UserError: it is none.
    """
    fields = dict(record)
    try:
        nets = tuple(TableNet.model_validate(net) for net in fields.pop("nets"))
        bits = np.frombuffer(base64.b64decode(fields.pop("wrong"), validate=True), dtype=np.uint8)
        is_wrong = np.unpackbits(bits, count=fields["num_images"]).astype(bool)
        return TableRow(nets=nets, seed=fields.pop("seed"), record=fields, wrong=is_wrong)
    except (KeyError, TypeError, ValueError, ValidationError) as error:
        raise UserError(f"a row of the results cannot be read: {error}") from error


@dataclass(frozen=True, kw_only=True)
class Setting:
    """The rows of one way of testing one net, or several fused: one for each seed.

    Attributes:
        nets: what was tested.
        protocol: how.
        rows: by seed.
    """

    nets: tuple[TableNet, ...]
    protocol: str
    rows: tuple[TableRow, ...]

    @property
    def title(self) -> str:
        """Such as ``D, S = 256, multi-scale``."""
        return f"{' + '.join(net.title for net in self.nets)}, {self.protocol}"

    @property
    def test_scales(self) -> tuple[int, ...]:
        """Test scales Q, pixels."""
        return tuple(self.rows[0].record["test_scales"])

    @property
    def seeds(self) -> list[int]:
        """The seeds there are."""
        return [row.seed for row in self.rows]

    def errors(self, key: str = "top1_error") -> list[float]:
        """The errors of the seeds, as fractions; empty where there are none, as with fewer than five classes."""
        values = [row.record[key] for row in self.rows]
        return [] if None in values else values

    def wrong(self, seeds: Iterable[int] | None = None) -> Bool[ndarray, "s n"]:
        """Which images each seed got wrong.

        Args:
            seeds: which; by default all.
        """
        wanted = self.seeds if seeds is None else list(seeds)
        by_seed = {row.seed: row.wrong for row in self.rows}
        return np.stack([by_seed[seed] for seed in wanted])

    @property
    def paper(self) -> tuple[float, float] | None:
        """The paper's top-1 and top-5 error of this cell, fractions; None where it has none."""
        if len(self.nets) > 1:
            known = [(net.architecture, net.paper_scale) for net in self.nets if net.paper_scale]
            fused = paper_tables.fusion_row(known, self.protocol) if len(known) == len(self.nets) else None
            return None if fused is None else (round(fused.top1 / 100, 4), round(fused.top5 / 100, 4))
        (net,) = self.nets
        row = paper_tables.paper_row(net.architecture, net.train_scale, self.protocol, self.test_scales, crop=net.crop)
        return None if row is None else (row.top1_error, row.top5_error)


def settings_of(rows: Iterable[TableRow]) -> list[Setting]:
    """Gathers rows into settings, in the paper's order; the rows of each by seed."""
    groups: dict[tuple[tuple[TableNet, ...], str], list[TableRow]] = {}
    for row in rows:
        groups.setdefault((row.nets, row.protocol), []).append(row)
    settings = [
        Setting(nets=nets, protocol=protocol, rows=tuple(sorted(group, key=lambda row: row.seed)))
        for (nets, protocol), group in groups.items()
    ]
    return sorted(settings, key=lambda setting: (len(setting.nets), [net.order for net in setting.nets]))
