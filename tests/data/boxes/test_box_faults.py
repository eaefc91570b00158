"""Sets spoiled one way at a time: each fault is refused in one line that names it, or mended and said."""

import json

import numpy as np
import pytest

import box_files
from box_files import SIZE, coco_content, images, rows, voc, xml
from conftest import scene
from verydeep.data.boxes import files
from verydeep.data.boxes.findings import describe_findings
from verydeep.data.boxes.open import open_boxed
from verydeep.errors import UserError

BOMB = """<?xml version="1.0"?>
<!DOCTYPE lolz [<!ENTITY a "lol"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;&a;&a;">]>
<annotation><filename>&b;</filename></annotation>"""
OUTSIDE = '<!DOCTYPE a [<!ENTITY x SYSTEM "file:///etc/passwd">]><annotation><filename>&x;</filename></annotation>'


def refusal(made, **options):
    """The line that refuses a set."""
    with pytest.raises(UserError) as raised:
        open_boxed(made, **options)
    line = str(raised.value)
    assert "\n" not in line
    return line


def spoil(made, boxes, size=SIZE):
    """Gives the first image of a VOC set other boxes."""
    (made / "Annotations/im0.xml").write_text(xml("im0", boxes, size, shift=0))


VOC_FAULTS = {
    "outside": ([("cat", (20, 10, 300, 60))], "box-outside", "ends 180 pixels right of its image of 120x90"),
    "above": ([("cat", (20, -30, 70, 60))], "box-outside", "ends 30 pixels above the top of its image"),
    "all of it outside": ([("cat", (121, 10, 122, 60))], "box-outside", "ends 2 pixels right of its image"),
    "no area": ([("cat", (20, 10, 20, 60))], "box-no-area", "has no area (20, 10, 20, 60)"),
    "swapped": ([("cat", (70, 10, 20, 60))], "box-swapped", "has swapped corners (70, 10, 20, 60)"),
    "NaN": ([("cat", ("NaN", 10, 20, 60))], "not-a-number", "has no four numbers (nan, 10, 20, 60)"),
    "infinite": ([("cat", (3, 10, "1e999", 60))], "not-a-number", "has no four numbers (3, 10, inf, 60)"),
    "text": ([("cat", (3, "ten", 20, 60))], "not-a-number", "has no four numbers (3, nan, 20, 60)"),
    "no class": ([("", (20, 10, 70, 60))], "unknown-class", "object 1 has a class without a name"),
    "case": ([("Cat", (20, 10, 70, 60))], "class-spelling", "is of class 'Cat', which is 'cat' in 10 others"),
}


@pytest.mark.parametrize("name", VOC_FAULTS)
def test_a_faulty_box_is_refused_by_name_or_left_out(name, tmp_path):
    boxes, kind, fault = VOC_FAULTS[name]
    made = voc(tmp_path / "set", rows())
    (made / "Annotations/im1.xml").write_text(xml("im1", [("dog", (0, 0, 40, 40))], shift=0))  # it counts from 0
    spoil(made, [*boxes, ("cat", (10, 10, 50, 50))])
    line = refusal(made)
    assert line.startswith("Annotations/im0.xml: object 1")
    assert fault in line
    assert line.endswith("or leave it out with --damaged skip")
    found = open_boxed(made, skip_damaged=True)
    assert [(one.kind, one.file, one.done) for one in found.findings] == [(kind, "Annotations/im0.xml", "left out")]
    whole = found.split("all")
    assert whole.boxes[whole.images.names.index("JPEGImages/im0.jpg")].tolist() == [[10, 10, 50, 50]]
    spoil(made, boxes)  # the only box of its image
    assert "JPEGImages/im0.jpg" not in open_boxed(made, skip_damaged=True).split("all").images.names


def test_more_than_one_is_counted(tmp_path):
    made = voc(tmp_path / "set", rows())
    spoil(made, [("cat", (20, 10, 300, 60)), ("cat", (20, 10, 300, 60)), ("cat", (20, 10, 20, 60))])
    assert " (and 2 more): " in refusal(made)


