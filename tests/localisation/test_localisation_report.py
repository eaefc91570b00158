"""The page of a localiser and its tables: the paper's numbers, ours beside them, pictures and none."""

import re

import numpy as np
import pytest

from boxed_fakes import boxed_images, made_up, make_classifier, make_localiser
from verydeep.errors import UserError
from verydeep.localisation.evaluate import evaluate_localiser
from verydeep.localisation.report import write_localisation_report
from verydeep.localisation.tables import Figure, table_8, table_9, table_10, tables_of
from verydeep.paper.tables import TABLE_8, TABLE_9, TABLE_10
from verydeep.report.plots import histogram


def test_table_8_has_the_rows_of_the_paper_and_ours():
    table = table_8({("all", "pcr"): Figure.of(0.1, 100), ("all", "scr"): Figure(0.25)}, "shapes")
    assert [row[-1] for row in table.rows] == [*(f"{row.error}" for row in TABLE_8), "-"]
    by_kind = {(row[0], row[1]): row[2:4] for row in table.rows}
    assert by_kind["all", "PCR"] == ["10.0", "5.5 to 17.4"]
    assert by_kind["all", "SCR"] == ["25.0", ""]
    assert by_kind["first two fully connected", "SCR"] == ["-", ""]
    assert all(len(row) == len(table.columns) for row in table.rows)


def test_table_9_scales_the_papers_scales_to_the_crop():
    ours = {((96, (88, 96)),): Figure(0.2), ((64, (64,)), (96, (88, 96))): Figure(0.1), ((73, (64,)),): Figure(0.3)}
    table = table_9(ours, "shapes", crop=56, top=1)
    assert [row[0] for row in table.rows] == ["64/64", "96/96", "96/88,96", "64/64; 96/88,96", "73/64"]
    assert [row[1] for row in table.rows] == ["-", "-", "20.0", "10.0", "30.0"]
    assert [row[-1] for row in table.rows] == [*(f"{row.val}" for row in TABLE_9), "-"]


def test_table_10_has_ours_above_the_papers():
    table = table_10({"this page": Figure(0.2)}, "shapes")
    assert table.rows[0] == ["this page", "20.0", "", "", ""]
    assert [row[3:] for row in table.rows[1:]] == [
        ["-" if row.val is None else f"{row.val}", f"{row.test}"] for row in TABLE_10
    ]


def test_tables_follow_from_results():
    few = made_up(classes=3, top=3)
    tables = tables_of(
        "shapes", 64, {("all", "scr"): made_up(top=0)}, {((64, (64,)),): few, ((64, (96,)),): made_up(seed=1)}
    )
    assert [table.caption[:7] for table in tables] == ["Table 8", "Table 9", "Table 10"[:7]]
    assert "top-1 localisation error" in tables[1].caption
    assert len(tables_of("shapes", 64, {("all", "scr"): made_up(top=0)}, {})) == 1


def test_a_histogram_has_a_bar_for_each_part():
    drawing = histogram("IoU", "IoU", [3, 0, 5, 1], [0, 0.25, 0.5, 0.75, 1], {"wrong": 0.5, "right": 1.0})
    heights = [float(height) for height in re.findall(r'<rect[^>]* height="([\d.]+)"', drawing)]
    assert [round(height / heights[3], 1) for height in heights] == [3, 0, 5, 1]
    assert drawing.count("#d9702b") == 3  # of the legend, and two bars that are wrong
    assert drawing.count("#3a9a63") == 3


@pytest.fixture(scope="module")
def tested():
    data = boxed_images()
    result = evaluate_localiser(
        make_localiser(), data, protocol="full", classifier=make_classifier(), test_scales=(64, 96)
    )
    return result, data


def test_the_page_shows_boxes_misses_and_tables(tested, tmp_path):
    result, data = tested
    centre = evaluate_localiser(make_localiser(), data, test_scales=(96,))
    tables = tables_of("pictures", 64, {("all", "pcr"): centre}, {((96, (64, 96)),): result})
    page = write_localisation_report(
        tmp_path / "report.html", result, data, title="A on pictures", tables=tables, commands=["verydeep localise"]
    ).read_text()
    for heading in ("Boxes", "The worst misses", "Distribution of the IoU", "Table 8", "Table 9", "Table 10"):
        assert f"<h2>{heading}</h2>" in page
    assert page.count("data:image/jpeg") == 6 + min(12, int(result.wrong().sum()))
    assert "top-5 localisation error" in page
    assert "95/" not in page
    assert f"{result.ious.max():.2f}" in page


def test_the_page_can_do_without_pictures(tested, tmp_path):
    result, data = tested
    page = write_localisation_report(tmp_path / "report.html", result, data, title="A", pictures=False).read_text()
    assert "data:image" not in page
    assert "5.png" in page


def test_a_page_that_cannot_be_written_is_said_in_one_line(tested, tmp_path):
    result, data = tested
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot be written"):
        write_localisation_report(tmp_path / "file" / "report.html", result, data, title="A")


def test_perfect_boxes_have_no_misses(tmp_path):
    result, data = made_up(count=6, top=0), boxed_images(sizes=((128, 128),))
    result = type(result)(**(vars(result) | {"boxes": np.array([one[0] for one in result.objects])}))
    page = write_localisation_report(tmp_path / "report.html", result, data, title="A").read_text()
    assert "The worst misses" not in page
    assert "0.00%" in page
