"""Every format gives the same boxes; splits are those of the data, or held out by names."""

import json
import shutil

import numpy as np
import pytest

import box_files
from box_files import SIZE, coco_content, images, rows, voc, xml, yolo_lines
from verydeep.data.boxes.boxed import describe_boxes
from verydeep.data.boxes.open import has_boxes, open_boxed
from verydeep.data.open import open_data
from verydeep.errors import UserError


def boxes_of(data):
    """Class and edges of every box by the image's name without folder and ending."""
    found = {}
    for split in data.splits.values():
        for index, name in enumerate(split.images.names):
            label = split.images.classes[split.images.labels[index]]
            own = [(label, tuple(np.round(box, 1).tolist())) for box in split.boxes[index]]
            labels, corners = split.others[index]
            others = [
                (split.images.classes[other], tuple(np.round(box, 1).tolist()))
                for other, box in zip(labels, corners, strict=True)
            ]
            found[name.rpartition("/")[2].partition(".")[0]] = [*own, *others]
    return found


def names_of(data):
    return {
        split: {name.rpartition("/")[2].partition(".")[0] for name in one.images.names}
        for split, one in data.splits.items()
    }


def wanted(data):
    return {name: [(label, tuple(map(float, edges))) for label, edges in boxes] for name, boxes in data.items()}


@pytest.mark.parametrize("name", box_files.FORMATS)
def test_every_format_gives_the_same_boxes(name, tmp_path):
    data = rows()
    made = box_files.FORMATS[name](tmp_path / "set", data)
    assert has_boxes(made)
    found = open_boxed(made)
    assert found.classes == ("cat", "dog")
    assert boxes_of(found) == wanted(data)
    assert not [one for one in found.findings if one.kind != "no-boxes"]
    for split in found.splits.values():
        assert split.images.read(0).size == SIZE
        assert len(split) == len(split.boxes) == len(split.others)
    assert open_boxed(made).fingerprint == found.fingerprint


def test_the_class_of_an_image_is_that_of_its_largest_box(tmp_path):
    data = rows()
    data["im0"] = [("dog", (10, 10, 30, 30)), ("cat", (20, 20, 90, 80)), ("cat", (1, 2, 9, 9))]
    found = open_boxed(voc(tmp_path / "set", data)).split("all")
    index = found.images.names.index("JPEGImages/im0.jpg")
    assert found.images.classes[found.images.labels[index]] == "cat"
    assert found.boxes[index].tolist() == [[20, 20, 90, 80], [1, 2, 9, 9]]
    labels, corners = found.others[index]
    assert (labels.tolist(), corners.tolist()) == ([1], [[10, 10, 30, 30]])


def test_splits_are_held_out_as_from_a_folder_whatever_the_order(tmp_path):
    data = rows(40)
    found = open_boxed(voc(tmp_path / "set", data))
    assert {split: len(names) for split, names in names_of(found).items()} == {"train": 28, "val": 4, "test": 8}
    assert found.held_out == ("test", "val")
    again = open_boxed(voc(tmp_path / "again", dict(reversed(data.items()))))
    assert names_of(again) == names_of(found)
    plain = found.as_data_set()
    assert (plain.name, plain.classes, len(plain.train)) == ("set", ("cat", "dog"), 28)
    assert describe_boxes(found) == "set: 2 classes, 28 train, 4 val, 8 test images, 40 boxes"
    with pytest.raises(UserError, match="has no split 'dev'"):
        found.split("dev")


def test_one_class_is_enough(tmp_path):
    assert open_boxed(voc(tmp_path / "set", rows(20, ["cat"]))).classes == ("cat",)


