"""The paper's tables as they stand on a page, written from the rows of the package."""

from collections.abc import Callable, Iterable, Sequence

from verydeep.paper import constants
from verydeep.paper.tables import (
    TABLE_3,
    TABLE_4,
    TABLE_5,
    TABLE_6,
    TABLE_7,
    TABLE_8,
    TABLE_9,
    TABLE_10,
    TABLE_11,
    TABLE_12,
    ErrorRow,
    MeasuredNet,
    Score,
)

Table = tuple[Sequence[str], Iterable[Sequence[str]]]
"""The head, and the rows."""


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.1f}"


def _train_scale(bounds: tuple[int, int]) -> str:
    low, high = bounds
    return str(low) if low == high else f"[{low}; {high}]"


def _list(scales: Iterable[int]) -> str:
    return ", ".join(map(str, scales))


def _table_2() -> Table:
    return ["net", "parameters, millions"], [
        [name, str(count)] for name, count in constants.PARAMETERS_IN_MILLIONS.items()
    ]


def _errors(table: Sequence[ErrorRow]) -> Table:
    rows = [
        [
            row.architecture,
            _train_scale(row.train_scale),
            _list(row.test_scales),
            f"`{row.protocol}`",
            _number(row.top1),
            _number(row.top5),
        ]
        for row in table
    ]
    return ["net", "S", "Q", "protocol", "top-1 error, %", "top-5 error, %"], rows


def _net(net: MeasuredNet) -> str:
    return f"{net.architecture}/{_train_scale(net.train_scale)}/{_list(net.test_scales)}"


def _table_6() -> Table:
    rows = [
        ["; ".join(map(_net, row.models)), f"`{row.protocol}`", *map(_number, (row.top1, row.top5, row.test_top5))]
        for row in TABLE_6
    ]
    return ["nets (net/S/Q)", "protocol", "top-1 val, %", "top-5 val, %", "top-5 test, %"], rows


def _table_7() -> Table:
    rows = [
        [
            row.method,
            str(row.num_nets or "several"),
            f"`{row.protocol}`" if row.protocol else "",
            *map(_number, (row.top1, row.top5, row.test_top5)),
        ]
        for row in TABLE_7
    ]
    return ["method", "nets", "protocol", "top-1 val, %", "top-5 val, %", "top-5 test, %"], rows


def _table_8() -> Table:
    layers = {"fc": "the first two fully connected", "all": "all"}
    rows = [[layers[row.finetune], row.regression.upper(), _number(row.error)] for row in TABLE_8]
    return ["fine-tuned layers", "boxes", "error, %"], rows


def _table_9() -> Table:
    rows = [
        [
            "; ".join(f"{train_scale}/{_list(scales)}" for train_scale, scales in row.localisers),
            _number(row.val),
            _number(row.test),
        ]
        for row in TABLE_9
    ]
    return ["localisers (S/Q)", "top-5 error val, %", "top-5 error test, %"], rows


def _table_10() -> Table:
    rows = [[row.method, _number(row.val), _number(row.test)] for row in TABLE_10]
    return ["method", "top-5 error val, %", "top-5 error test, %"], rows


def _score(*scores: Score | None) -> str:
    shown = [
        f"{score.value:.1f}" + (f" ± {score.spread}" if score.spread else "") + (r"\*" if score.extended else "")
        for score in scores
        if score
    ]
    return ", ".join(shown) or "-"


def _table_11() -> Table:
    rows = [
        [row.method, _score(*row.voc2007), _score(*row.voc2012), _score(row.caltech101), _score(row.caltech256)]
        for row in TABLE_11
    ]
    return ["method", "VOC-2007, mAP", "VOC-2012, mAP", "Caltech-101, recall", "Caltech-256, recall"], rows


def _table_12() -> Table:
    return ["method", "VOC-2012 actions, mAP"], [[row.method, _score(row.score)] for row in TABLE_12]


PAPER_TABLES: dict[str, Callable[[], Table]] = {
    "paper-2": _table_2,
    "paper-3": lambda: _errors(TABLE_3),
    "paper-4": lambda: _errors(TABLE_4),
    "paper-5": lambda: _errors(TABLE_5),
    "paper-6": _table_6,
    "paper-7": _table_7,
    "paper-8": _table_8,
    "paper-9": _table_9,
    "paper-10": _table_10,
    "paper-11": _table_11,
    "paper-12": _table_12,
}
"""The paper's tables by the names that a page asks for."""