def test_a_small_overrun_is_clipped_and_said(tmp_path):
    made = voc(tmp_path / "set", rows())
    spoil(made, [("cat", (-2, 10, 125, 94))])
    found = open_boxed(made)
    (finding,) = found.findings
    assert (finding.kind, finding.done) == ("box-clipped", "clipped")
    assert "ends 5 pixels right of its image" in finding.fault
    whole = found.split("all")
    assert whole.boxes[whole.images.names.index("JPEGImages/im0.jpg")].tolist() == [[0, 10, 120, 90]]
    spoil(made, [("cat", (-2, 10, 127, 94))])  # 7 of 120 pixels
    assert "ends 7 pixels right" in refusal(made)
    for one in found.splits.values():
        for boxes, size in zip(one.boxes, [SIZE] * len(one), strict=True):
            assert (boxes >= 0).all()
            assert (boxes[:, :2] < boxes[:, 2:]).all()
            assert (boxes[:, 2:] <= np.array(size)).all()


HOSTILE = {
    "bomb": (BOMB, "as XML bombs do"),
    "file": (OUTSIDE, "defines entities"),
    "cut": ("<annotation><obj", "is no valid XML"),
    "empty": ("", "is no valid XML"),
}


def test_what_was_done_is_described_in_a_line_for_each_kind(tmp_path):
    made = voc(tmp_path / "set", rows())
    spoil(made, [("cat", (-2, 10, 125, 94)), ("cat", (1, 10, 300, 60)), ("cat", (1, 10, 400, 60))])
    (made / "JPEGImages/im3.jpg").unlink()
    assert describe_findings(open_boxed(made, skip_damaged=True).findings) == [
        "1 image left out; the first, Annotations/im3.xml: its image JPEGImages/im3.jpg is not there",
        "1 box clipped; the first, Annotations/im0.xml: object 1 (cat) ends 5 pixels right of its image of 120x90",
        "2 boxes left out; the first, Annotations/im0.xml: object 2 (cat) ends 180 pixels right of its image of 120x90",
    ]


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_xml(name, tmp_path):
    content, fault = HOSTILE[name]
    made = voc(tmp_path / "set", rows())
    (made / "Annotations/im3.xml").write_text(content)
    line = refusal(made)
    assert line.startswith("Annotations/im3.xml: ")
    assert fault in line
    found = open_boxed(made, skip_damaged=True)
    assert len(found.split("all")) == 19
    assert [one.kind for one in found.findings] == ["annotation"]


def test_a_missing_image(tmp_path):
    made = voc(tmp_path / "set", rows())
    (made / "JPEGImages/im4.jpg").unlink()
    assert refusal(made).startswith("Annotations/im4.xml: its image JPEGImages/im4.jpg is not there: add the image")
    assert len(open_boxed(made, skip_damaged=True).split("all")) == 19


@pytest.mark.parametrize("ending", ["jpg", "png"])
def test_an_image_that_is_cut_short(ending, tmp_path):
    made = voc(tmp_path / "set", rows())
    (made / "JPEGImages/im4.jpg").unlink()
    images(made / "JPEGImages", ["im4"], ending=ending)
    file = made / f"JPEGImages/im4.{ending}"
    file.write_bytes(file.read_bytes()[:-1500])
    assert refusal(made).startswith(f"JPEGImages/im4.{ending}: cannot be read as an image: ")
    found = open_boxed(made, skip_damaged=True)
    assert [one.kind for one in found.findings if one.is_refused] == ["damaged"]
    file.write_bytes(b"")
    assert "it is empty" in refusal(made)