def test_lists_of_the_voc_are_its_splits(tmp_path):
    data = rows(12)
    folder = voc(tmp_path / "VOC2007", data)
    lists = {"train": range(6), "val": range(6, 8), "test": range(8, 11)}
    (folder / "ImageSets/Main").mkdir(parents=True)
    for split, numbers in lists.items():
        (folder / f"ImageSets/Main/{split}.txt").write_text("".join(f"im{number}\n" for number in numbers))
    found = open_boxed(folder)
    assert names_of(found) == {split: {f"im{number}" for number in numbers} for split, numbers in lists.items()}
    assert found.validation == "the list ImageSets/Main/val.txt"
    assert [one.fault for one in found.findings] == ["is in no list of a split"]  # im11
    assert names_of(open_boxed(tmp_path)) == names_of(found)  # a folder above it
    (folder / "ImageSets/Main/val.txt").write_text("im6\nim99\n")
    with pytest.raises(UserError, match="lists im99 in val, which has no annotation"):
        open_boxed(folder)
    (folder / "ImageSets/Main/val.txt").write_text("im5\n")
    with pytest.raises(UserError, match="im5 is in two lists"):
        open_boxed(folder)
    for name in ("train", "val", "test"):
        (folder / f"ImageSets/Main/{name}.txt").unlink()
    (folder / "ImageSets/Main/trainval.txt").write_text("".join(f"im{number}\n" for number in range(8)))
    (folder / "ImageSets/Main/test.txt").write_text("im8\nim9\n")
    found = names_of(open_boxed(folder))
    assert found["test"] == {"im8", "im9"}
    assert len(found["train"]) + len(found["val"]) == 8


@pytest.mark.parametrize("name", ["voc", "labelimg", "coco", "labelme", "yolo"])
def test_folders_of_splits_have_annotations_each(name, tmp_path):
    data = list(rows(16).items())
    for split, some in (("train", data[:10]), ("valid", data[10:13]), ("test", data[13:])):
        made = box_files.FORMATS[name](tmp_path / "set" / split, dict(some))
        if name == "yolo":
            (made / "data.yaml").write_text("train: images/train\nnames: [cat, dog]\n")
    found = open_boxed(tmp_path / "set")
    assert names_of(found) == {
        "train": {one for one, _ in data[:10]},
        "val": {one for one, _ in data[10:13]},
        "test": {one for one, _ in data[13:]},
    }
    assert boxes_of(found) == wanted(dict(data))
    assert not found.held_out
    assert found.train.images.source == found.val.images.source


def test_roboflows_folders(tmp_path):
    data = list(rows(16).items())
    for split, some in (("train", data[:12]), ("valid", data[12:])):
        images(tmp_path / split, dict(some))
        (tmp_path / split / "_annotations.coco.json").write_text(json.dumps(coco_content(dict(some))))
    assert {split: len(names) for split, names in names_of(open_boxed(tmp_path)).items()} == {"train": 12, "val": 4}


def test_coco_files_are_splits_by_their_names(tmp_path):
    data = list(rows(16).items())
    (tmp_path / "annotations").mkdir()
    for split, some in (("train2017", data[:12]), ("val2017", data[12:])):
        same = {f"im{index}": boxes for index, (_, boxes) in enumerate(some)}  # the same names in both folders
        images(tmp_path / split, same)
        (tmp_path / f"annotations/instances_{split}.json").write_text(json.dumps(coco_content(same)))
    found = open_boxed(tmp_path)
    assert {split: len(one) for split, one in found.splits.items()} == {"train": 12, "val": 4}
    assert found.val.images.names[0] == "val2017/im0.jpg"
    (tmp_path / "annotations/instances_train2017.json").rename(tmp_path / "annotations/instances_a.json")
    (tmp_path / "annotations/instances_val2017.json").rename(tmp_path / "annotations/instances_b.json")
    with pytest.raises(UserError, match="has several COCO files"):
        open_boxed(tmp_path)


def test_splits_of_yolo(tmp_path):
    data = list(rows(16).items())
    for split, some in (("train", data[:12]), ("valid", data[12:])):
        images(tmp_path / split / "images", dict(some))
        (tmp_path / split / "labels").mkdir()
        for name, boxes in some:
            (tmp_path / split / "labels" / f"{name}.txt").write_text(yolo_lines(boxes))
    yaml = "train: ../train/images\nval: ../valid/images\nnc: 2\nnames: ['cat', 'dog']\n"
    (tmp_path / "data.yaml").write_text(yaml)
    for given in (tmp_path, tmp_path / "data.yaml"):
        found = open_boxed(given)
        assert {split: len(one) for split, one in found.splits.items()} == {"train": 12, "val": 4}
    (tmp_path / "train.txt").write_text("".join(f"./train/images/{name}.jpg\n" for name, _ in data[:9]))
    (tmp_path / "data.yaml").write_text(yaml.replace("../train/images", "train.txt"))
    assert len(open_boxed(tmp_path).train) == 9


