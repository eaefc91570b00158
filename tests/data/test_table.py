"""A CSV becomes a data set, with groups that stay on one side, or one line says what is wrong with it."""

import csv
import io
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from conftest import picture
from verydeep.data.dataset import hold_out, hold_out_groups
from verydeep.data.doctor import examine
from verydeep.data.image_set import ImageSet, count_per_class
from verydeep.data.open import open_data
from verydeep.data.sources import FolderSource
from verydeep.data.table import read_table
from verydeep.errors import UserError


@pytest.fixture
def images(tmp_path):
    """Twenty pictures of each of two classes, as a photographer's folder: all in one."""
    (tmp_path / "all").mkdir()
    for index in range(40):
        picture(index, 40, 44).save(tmp_path / "all" / f"{index}.png")
    return tmp_path


def write(folder, rows, header="file,label", name="photos.csv", encoding="utf-8"):
    (folder / name).write_bytes("\n".join([header, *rows, ""]).encode(encoding))
    return folder / name


def plain(count=40):
    return [f"all/{index}.png,{'cat' if index < count // 2 else 'dog'}" for index in range(count)]


def files_of(data):
    return {split: set(images.names) for split, images in data.splits.items()}


def test_a_table_without_splits_is_split_like_a_folder(images):
    data = open_data(write(images, plain()))
    assert (data.name, data.classes) == ("photos", ("cat", "dog"))
    assert [count_per_class(images) for images in data.splits.values()] == [[14, 14], [2, 2], [4, 4]]
    assert data.train.read(0).size == (40, 44)
    again = open_data(write(images, plain()[::-1], name="again.csv"))
    assert files_of(again) == files_of(data)  # whatever the order of the rows
    relabelled = open_data(write(images, [row.replace("cat", "ant") for row in plain()], name="other.csv"))
    assert relabelled.classes == ("ant", "dog")
    assert data.fingerprint == open_data(write(images, plain())).fingerprint


@pytest.mark.parametrize("val", ["val", "Validation", "valid"])
def test_splits_of_a_table(val, images):
    splits = ["train"] * 10 + [val] * 5 + ["test"] * 5
    rows = [f"{row},{split}" for row, split in zip(plain(), splits * 2, strict=True)]
    data = open_data(write(images, rows, "file,label,split"))
    assert [count_per_class(images) for images in data.splits.values()] == [[10, 10], [5, 5], [5, 5]]
    assert data.validation == "the rows of the split val"
    train_only = open_data(write(images, [f"{row},train" for row in plain()], "file,label,split"))
    assert (len(train_only.train), len(train_only.val), train_only.test) == (36, 4, None)


@pytest.mark.parametrize(
    ("header", "line"),
    [
        ("path;class", "all/{0}.png;{1}"),
        ("filename\ttarget", "all/{0}.png\t{1}"),
        ("Image , Label", '"all/{0}.png", "{1}"'),
        (",file,label,comment", '{0},all/{0}.png,{1},"one, and ""two"""'),  # pandas writes its index so
        ("width;label;file;height", "640;{1};all/{0}.png;480"),
        ("file,label", "./all/../all/{0}.png,{1}"),
        ("file,label", "all\\{0}.png,{1}"),
    ],
)
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
def test_tables_as_programs_write_them(header, line, encoding, images):
    rows = [line.format(index, "naïve" if index % 2 else "2") for index in range(40)]
    table = write(images, [*rows[:20], "", *rows[20:]], header, encoding=encoding)
    table.write_bytes(table.read_bytes().replace(b"\n", b"\r\n"))
    data = open_data(table)
    assert data.classes == ("2", "naïve")
    assert sum(len(images) for images in data.splits.values()) == 40


def test_absolute_paths_and_tab_separated_files(images, tmp_path_factory):
    rows = [f"{images}/{row}".replace(",", "\t") for row in plain()]
    data = open_data(write(tmp_path_factory.mktemp("elsewhere"), rows, "file\tlabel", name="photos.tsv"))
    assert len(data.train) == 28
    data.test.read(0)


