"""The paper's tables against what the paper says elsewhere, and against cells typed a second time."""

import subprocess
import sys

import pytest

from verydeep.nets.architecture import ARCHITECTURES
from verydeep.paper import constants
from verydeep.paper.tables import (
    FIXED_256,
    FIXED_384,
    JITTERED,
    TABLE_3,
    TABLE_4,
    TABLE_5,
    TABLE_6,
    TABLE_7,
    fusion_row,
    paper_row,
)

SETTINGS = ((256, 256), (384, 384), (256, 512))

# typed a second time, column by column: top-1 and top-5 of S = 256, S = 384, S in [256, 512]
TABLE_3_AGAIN = {
    "A": "29.6 10.4",
    "A-LRN": "29.7 10.5",
    "B": "28.7 9.9",
    "C": "28.1 9.4 | 28.1 9.3 | 27.3 8.8",
    "D": "27.0 8.8 | 26.8 8.7 | 25.6 8.1",
    "E": "27.3 9.0 | 26.9 8.7 | 25.5 8.0",
}
TABLE_4_AGAIN = {
    "B": "28.2 9.6",
    "C": "27.7 9.2 | 27.8 9.2 | 26.3 8.2",
    "D": "26.6 8.6 | 26.5 8.6 | 24.8 7.5",
    "E": "26.9 8.7 | 26.7 8.6 | 24.8 7.5",
}


@pytest.mark.parametrize(("table", "again"), [(TABLE_3, TABLE_3_AGAIN), (TABLE_4, TABLE_4_AGAIN)])
def test_tables_3_and_4_typed_twice_are_the_same(table, again):
    typed = [
        (name, scales, *map(float, cell.split()))
        for name, cells in again.items()
        for scales, cell in zip(SETTINGS, cells.split("|"), strict=False)
    ]
    assert [(row.architecture, row.train_scale, row.top1, row.top5) for row in table] == typed


def test_scales_follow_the_rules_of_the_text():
    assert (FIXED_256, FIXED_384, JITTERED) == SETTINGS
    assert constants.JITTERED_TRAIN_SCALES == JITTERED
    assert (FIXED_256[0], FIXED_384[0]) == (constants.TRAIN_SCALE, constants.LARGER_TRAIN_SCALE)
    for row in TABLE_3:
        assert row.test_scales == (sum(row.train_scale) // 2,)
    for row in TABLE_4 + TABLE_5:
        low, high = row.train_scale
        assert row.test_scales == ((low - 32, low, low + 32) if low == high else (low, (low + high) // 2, high))


def test_every_net_is_a_column_of_table_1():
    nets = {row.architecture for row in TABLE_3 + TABLE_4 + TABLE_5}
    nets |= {net.architecture for row in TABLE_6 for net in row.models}
    assert nets == set(constants.PARAMETERS_IN_MILLIONS)
    assert nets <= set(ARCHITECTURES)


def test_dense_rows_of_table_5_are_the_jittered_rows_of_table_4():
    jittered = [row for row in TABLE_4 if row.train_scale == JITTERED and row.architecture in "DE"]
    assert [row for row in TABLE_5 if row.protocol == "multi-scale"] == jittered


def named(models):
    return [(net.architecture, net.train_scale) for net in models]


def test_own_rows_of_table_7_are_cells_of_tables_5_and_6():
    two, one, submitted = (row for row in TABLE_7 if row.method.startswith("VGG"))
    fused = fusion_row(named(TABLE_6[-1].models), "dense+multi-crop")
    assert (two.top1, two.top5, two.test_top5) == (fused.top1, fused.top5, fused.test_top5) == (23.7, 6.8, 6.8)
    best = min((row for row in TABLE_5), key=lambda row: (row.top1, row.top5))
    assert (one.top1, one.top5) == (best.top1, best.top5)
    assert best.architecture == "E"
    assert (submitted.top1, submitted.top5, submitted.test_top5, submitted.num_nets) == (
        TABLE_6[0].top1,
        TABLE_6[0].top5,
        TABLE_6[0].test_top5,
        len(TABLE_6[0].models),
    )


def test_the_text_of_section_4_holds():
    def error(name, train_scale, table=TABLE_3):
        return next(row.top1 for row in table if (row.architecture, row.train_scale) == (name, train_scale))

    assert error("A-LRN", FIXED_256) >= error("A", FIXED_256)  # normalisation does not help
    assert error("A", FIXED_256) > error("B", FIXED_256) > error("C", FIXED_256) > error("D", FIXED_256)
    for name in "CDE":  # scale jitter is better than any fixed scale, even at one test scale
        for table in (TABLE_3, TABLE_4):
            assert error(name, JITTERED, table) < min(error(name, FIXED_256, table), error(name, FIXED_384, table))
    for row in TABLE_4:  # several test scales are better than one
        single = next(x for x in TABLE_3 if (x.architecture, x.train_scale) == (row.architecture, row.train_scale))
        assert row.top1 < single.top1
        assert row.top5 < single.top5
    for name in "DE":  # many crops are a little better than dense, and both together better than either
        dense, crops, both = (row for row in TABLE_5 if row.architecture == name)
        assert dense.top1 > crops.top1 > both.top1
        assert dense.top5 >= crops.top5 > both.top5
    assert min(row.top5 for row in TABLE_6) < min(row.top5 for row in TABLE_5)  # fusion helps
    single_nets = {row.method[:4]: row.test_top5 for row in TABLE_7 if row.num_nets == 1}
    assert round(single_nets["Goog"] - single_nets["VGG"], 1) == 0.9  # "outperforming a single GoogLeNet by 0.9%"


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        (("A", (256, 256), "single", (256,)), (0.296, 0.104)),
        (("E", (256, 512), "single", [384]), (0.255, 0.08)),
        (("D", (384, 384), "multi-scale", (416, 384, 352)), (0.265, 0.086)),
        (("E", (256, 512), "multi-crop", (256, 384, 512)), (0.246, 0.074)),
        (("D", (256, 512), "dense+multi-crop", (256, 384, 512)), (0.244, 0.072)),
    ],
)
def test_a_cell_is_found(asked, expected):
    row = paper_row(*asked)
    assert (row.top1_error, row.top5_error) == expected


def test_a_cell_is_found_at_the_scales_of_another_crop():
    assert paper_row("D", (73, 73), "single", (73,), crop=64).top1 == 27.0
    assert paper_row("D", (73, 146), "single", (109,), crop=64).top1 == 25.6  # the mean of 73 and 146, rounded down
    assert paper_row("D", (73, 146), "multi-scale", (73, 110, 146), crop=64).top1 == 24.8
    assert paper_row("D", (73, 73), "single", (73,)) is None
    assert paper_row("D", (73, 73), "single", (110,), crop=64) is None


def test_what_the_paper_has_not_is_none():
    assert paper_row("A", (384, 384), "single", (384,)) is None
    assert paper_row("A", (256, 256), "centre", (256,)) is None
    assert paper_row("A", (256, 256), "single", (257,)) is None
    assert fusion_row(named(TABLE_6[1].models[:1]), "multi-scale") is None
    assert fusion_row(named(TABLE_6[1].models[::-1]), "multi-scale").top1 == 24.0
    assert fusion_row([("D", JITTERED)] * 2, "multi-scale") is None


def test_the_tables_cost_nothing_to_import():
    code = (
        "import sys, verydeep.paper.constants, verydeep.paper.tables;"
        "sys.exit(bool({'torch', 'numpy'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