def test_yolo_without_a_yaml_has_classes_txt(tmp_path):
    made = box_files.yolo(tmp_path / "set", rows())
    (made / "data.yaml").unlink()
    with pytest.raises(UserError, match=r"has images/ and labels/ but no data\.yaml"):
        open_boxed(made)
    (made / "labels" / "classes.txt").write_text("cat\ndog\n")
    assert open_boxed(made).classes == ("cat", "dog")


def test_annotations_in_folders_of_their_own(tmp_path):
    data = rows(20)
    for number in (0, 1):  # the same names in both
        some = {f"im{index}": data[f"im{2 * index + number}"] for index in range(10)}
        images(tmp_path / f"JPEGImages/{number}", some)
        (tmp_path / f"Annotations/{number}").mkdir(parents=True)
        for name, boxes in some.items():
            (tmp_path / f"Annotations/{number}/{name}.xml").write_text(xml(name, boxes))
    found = open_boxed(tmp_path).split("all")
    assert len(found) == 20
    for index, name in enumerate(found.images.names):
        assert found.images.classes[found.images.labels[index]] == ("cat" if "JPEGImages/0" in name else "dog")


def test_polygons_become_the_boxes_around_them(tmp_path):
    made = box_files.yolo(tmp_path / "yolo", rows())
    (made / "labels/train/im0.txt").write_text("0 0.1 0.2 0.5 0.1 0.3 0.6\n")
    assert boxes_of(open_boxed(made))["im0"] == [("cat", (12.0, 9.0, 60.0, 54.0))]
    made = box_files.labelme(tmp_path / "labelme", rows())
    record = json.loads((made / "im0.json").read_text())
    record["shapes"] = [
        {"label": "cat", "shape_type": "polygon", "points": [[12, 20], [60, 9], [30, 54]]},
        {"label": "cat", "shape_type": "circle", "points": [[50, 40], [53, 44]]},
        {"label": "cat", "shape_type": "point", "points": [[50, 40]]},
    ]
    (made / "im0.json").write_text(json.dumps(record))
    found = open_boxed(made)
    assert boxes_of(found)["im0"] == [("cat", (12.0, 9.0, 60.0, 54.0)), ("cat", (45.0, 35.0, 55.0, 45.0))]
    assert [(one.kind, one.done) for one in found.findings] == [("not-a-box", "left out")]


def test_splits_and_groups_of_a_table(tmp_path):
    made = box_files.table(tmp_path, rows(20))
    lines = made.read_text().splitlines()
    splits = ["train"] * 14 + ["valid"] * 2 + ["test"] * 4
    made.write_text("\n".join([f"{lines[0]},split", *(f"{a},{b}" for a, b in zip(lines[1:], splits, strict=True))]))
    assert {split: len(one) for split, one in open_boxed(made).splits.items()} == {"train": 14, "val": 2, "test": 4}
    assert len(open_boxed(tmp_path).train) == 14  # the folder with one such table
    groups = [f"g{index // 4}" for index in range(20)]
    made.write_text("\n".join([f"{lines[0]},group", *(f"{a},{b}" for a, b in zip(lines[1:], groups, strict=True))]))
    found = names_of(open_boxed(made))
    of_group = {f"im{index}": groups[index] for index in range(20)}
    sides = [{of_group[name] for name in names} for names in found.values()]
    assert sum(map(len, sides)) == len(set.union(*sides)) == 5
    images(tmp_path / "all", ["im0"])
    made.write_text("file,class,x1,y1,x2,y2,split\nall/im0.jpg,cat,1,1,9,9,train\nall/im0.jpg,cat,2,2,9,9,val\n")
    with pytest.raises(UserError, match=r"line 3: all/im0.jpg is in val here and in train in line 2"):
        open_boxed(made)


