"""What descriptors say of the training images, on the page: the curve, and labels to look at."""

import re

import pytest
from PIL import Image

from browser import chromium, opened
from verydeep.report.pages import Card, Page, page_text, write_page
from verydeep.runs.image_findings import read_findings, record_findings, save_findings, sections_of_findings
from verydeep.transfer.labels import DoubtfulLabel
from verydeep.transfer.learning_curve import CurvePoint, LearningCurve

NAMES = [f"shoes/<{index}>.jpg" for index in range(40)]
CLASSES = ["hat", "pants", "shoes & boots"]


def point(num_images, error):
    return CurvePoint(num_images=num_images, error=error, interval95=(error - 0.02, error + 0.03))


MEASURED = [point(300, 0.24), point(600, 0.2), point(1200, 0.17), point(2400, 0.15)]
CURVE = LearningCurve(points=MEASURED, present=point(3000, 0.145), forecast=point(6000, 0.12))
LABELS = [
    DoubtfulLabel(index=index, given=2, suggested=index % 2, given_posterior=0.001, posterior=0.98, doubt=0.9)
    for index in (7, 30, 4)
]


def page_of(sections):
    return Page(title="A on photos", cards=[Card("top-1", "1%", "")], remarks=[], sections=sections, footer="")


def read(index):
    return Image.new("RGB", (90 + index, 60), (index, 90, 200))


def test_the_curve_and_the_labels_survive_the_run_folder(tmp_path):
    assert read_findings(tmp_path) is None
    save_findings(tmp_path, record_findings(CURVE, LABELS, 3000))
    text = page_text(page_of(sections_of_findings(read_findings(tmp_path), CLASSES, NAMES, read)))
    assert "Twice as many images of the same kind would probably bring the error of the linear classifier" in text
    assert "from 14.5% to 12.0% (95% interval 10.0 to 15.0%)" in text
    assert text.count("stroke-dasharray") == 5  # the line, its key, and the intervals of its three points
    assert "2,400" in text
    assert "6,000" in text
    assert "3 labels of the 3,000 training images are probably wrong" in text
    assert text.count("data:image/jpeg") == 3
    assert [int(name) for name in re.findall(r"shoes/&lt;(\d+)&gt;.jpg</span>", text)] == [7, 30, 4]
    assert "labelled <b>shoes &amp; boots</b>, perhaps <b>pants</b> (98.00%)" in text


def test_a_page_without_pictures_names_the_files():
    text = page_text(page_of(sections_of_findings(record_findings(None, LABELS, 40), CLASSES, NAMES, None)))
    assert "data:image" not in text
    assert "What more images" not in text
    assert "<td>shoes/&lt;30&gt;.jpg</td><td>shoes &amp; boots</td><td>hat</td>" in text


def test_what_was_not_found_has_no_section():
    nothing = LearningCurve(points=(), why_not="hat has 3 images")
    for record in (None, record_findings(nothing, [], 40), record_findings(None, None, 40)):
        assert "<section" not in page_text(page_of(sections_of_findings(record, CLASSES, NAMES, read)))
    measured = LearningCurve(points=MEASURED, why_not="the error rises with more images")
    text = page_text(page_of(sections_of_findings(record_findings(measured, None, 40), CLASSES, NAMES, read)))
    assert "cannot be said: the error rises with more images" in text
    assert "stroke-dasharray" not in text


@pytest.mark.skipif(chromium() is None, reason="no Chromium on this machine")
@pytest.mark.parametrize("pictures", [True, False])
def test_the_sections_fit_a_telephone(pictures, tmp_path):
    sections = sections_of_findings(record_findings(CURVE, LABELS, 3000), CLASSES, NAMES, read if pictures else None)
    file = write_page(tmp_path / "page.html", page_of(sections))
    messages, _, widths, seen = opened(file, viewport={"width": 390, "height": 800})
    assert messages == []
    assert seen["overflow"] <= 0
    assert len(widths) == (3 if pictures else 0)
