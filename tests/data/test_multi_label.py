"""Images with several labels: the layout of the Pascal VOC, read, fetched, and refused where it contradicts itself."""

import hashlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from published import closed_address, jpeg, put, serving, tar
from verydeep.data.multi_label import describe_multi_label, open_multi_label, read_voc
from verydeep.data.named import NAMED, fetch
from verydeep.data.open import open_data
from verydeep.errors import UserError

LABELS = {
    "train": {"000001": (1, -1, 1), "000004": (-1, 0, 1), "000005": (-1, 1, -1)},
    "val": {"000002": (1, 1, -1), "000003": (-1, -1, 0)},
    "test": {"000006": (-1, 1, 1), "000007": (1, 0, -1)},
}
CLASSES = ("aeroplane", "bicycle", "person")


def voc(*splits, year="VOC2007"):
    """The files of some splits, as the archives have them."""
    files = {}
    for split in splits:
        for index, name in enumerate(CLASSES):
            lines = "".join(f"{image} {labels[index]:2d}\n" for image, labels in LABELS[split].items())
            files[f"VOCdevkit/{year}/ImageSets/Main/{name}_{split}.txt"] = lines.encode()
        files[f"VOCdevkit/{year}/ImageSets/Main/{split}.txt"] = "\n".join(LABELS[split]).encode()
        files |= {f"VOCdevkit/{year}/JPEGImages/{image}.jpg": jpeg(int(image)) for image in LABELS[split]}
    return files


def write(root, files):
    for name, content in files.items():
        file = root / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)
    return root


@pytest.mark.parametrize("below", ["", "VOCdevkit", "VOCdevkit/VOC2007"])
def test_the_layout_of_the_voc(tmp_path, below):
    write(tmp_path, voc("train", "val", "test"))
    data = open_multi_label(tmp_path / below)
    assert data.name == "voc2007"
    assert data.classes == CLASSES
    for split, images in data.splits.items():
        assert images.targets.tolist() == [list(labels) for labels in LABELS[split].values()]
        assert images.targets.dtype == np.int8
        assert [Path(name).stem for name in images.images.names] == list(LABELS[split])
        assert images.images.read(1).size == (20, 16)
        assert images.images.split == split
    assert "3 classes, several an image, 3 train, 2 val, 2 test images (1.33 classes each)" in describe_multi_label(
        data
    )
    part = data.train.subset([2, 0], "test")
    assert part.targets.tolist() == [[-1, 1, -1], [1, -1, 1]]
    assert part.images.split == "test"


def test_training_and_test_images_in_folders_of_their_own(tmp_path):
    write(tmp_path / "trainval", voc("train", "val"))
    write(tmp_path / "test", voc("test"))
    both = open_multi_label(tmp_path)
    assert {split: len(images) for split, images in both.splits.items()} == {"train": 3, "val": 2, "test": 2}
    assert both.test.images.read(0).mode == "RGB"
    alone = open_multi_label(tmp_path / "trainval")
    assert alone.test is None
    assert alone.fingerprint != both.fingerprint


def test_what_is_no_voc(tmp_path, make_folder):
    assert open_multi_label(make_folder("classes", {"a": 2, "b": 2})) is None
    assert open_multi_label("digits") is None
    with pytest.raises(UserError, match=r"holds no ImageSets/Main/CLASS_train\.txt"):
        read_voc(tmp_path)


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (lambda main: (main / "person_val.txt").unlink(), "there is no .*person_val.txt"),
        (
            lambda main: (main / "person_val.txt").write_text("000002 1\n"),
            "person_val.txt lists other images than aero",
        ),
        (
            lambda main: (main / "person_val.txt").write_text("000002 yes\n"),
            "'000002 yes' is not an image and -1, 0 or 1",
        ),
        (lambda main: [(main / f"{name}_val.txt").write_text("") for name in CLASSES], "lists no images for val"),
        (lambda main: [(main / f"{name}_val.txt").unlink() for name in CLASSES], "no ImageSets/Main/CLASS_val.txt"),
    ],
)
def test_lists_that_contradict_each_other(tmp_path, change, complaint):
    root = write(tmp_path, voc("train", "val"))
    change(root / "VOCdevkit/VOC2007/ImageSets/Main")
    with pytest.raises(UserError, match=complaint) as caught:
        open_multi_label(root)
    assert "\n" not in str(caught.value)


def test_two_years_beside_each_other(tmp_path):
    write(write(tmp_path, voc("train", "val")), voc("train", "val", year="VOC2012"))
    with pytest.raises(UserError, match="holds VOC2007 and VOC2012: give the folder of one of them"):
        open_multi_label(tmp_path / "VOCdevkit")
    assert open_multi_label(tmp_path / "VOCdevkit/VOC2012").name == "voc2012"


@pytest.fixture
def published(tmp_path, monkeypatch):
    """voc2007 as tiny archives with the folders of the true ones."""
    monkeypatch.setenv("VERYDEEP_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("no_proxy", "*")
    files = {
        "VOCtrainval_06-Nov-2007.tar": tar(voc("train", "val"), "w:"),
        "VOCtest_06-Nov-2007.tar": tar(voc("test"), "w:"),
    }

    def make(address, **changes):
        row = NAMED["voc2007"]
        archives = tuple(
            replace(
                archive,
                url=f"{address}/{archive.file}",
                md5=hashlib.md5(files[archive.file]).hexdigest(),
                size=len(files[archive.file]),
            )
            for archive in row.archives
        )
        counts = {"train": 3, "val": 2, "test": 2}
        monkeypatch.setitem(NAMED, "voc2007", replace(row, archives=archives, **{"counts": counts, **changes}))
        return NAMED["voc2007"], files

    return make


def test_fetched_by_name(published, verydeep):
    with serving({}) as server:
        row, server.files = published(server.address)
        with pytest.raises(UserError, match="verydeep fetch voc2007 downloads it"):
            open_multi_label("VOC 2007")
        status, out, _ = verydeep("fetch", "voc2007")
    assert status == 0
    assert "verydeep transfer vgg16-features voc2007" in out
    data = open_multi_label("VOC 2007")
    assert {split: len(images) for split, images in data.splits.items()} == row.counts
    assert sorted(path.name for path in row.folder.iterdir()) == ["test", "trainval"]
    for opens in (open_data, fetch):
        with pytest.raises(UserError, match=r"show several classes each.*verydeep transfer MODEL voc2007"):
            opens("voc2007")


def test_other_counts_than_those_published(published):
    row, files = published(closed_address(), counts={"train": 3, "val": 3, "test": 2})
    put(row, files)
    with pytest.raises(UserError, match="several classes each"):
        fetch("voc2007")  # what lies there by hand is unpacked
    with pytest.raises(UserError, match="images instead of"):
        open_multi_label("voc2007")