def test_other_columns_and_sizes(tmp_path):
    data = rows(20)
    made = box_files.table(tmp_path, data, "filename,label,xmin,ymin,xmax,ymax")
    assert boxes_of(open_boxed(made)) == wanted(data)
    lines = [f"all/{name}.jpg;{120};{90};cat;20;10;50;40" for name in data]
    made.write_text("\n".join(["filename;width;height;class;x;y;w;h", *lines]))
    assert boxes_of(open_boxed(made))["im3"] == [("cat", (20.0, 10.0, 70.0, 50.0))]
    lines = [f"all/{name}.jpg,cat,20,10,50,40" for name in data]
    made.write_text("\n".join(["file,class,x,y,width,height", *lines]))
    assert boxes_of(open_boxed(made))["im3"] == [("cat", (20.0, 10.0, 70.0, 50.0))]


def test_names_that_people_write(tmp_path):
    """Another ending, a path of another machine, a hash before the name: the image is found, and said."""
    made = box_files.coco(tmp_path / "coco", rows())
    content = coco_content(rows())
    for image, name in zip(content["images"], ["C:\\photos\\im0.jpg", "0a1b2c3d-im1.jpg", "im2.png"], strict=False):
        image["file_name"] = name
    (made / "annotations/instances_default.json").write_text(json.dumps(content))
    found = open_boxed(made)
    assert len(found.split("all")) == 20
    assert [(one.kind, one.done) for one in found.findings] == [
        ("image-name", "im1.jpg taken"),
        ("image-name", "im2.jpg taken"),
    ]
    made = voc(tmp_path / "voc", rows())
    (made / "Annotations/im3.xml").write_text(xml("im3", rows()["im3"], filename="im4.jpg"))
    found = open_boxed(made)
    assert len(found.split("all")) == 20
    assert [(one.file, one.done) for one in found.findings] == [("Annotations/im3.xml", "im3.jpg taken")]


@pytest.mark.parametrize("shift", [0, 1])
def test_the_voc_counts_from_one_unless_an_edge_says_otherwise(shift, tmp_path):
    data = rows()
    made = voc(tmp_path / "set", data)
    (made / "Annotations/im0.xml").write_text(xml("im0", [("cat", (0, 10, 70, 60))], shift=0))
    for name in list(data)[1:]:
        (made / f"Annotations/{name}.xml").write_text(xml(name, data[name], shift=shift))
    moved = boxes_of(open_boxed(made))["im5"][0][1]
    assert moved[:2] == (25.0 + shift, 15.0 + shift)  # an edge at 0: they are taken as they are


def test_without_boxes(tmp_path, make_folder):
    folder = make_folder("photos", {"cat": 3, "dog": 3})
    shutil.copy(__file__, folder / "cat" / "note.xml")
    assert not has_boxes(folder)
    assert not has_boxes(tmp_path / "nowhere")
    assert not has_boxes("digits")
    (tmp_path / "labels.csv").write_text("file,label\na.png,cat\n")
    assert not has_boxes(tmp_path / "labels.csv")
    with pytest.raises(UserError, match=r"no boxes in .*: give a folder of the Pascal VOC .*; or shapes"):
        open_boxed(folder)
    with pytest.raises(UserError, match="there is no"):
        open_boxed(tmp_path / "nowhere")


@pytest.mark.parametrize("name", ["voc", "labelimg", "coco", "yolo", "csv"])
def test_boxes_in_the_place_of_classes_are_sent_to_localise(name, tmp_path):
    made = box_files.FORMATS[name](tmp_path / "set", {**rows(), "im1": [("cat", (1, 1, 9, 9)), ("dog", (5, 5, 9, 9))]})
    with pytest.raises(UserError, match=f"has boxes around objects, .* verydeep localise train .*{made.name} learns"):
        open_data(made)


def test_images_without_boxes_are_left_out_and_named(tmp_path):
    made = voc(tmp_path / "set", rows())
    images(made / "JPEGImages", ["alone"])
    (made / "Annotations/im1.xml").write_text(xml("im1", []))
    found = open_boxed(made)
    assert len(found.split("all")) == 19
    assert {(one.kind, one.file, one.fault) for one in found.findings} == {
        ("no-boxes", "JPEGImages/alone.jpg", "has no annotation"),
        ("no-boxes", "JPEGImages/im1.jpg", "has no box"),
    }
