"""The doctor looks at boxes too: each fault by file, with what is done; the rest of the set as of any other."""

import json

import pytest

import box_files
from box_files import SIZE, rows, voc, xml
from verydeep.data.doctor import examine


def kinds(found):
    return {(finding.kind, finding.severity, tuple(finding.files)) for finding in found.findings}


@pytest.mark.parametrize("name", box_files.FORMATS)
def test_nothing_is_found_in_a_sound_set(name, tmp_path):
    found = examine(box_files.FORMATS[name](tmp_path / "set", rows()))
    assert not found.findings
    assert (found.num_images, list(found.classes)) == (20, ["cat", "dog"])


def test_faults_of_boxes_and_of_images_together(tmp_path):
    made = voc(tmp_path / "set", rows(40))
    for name, boxes in {
        "im0": [("cat", (20, 10, 300, 60)), ("cat", (20, 10, 125, 60))],
        "im1": [("cat", (20, 10, 400, 60))],
        "im2": [("Cat", (20, 10, 70, 60))],
        "im3": [],
    }.items():
        (made / f"Annotations/{name}.xml").write_text(xml(name, boxes, SIZE, shift=1))
    (made / "JPEGImages/im5.jpg").write_bytes(b"")
    (made / "JPEGImages/im6.jpg").write_bytes((made / "JPEGImages/im7.jpg").read_bytes())
    found = examine(made)
    assert found.is_fatal
    assert {finding for finding in kinds(found) if finding[0] not in ("duplicate", "label-conflict")} >= {
        ("box-outside", "fatal", ("Annotations/im0.xml", "Annotations/im1.xml")),
        ("box-clipped", "note", ("Annotations/im0.xml",)),
        ("class-spelling", "fatal", ("Annotations/im2.xml",)),
        ("no-boxes", "note", ("JPEGImages/im3.jpg",)),
        ("damaged", "fatal", ("JPEGImages/im5.jpg",)),
    }
    assert {kind for kind, _, _ in kinds(found)} & {"label-conflict", "duplicate"}  # im6 and im7
    outside = next(finding for finding in found.findings if finding.kind == "box-outside")
    assert outside.message.startswith("2 boxes refused; the first, Annotations/im0.xml: object 1 (cat) ends 180 pixels")
    assert outside.remedy == "correct the box; or leave such out with --damaged skip"
    assert [fault["done"] for fault in outside.details["faults"]] == ["left out", "left out"]


def test_a_set_that_is_refused_as_a_whole(tmp_path):
    made = box_files.table(tmp_path, {name: [("cat", (0.1, 0.1, 0.5, 0.5))] for name in rows()})
    found = examine(made)
    assert [(finding.kind, finding.severity) for finding in found.findings] == [("refused", "fatal")]
    assert "look like shares of the image" in found.findings[0].message
    assert found.num_images == 0


def test_the_command(verydeep, tmp_path):
    made = voc(tmp_path / "set", rows())
    status, out, _ = verydeep("doctor", made)
    assert (status, out.split(": ", 1)[1]) == (0, "2 classes, 14 train, 2 val, 4 test images\nNothing was found.\n")
    (made / "JPEGImages/im4.jpg").unlink()
    status, out, _ = verydeep("doctor", made, "--json")
    (finding,) = json.loads(out)["findings"]
    assert (status, finding["kind"], finding["files"]) == (1, "missing-image", ["Annotations/im4.xml"])
    status, out, _ = verydeep("doctor", "shapes", "--json")
    assert (status, json.loads(out)["num_images"]) == (0, 3000)