def test_classes_are_those_of_training_in_natural_order(images):
    rows = [f"all/{index}.png,{10 if index < 20 else 9},{'train' if index % 2 else 'test'}" for index in range(40)]
    assert open_data(write(images, rows, "file,label,split")).classes == ("9", "10")
    rows[0] = "all/0.png,11,test"
    with pytest.raises(UserError, match=r"line 2: class '11' of test is not among the classes of train"):
        open_data(write(images, rows, "file,label,split"))


def test_a_group_stays_on_one_side(images):
    rows = [f"{row},{index // 4}" for index, row in enumerate(plain())]
    data = open_data(write(images, rows, "file,label,group"))
    splits_of = {}
    for split, found in data.splits.items():
        for name in found.names:
            splits_of.setdefault(int(name[4:-4]) // 4, set()).add(split)
    assert all(len(splits) == 1 for splits in splits_of.values())
    assert [count_per_class(images) for images in data.splits.values()] == [[12, 12], [4, 4], [4, 4]]
    assert data.validation == "a tenth of the training images, held out group by group"


def test_groups_hold_val_out_where_only_train_and_test_are_named(images):
    rows = [f"{row},{'test' if index % 20 < 4 else 'train'},g{index // 4}" for index, row in enumerate(plain())]
    data = open_data(write(images, rows, "file,label,split,group"))
    assert [count_per_class(images) for images in data.splits.values()] == [[12, 12], [4, 4], [4, 4]]


def test_rows_without_a_group_are_held_out_one_by_one(images):
    rows = [f"{row},{'series' if index < 3 else ''}" for index, row in enumerate(plain())]
    data = open_data(write(images, rows, "file,label,group"))
    assert [count_per_class(images) for images in data.splits.values()] in (
        [[14, 14], [2, 2], [4, 4]],
        [[15, 14], [1, 2], [4, 4]],
    )


@pytest.mark.parametrize(
    ("header", "rows", "problem"),
    [
        ("name,label", [], r"photos\.csv has no column 'file' \(or filename, path, image\).* names name, label"),
        ("file,kind", [], "has no column 'label'"),
        ("file,path,label", [], "the columns file and path both mean file: rename one"),
        ("", [], "has no column 'file'.* names nothing"),
        ("file,label", [], "has no rows below its first line"),
        ("file,label", ["all/0.png,cat", "all/77.png,dog"], r"line 3: .*all/77\.png is not there: paths are relative"),
        ("file,label", ["all,cat"], "line 2: .*all is a folder"),
        ("file,label", ["all/0.png,cat", "all/1.png,"], "line 3 has no label: fill it in"),
        ("file,label", ["all/0.png"], "line 2 has no label"),
        ("file,label", [",cat"], "line 2 has no file"),
        ("file,label", ["all/0.png,cat,dog"], "line 2 has 3 fields and the first line 2: put quotes"),
        ("file,label", ['"all/0.png,cat', "all/1.png,dog"], "line 2 has no label|line 2 has a line break"),
        ("file,label", ["all/0.png,cat", "", "./all/0.png,cat"], r"line 4: \./all/0\.png stands in line 2 too: keep"),
        ("file,label", ["all/0.png,cat", "all/0.png,dog"], "stands in line 2 too, as 'cat' and as 'dog'"),
        ("file,label", ["all/0.png,cat", "all/1.png,cat"], "one class to train on, 'cat'"),
        ("file,label,split", ["all/0.png,cat,training"], "line 2 has the unknown split 'training': give one of train,"),
        ("file,label,split", ["all/0.png,cat,"], "line 2 has no split"),
        ("file,label,split", ["all/0.png,cat,test"], "no rows of the split train"),
        (
            "file,label,split,group",
            ["all/0.png,cat,train,a", "all/1.png,dog,test,a"],
            "line 3: the group 'a' is in test here and in train in line 2: keep it in one split",
        ),
        ("file,label,group", ["all/0.png,cat,a", "all/1.png,dog,a"], "too few groups to set some aside for test"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(header, rows, problem, images):
    with pytest.raises(UserError, match=problem) as raised:
        open_data(write(images, rows, header))
    assert "\n" not in str(raised.value)


def test_tables_of_other_encodings_and_with_endless_fields(images):
    with pytest.raises(UserError, match="not in UTF-8: save it as CSV UTF-8"):
        open_data(write(images, ["all/0.png,Kätzchen"], encoding="latin-1"))
    with pytest.raises(UserError, match="after line 2: field larger than field limit"):
        open_data(write(images, ["all/0.png,cat", "x" * 140_000]))
    with pytest.raises(UserError, match=r"no data 'nowhere\.csv'"):
        open_data("nowhere.csv")


@given(st.lists(st.tuples(st.text(max_size=12), st.text(max_size=12)), min_size=1, max_size=8))
def test_any_text_survives_a_csv(tmp_path_factory, pairs):
    written = io.StringIO()
    csv.writer(written).writerows([("file", "label"), *pairs])
    table = tmp_path_factory.mktemp("table") / "any.csv"
    table.write_bytes(written.getvalue().encode("utf-8", "replace"))
    try:
        rows = read_table(table)
    except UserError:
        assert any(not part.strip() or "\n" in part or "\r" in part for pair in pairs for part in pair)
    else:
        assert len(rows) <= len(pairs)


def labelled(labels):
    names = [f"{index}.png" for index in range(len(labels))]
    classes = tuple(str(label) for label in range(max(labels) + 1))
    return ImageSet(split="train", classes=classes, names=names, labels=np.array(labels), source=FolderSource(Path()))


@given(st.lists(st.integers(0, 3), min_size=1, max_size=60), st.sampled_from([0.1, 0.2, 0.5]))
def test_groups_of_one_image_are_held_out_as_without_groups(labels, share):
    images = labelled(labels)
    rest, held_out = hold_out_groups(images, images.names, share, "test")
    expected_rest, expected = hold_out(images, share, "test")
    assert (rest.names, held_out.names) == (expected_rest.names, expected.names)


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 9)), min_size=1, max_size=80), st.randoms())
def test_groups_are_never_divided_and_each_class_keeps_an_image(pairs, random):
    images, groups = labelled([label for label, _ in pairs]), [f"g{group}" for _, group in pairs]
    rest, held_out = hold_out_groups(images, groups, 0.2, "test")
    group_of = dict(zip(images.names, groups, strict=True))
    sides = [{group_of[name] for name in side.names} for side in (rest, held_out)]
    assert not sides[0] & sides[1]
    assert sorted([*rest.names, *held_out.names]) == sorted(images.names)
    assert all(count or not whole for count, whole in zip(count_per_class(rest), count_per_class(images), strict=True))
    order = list(range(len(images)))
    random.shuffle(order)
    again = hold_out_groups(images.subset(order), [groups[index] for index in order], 0.2, "test")[1]
    assert Counter(again.names) == Counter(held_out.names)


def test_large_groups_set_one_aside_for_each_class():
    labels = [label for label in (0, 1) for _ in range(30)]
    groups = [f"{index // 10}" for index in range(60)]  # three of ten images a class: a tenth is three images
    _, held_out = hold_out_groups(labelled(labels), groups, 0.1, "val")
    assert count_per_class(held_out) == [10, 10]


def test_the_doctor_examines_the_files_of_a_table(images):
    (images / "all/3.png").write_bytes((images / "all/2.png").read_bytes())
    (images / "all/4.png").write_bytes(b"no picture")
    rows = [f"{row},{'test' if index % 4 == 3 else 'train'}" for index, row in enumerate(plain())]
    diagnosis = examine(write(images, rows, "file,label,split"))
    assert [(finding.kind, finding.severity) for finding in diagnosis.findings] == [
        ("damaged", "fatal"),
        ("duplicate", "warning"),
    ]
    assert diagnosis.splits == {"train": 26, "val": 4, "test": 10}