def test_damage_that_only_decoding_finds_leaves_out_the_boxes_too(tmp_path):
    made = voc(tmp_path / "set", rows())
    (made / "JPEGImages/im4.jpg").unlink()
    images(made / "JPEGImages", ["im4"], ending="bmp")
    file = made / "JPEGImages/im4.bmp"
    file.write_bytes(file.read_bytes()[:-1500])
    whole = open_boxed(made).split("all")
    with pytest.raises(UserError, match="truncated"):
        whole.checked()
    kept, damaged = whole.checked(skip_damaged=True)
    assert damaged == ["JPEGImages/im4.bmp"]
    assert len(kept) == len(kept.boxes) == len(kept.others) == 19
    for index, name in enumerate(kept.images.names):
        assert np.array_equal(kept.boxes[index], whole.boxes[whole.images.names.index(name)])


def test_the_size_that_an_annotation_states(tmp_path):
    made = voc(tmp_path / "set", rows())
    spoil(made, rows()["im0"], size=(240, 180))
    line = refusal(made)
    assert "states an image of 240x180 pixels, and JPEGImages/im0.jpg has 120x90: give the image that was" in line
    spoil(made, rows()["im0"], size=(0, 0))  # as an old labelImg wrote it
    found = open_boxed(made)
    assert [(one.kind, one.done) for one in found.findings] == [("image-size", "read from the image")]
    spoil(made, rows()["im0"], size=None)
    assert not open_boxed(made).findings


def test_a_class_that_train_does_not_have(tmp_path):
    for split, data in (("train", rows(10)), ("val", rows(4)), ("test", rows(4, ["emu", "cat"]))):
        voc(tmp_path / split, data)
    assert "is of class 'emu', which train does not have (and 1 more): add training images of it" in refusal(tmp_path)
    assert len(open_boxed(tmp_path, skip_damaged=True).split("test")) == 2


def test_splits_without_train(tmp_path):
    made = box_files.table(tmp_path, rows(4))
    made.write_text("file,class,x1,y1,x2,y2,split\nall/im0.jpg,cat,1,1,9,9,val\n")
    assert "has val but no training images" in refusal(made)


def to_xywh(edges):
    return edges[0], edges[1], edges[2] - edges[0], edges[3] - edges[1]


MEANINGS = {
    "xywh in corners": (to_xywh, "look like left, top, width, height in pixels, and are read as left, top, right"),
    "shares": (lambda e: (e[0] / 120, e[1] / 90, e[2] / 120, e[3] / 90), "look like shares of the image, in 0..1"),
}


@pytest.mark.parametrize("name", MEANINGS)
def test_boxes_that_mean_something_else(name, tmp_path):
    change, what = MEANINGS[name]
    data = {one: [(label, change((e[0] + 30, e[1] + 25, e[2], e[3])))] for one, [(label, e)] in rows().items()}
    line = refusal(box_files.table(tmp_path, data), skip_damaged=True)
    assert line.startswith("boxes.csv: its 20 boxes ")
    assert what in line
    assert line.endswith("name the columns x1,y1,x2,y2 or x,y,w,h, whichever they are, in pixels")


