"""Tables 8 to 10 for a user's data, beside the paper's.

Paper: appendix A, Tables 8, 9 and 10.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from verydeep.localisation.result import LocalisationResult
from verydeep.nets.architecture import scaled_length
from verydeep.paper.tables import TABLE_8, TABLE_9, TABLE_10
from verydeep.testing.metrics import interval95

Localisers = tuple[tuple[int, tuple[int, ...]], ...]
"""For each localiser its training scale S and test scales Q, pixels; several are fused."""

_LAYERS = {"fc": "first two fully connected", "all": "all"}


@dataclass(frozen=True)
class Figure:
    """An error rate, a fraction, with its interval."""

    error: float
    interval95: tuple[float, float] | None = None  # for other images, and other seeds where there were several

    @staticmethod
    def of(error: float, num_images: int) -> "Figure":
        return Figure(error, interval95(error, num_images))

    @property
    def cells(self) -> list[str]:
        """Of a table, in per cent."""
        if self.interval95 is None:
            return [f"{100 * self.error:.1f}", ""]
        low, high = self.interval95
        return [f"{100 * self.error:.1f}", f"{100 * low:.1f} to {100 * high:.1f}"]


@dataclass(frozen=True)
class Laid:
    """A table, once for terminal and page."""

    caption: str
    columns: list[str]
    rows: list[list[str]]
    first_number: int  # column from which on there are numbers


def table_8(ours: Mapping[tuple[str, str], Figure], data: str) -> Laid:
    """Kinds of localisers: the box of the true class from the central crop; those of the paper and any others of ours.

    Args:
        ours: by the layers that were fine-tuned (``fc`` or ``all``) and the regression (``scr`` or ``pcr``).
        data: name of the data.
    """
    paper = {(row.finetune, row.regression): row.error for row in TABLE_8}
    rows = [
        [_LAYERS[kind[0]], kind[1].upper(), *_cells(ours.get(kind)), _number(paper.get(kind))]
        for kind in dict.fromkeys([*paper, *ours])
    ]
    return Laid(
        "Table 8: error of the box of the true class from the central crop, per cent; of D at S = 384 in the paper",
        ["fine-tuned layers", "boxes", data, "95% interval", "the paper"],
        rows,
        2,
    )


def table_9(ours: Mapping[Localisers, Figure], data: str, *, crop: int, top: int = 5) -> Laid:
    """The full protocol: training scales S and test scales Q, in pixels; the paper's scaled to the crop.

    Args:
        ours: by the scales of the localisers.
        data: name of the data.
        crop: of the localisers, pixels.
        top: answers that count: 5, or 1 where there are fewer than five classes.
    """
    paper = {_scaled(row.localisers, crop): row.val for row in TABLE_9}
    rows = [
        [_name(scales), *_cells(ours.get(scales)), _number(paper.get(scales))]
        for scales in dict.fromkeys([*paper, *ours])
    ]
    return Laid(
        f"Table 9: top-{top} localisation error of the full protocol, per cent; in the paper top-5 on ILSVRC, val",
        ["localisers (S/Q)", data, "95% interval", "the paper"],
        rows,
        1,
    )


def table_10(ours: Mapping[str, Figure], data: str, *, top: int = 5) -> Laid:
    """The comparison of methods: ours on the user's data, those of the paper on ILSVRC."""
    rows = [[name, *figure.cells, "", ""] for name, figure in ours.items()]
    rows += [[row.method, "", "", _number(row.val), _number(row.test)] for row in TABLE_10]
    return Laid(
        f"Table 10: top-{top} localisation error, per cent; in the paper top-5 on ILSVRC",
        ["method", data, "95% interval", "the paper, val", "the paper, test"],
        rows,
        1,
    )


def tables_of(
    data: str,
    crop: int,
    centre: Mapping[tuple[str, str], LocalisationResult],
    full: Mapping[Localisers, LocalisationResult],
) -> list[Laid]:
    """The tables of results on one set of images; Table 10 has the best of Table 9."""
    tables = [table_8({kind: Figure.of(one.localisation_error, len(one.labels)) for kind, one in centre.items()}, data)]
    if full:
        figures, top = {}, 5
        for scales, one in full.items():
            error = one.top5_localisation_error
            if error is None:
                error, top = one.top1_localisation_error, 1
            assert error is not None
            figures[scales] = Figure.of(error, len(one.labels))
        best = min(figures.values(), key=lambda figure: figure.error)
        tables += [table_9(figures, data, crop=crop, top=top), table_10({"this page": best}, data, top=top)]
    return tables


def _scaled(localisers: Localisers, crop: int) -> Localisers:
    return tuple(
        (scaled_length(scale, crop), tuple(scaled_length(one, crop) for one in scales)) for scale, scales in localisers
    )


def _name(localisers: Localisers) -> str:
    return "; ".join(f"{scale}/{','.join(map(str, scales))}" for scale, scales in localisers)


def _number(per_cent: float | None) -> str:
    return "-" if per_cent is None else f"{per_cent:.1f}"


def _cells(figure: Figure | None) -> list[str]:
    return ["-", ""] if figure is None else figure.cells