def test_corners_in_coco(tmp_path):
    made = box_files.coco(tmp_path / "coco", rows())
    content = coco_content(rows())
    for one in content["annotations"]:
        left, top, width, height = one["bbox"]
        one["bbox"] = [left + 40, top + 30, left + 40 + width // 2, top + 30 + height // 2]
    (made / "annotations/instances_default.json").write_text(json.dumps(content))
    assert "look like left, top, right, bottom in pixels, and are read as left, top, width, height" in refusal(made)


def test_shares_that_leave_the_image_are_no_pixels(tmp_path):
    made = box_files.yolo(tmp_path / "yolo", rows())
    for index in range(4):
        (made / f"labels/train/im{index}.txt").write_text("0 0.9 0.5 0.6 0.3\n")
    assert "line 1 ends 24 pixels right of its image" in refusal(made)


def test_classes_that_are_numbered_from_one(tmp_path):
    made = box_files.yolo(tmp_path / "yolo", rows())
    for index, name in enumerate(rows()):
        (made / f"labels/train/{name}.txt").write_text(f"{1 + index % 2} 0.5 0.5 0.2 0.2\n")
    assert "data.yaml: the labels number its classes from 1 to 2: number them from 0" in refusal(made)
    (made / "labels/train/im0.txt").write_text("0 0.5 0.5 0.2 0.2\n")
    assert "(class 2, and names has 2) has a class without a name" in refusal(made)


def test_pixels_in_yolo(tmp_path):
    made = box_files.yolo(tmp_path / "yolo", rows())
    for name in rows():
        (made / f"labels/train/{name}.txt").write_text("0 60 40 50 30\n")
    assert "look like centre x, centre y, width, height in pixels, and are read as centre x" in refusal(made)


def test_names_that_are_no_names(tmp_path):
    made = box_files.coco(tmp_path / "coco", rows())
    content = coco_content(rows())
    content["images"][0]["file_name"] = "a\nb\0\x1b[31m\ud800.jpg"
    content["categories"][0]["name"] = " big\n\x07cat "
    (made / "annotations/instances_default.json").write_text(json.dumps(content))
    line = refusal(made)
    assert line.isprintable()
    assert "is not there" in line
    assert open_boxed(made, skip_damaged=True).classes == ("big \ufffdcat", "dog")


def test_xml_that_is_nested_deep(tmp_path):
    made = voc(tmp_path / "set", rows())
    depth = 200_000
    (made / "Annotations/im0.xml").write_text("<annotation>" + "<a>" * depth + "</a>" * depth + "</annotation>")
    assert len(open_boxed(made).split("all")) == 19


def test_per_cent(tmp_path):
    images(tmp_path / "all", range(25), (400, 320))
    lines = [f"all/{index}.jpg,cat,{5 + index},10,{70 + index},60" for index in range(25)]
    (tmp_path / "boxes.csv").write_text("\n".join(["file,class,x1,y1,x2,y2", *lines]))
    assert "look like per cent of the image" in refusal(tmp_path / "boxes.csv")


def test_crowds_and_masks_of_coco(tmp_path):
    made = box_files.coco(tmp_path / "coco", rows())
    content = coco_content(rows())
    file = made / "annotations/instances_default.json"
    mask = {"counts": [0, 10], "size": [90, 120]}
    more = [
        {"id": 100, "image_id": 0, "category_id": 7, "iscrowd": 1, "bbox": [1, 1, 50, 50], "segmentation": mask},
        {"id": 101, "image_id": 0, "category_id": 7, "iscrowd": 0, "segmentation": mask},
        {"id": 102, "image_id": 1, "category_id": 10, "iscrowd": 0, "bbox": [1, 1, 9, 9], "segmentation": mask},
    ]
    file.write_text(json.dumps(content | {"annotations": [*content["annotations"], *more]}))
    found = open_boxed(made)
    assert [(one.kind, one.fault, one.done) for one in found.findings] == [
        ("not-a-box", "annotation 100 is a crowd", "left out"),
        ("not-a-box", "annotation 101 is a mask (RLE) without a box", "left out"),
    ]
    whole = found.split("all")
    assert [len(whole.boxes[whole.images.names.index(f"images/im{index}.jpg")]) for index in (0, 1)] == [1, 2]


COCO_FAULTS = {
    "unknown category": ({"category_id": 99}, "annotation 0 (category 99) has a class without a name"),
    "three numbers": ({"bbox": [1, 2, 3]}, "annotation 0 has no four numbers"),
    "no box": ({"bbox": None}, "annotation 0 has no four numbers"),
    "unknown image": ({"image_id": 99}, "annotation 0 is of an image that is not listed"),
    "an image of another kind": ({"image_id": [1]}, "annotation 0 is of an image that is not listed"),
}


@pytest.mark.parametrize("name", COCO_FAULTS)
def test_a_faulty_entry_of_coco(name, tmp_path):
    change, fault = COCO_FAULTS[name]
    made = box_files.coco(tmp_path / "coco", rows())
    content = coco_content(rows())
    content["annotations"][0] |= change
    (made / "annotations/instances_default.json").write_text(json.dumps(content))
    assert fault in refusal(made)
    assert len(open_boxed(made, skip_damaged=True).split("all")) == 19


def test_a_coco_file_that_is_cut_or_too_large(tmp_path, monkeypatch):
    made = box_files.coco(tmp_path / "coco", rows())
    file = made / "annotations/instances_default.json"
    text = file.read_text()
    file.write_text(text[: len(text) // 2])
    assert "is no valid JSON after line 1: export it again, it may be cut short" in refusal(made)
    file.write_text("[" * 100_000)
    assert "is no valid JSON: it is nested too deep" in refusal(made)
    file.write_text(json.dumps({"images": []}))
    assert "has no list 'annotations'" in refusal(made)
    file.write_text(text)
    monkeypatch.setattr("verydeep.data.boxes.coco.LARGEST_LIST", 1_000)
    assert "has more than the 1 kB that are read of such a file: split it" in refusal(made)


def test_an_annotation_that_is_too_large(tmp_path, monkeypatch):
    made = voc(tmp_path / "set", rows())
    monkeypatch.setattr(files, "LARGEST_ANNOTATION", 600)
    (made / "Annotations/im0.xml").write_text(xml("im0", rows()["im0"]) + " " * 600)
    assert "has more than the 600 bytes" in refusal(made)


YOLO_FAULTS = {
    "fields": ("0 0.5 0.5", "line 1 has 3 fields instead of a class and 4 numbers, or a polygon"),
    "class": ("cat 0.5 0.5 0.1 0.1", "line 1 begins with 'cat' instead of the number of a class"),
    "unknown": ("7 0.5 0.5 0.1 0.1", "line 1 (class 7, and names has 2) has a class without a name"),
    "negative": ("-1 0.5 0.5 0.1 0.1", "line 1 (class -1, and names has 2) has a class without a name"),
    "NaN": ("0 nan 0.5 0.1 0.1", "line 1 has no four numbers"),
    "infinite class": ("inf 0.5 0.5 0.1 0.1", "line 1 begins with 'inf'"),
    "no width": ("0 0.5 0.5 0 0.1", "line 1 has no area"),
}


@pytest.mark.parametrize("name", YOLO_FAULTS)
def test_a_bad_line_of_yolo_is_named_and_its_image_stays(name, tmp_path):
    line, fault = YOLO_FAULTS[name]
    made = box_files.yolo(tmp_path / "yolo", rows())
    file = made / "labels/train/im0.txt"
    file.write_text(f"{line}\n{file.read_text()}")
    refused = refusal(made)
    assert refused.startswith("labels/train/im0.txt: ")
    assert fault in refused
    assert len(open_boxed(made, skip_damaged=True).split("all")) == 20


YAML_FAULTS = {
    "no names": ("train: images/train\n", "has no names"),
    "count": ("train: images/train\nnc: 3\nnames: [cat, dog]\n", "has nc: 3 and 2 names"),
    "no YAML": ("names: [cat, dog\ntrain: x: y\n", "is no valid YAML in line 2"),
    "code": ("names: !!python/object/apply:os.system ['true']\n", "is no valid YAML in line 1"),
    "missing folder": ("train: elsewhere\nnames: [cat, dog]\n", "names 'elsewhere', which is not there"),
    "nested": ("train: images/train\nnames: [[cat], dog]\n", "has the name"),
}


@pytest.mark.parametrize("name", YAML_FAULTS)
def test_a_faulty_yaml(name, tmp_path):
    content, fault = YAML_FAULTS[name]
    made = box_files.yolo(tmp_path / "yolo", rows())
    (made / "data.yaml").write_text(content)
    assert fault in refusal(made)


def test_a_faulty_labelme_file(tmp_path):
    made = box_files.labelme(tmp_path / "set", rows())
    record = json.loads((made / "im0.json").read_text())
    (made / "im1.json").write_text(json.dumps(record)[:60])
    record["shapes"][0]["points"] = [[1, 2], [3, None]]
    (made / "im0.json").write_text(json.dumps(record))
    found = open_boxed(made, skip_damaged=True)
    assert {(one.kind, one.file) for one in found.findings} == {
        ("annotation", "im1.json"),
        ("not-a-number", "im0.json"),
    }
    assert "is no valid JSON" in refusal(made)


TABLE_FAULTS = {
    "NaN": ("all/im0.jpg,cat,nan,10,50,50", "boxes.csv: line 2 (cat) has no four numbers (nan, 10, 50, 50)"),
    "empty": ("all/im0.jpg,cat,,10,50,50", "boxes.csv: line 2 (cat) has no four numbers (nan, 10, 50, 50)"),
    "short": ("all/im0.jpg,cat,1,10,50", "boxes.csv: line 2 (cat) has no four numbers (1, 10, 50, nan)"),
    "missing": ("all/none.jpg,cat,1,10,50,50", "boxes.csv: its image all/none.jpg is not there"),
}


@pytest.mark.parametrize("name", TABLE_FAULTS)
def test_a_faulty_row(name, tmp_path):
    row, fault = TABLE_FAULTS[name]
    made = box_files.table(tmp_path, rows())
    lines = made.read_text().splitlines()
    made.write_text("\n".join([lines[0], row, *lines[2:]]))
    assert refusal(made).startswith(fault)
    assert len(open_boxed(made, skip_damaged=True).split("all")) == 19


def test_a_table_that_is_none(tmp_path):
    made = box_files.table(tmp_path, {})
    assert "has no rows" in refusal(made)
    made.write_text("file,x1,y1,x2,y2\na.jpg,1,2,3,4\n")
    assert "has no column 'label'" in refusal(made)
    made.write_bytes("file,class,x1,y1,x2,y2\ncafé.jpg,cat,1,2,3,4\n".encode("latin-1"))
    assert "is not in UTF-8" in refusal(made)


def test_everything_at_fault(tmp_path):
    made = voc(tmp_path / "set", rows(3))
    for name in rows(3):
        (made / f"Annotations/{name}.xml").write_text("<annotation><no")
    assert "has no image with a sound box: verydeep doctor" in refusal(made, skip_damaged=True)


def test_a_large_image_is_refused_before_it_is_decoded(tmp_path, monkeypatch):
    made = voc(tmp_path / "set", rows())
    monkeypatch.setenv("VERYDEEP_MAX_PIXELS", "2000")
    scene(1).save(made / "JPEGImages/im0.jpg")
    assert "more than the 2,000 that are decoded" in refusal(made)


@pytest.mark.parametrize("name", ["x" * 3000 + ".jpg", "a\0b.jpg", "a\ud800b.jpg"], ids=["long", "null", "half a pair"])
def test_names_that_no_file_can_have_are_those_of_missing_images(name, tmp_path):
    made = box_files.coco(tmp_path / "set", rows())
    file = made / "annotations/instances_default.json"
    content = json.loads(file.read_text())
    content["images"][0]["file_name"] = name
    file.write_text(json.dumps(content))
    assert "--damaged skip" in refusal(made)
    assert len(open_boxed(made, skip_damaged=True).split("all").images) == len(rows()) - 1


def test_a_list_of_yolo_may_hold_anything(tmp_path):
    made = box_files.yolo(tmp_path / "set", rows())
    (made / "data.yaml").write_text("path: .\ntrain: list.txt\nnames:\n  0: cat\n  1: dog\n")
    lines = [f"images/train/{name}.jpg" for name in rows()]
    (made / "list.txt").write_text("\n".join(["/", ".", "x" * 3000, "a\0b.jpg", *lines]))
    assert "--damaged skip" in refusal(made)
    assert len(open_boxed(made, skip_damaged=True).split("all").images) == len(lines)
