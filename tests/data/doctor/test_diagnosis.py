"""Data sets spoiled on purpose, one way at a time and all at once: each fault is found, by path, and nothing else."""

import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageEnhance, ImageOps

from conftest import picture, scene, unpacked
from verydeep.data.doctor import examine, examine_quickly
from verydeep.data.open import open_data
from verydeep.errors import UserError

TRAIN = "train/cat/0.jpg"


def save_scene(file: Path, seed: int, **options):
    file.parent.mkdir(parents=True, exist_ok=True)
    scene(seed).save(file, quality=95, **options)


@pytest.fixture(scope="session")
def sound_folder(tmp_path_factory):
    """Two splits of three classes; every picture is another."""
    root = tmp_path_factory.mktemp("sound")
    seed = 0
    for split, number in (("train", 12), ("val", 4)):
        for name in ("cat", "dog", "owl"):
            for index in range(number):
                save_scene(root / split / name / f"{index}.jpg", seed)
                seed += 1
    return root


@pytest.fixture
def folder(sound_folder, tmp_path):
    return Path(shutil.copytree(sound_folder, tmp_path / "pets"))


def rotated(root):
    exif = Image.Exif()
    exif[0x0112] = 6
    save_scene(root / "train/cat/1.jpg", 500, exif=exif)


def sixteen_bits(root):
    grey = np.asarray(scene(500).convert("L")).astype(np.uint16) * 257
    Image.fromarray(grey).save(root / "train/cat/deep.png")


def imbalanced(root):
    for index in range(30):
        save_scene(root / f"train/cat/more{index}.jpg", 600 + index)


def without_classes(root):
    (root / "train/Annotations").mkdir()
    (root / "train/Annotations/1.xml").write_text("<xml/>")


def near_duplicate(root):
    image = ImageOps.mirror(Image.open(root / "train/dog/3.jpg"))
    ImageEnhance.Brightness(image).enhance(1.2).save(root / "val/dog/again.jpg", quality=60)


# the fault, what makes it, and the finding: kind, severity, files
FAULTS = {
    "damaged": (
        lambda root: (root / TRAIN).write_bytes((root / TRAIN).read_bytes()[:900]),
        ("damaged", "fatal", [TRAIN]),
    ),
    "empty": (lambda root: (root / "val/dog/1.jpg").write_bytes(b""), ("damaged", "fatal", ["val/dog/1.jpg"])),
    "EXIF-rotated": (rotated, ("exif-rotated", "note", ["train/cat/1.jpg"])),
    "grey": (
        lambda root: scene(501).convert("L").save(root / "val/cat/1.jpg"),
        ("grey", "note", ["val/cat/1.jpg"]),
    ),
    "CMYK": (
        lambda root: scene(502).convert("CMYK").save(root / "train/owl/2.jpg"),
        ("cmyk", "warning", ["train/owl/2.jpg"]),
    ),
    "16-bit": (sixteen_bits, ("16-bit", "warning", ["train/cat/deep.png"])),
    "tiny": (
        lambda root: picture(503, 12, 9).save(root / "train/dog/5.jpg"),
        ("tiny", "warning", ["train/dog/5.jpg"]),
    ),
    "huge": (
        lambda root: scene(504, 2400, 1800).save(root / "train/dog/6.jpg"),
        ("huge", "note", ["train/dog/6.jpg"]),
    ),
    "class missing in a split": (
        lambda root: shutil.rmtree(root / "val/owl"),
        ("class-sets", "warning", ["val/owl"]),
    ),
    "class of a split alone": (
        lambda root: save_scene(root / "val/emu/0.jpg", 505),
        ("class-sets", "fatal", ["val/emu"]),
    ),
    "duplicate across splits": (
        lambda root: shutil.copy(root / "train/cat/7.jpg", root / "val/cat/copy.jpg"),
        ("duplicate", "warning", ["train/cat/7.jpg", "val/cat/copy.jpg"]),
    ),
    "near-duplicate across splits": (
        near_duplicate,
        ("near-duplicate", "warning", ["val/dog/again.jpg", "train/dog/3.jpg"]),
    ),
    "same picture under two classes": (
        lambda root: shutil.copy(root / "train/cat/8.jpg", root / "train/dog/copy.jpg"),
        ("label-conflict", "warning", ["train/cat/8.jpg", "train/dog/copy.jpg"]),
    ),
    "same picture twice": (
        lambda root: shutil.copy(root / "train/cat/9.jpg", root / "train/cat/9 (1).jpg"),
        ("duplicate-within-split", "note", ["train/cat/9 (1).jpg", "train/cat/9.jpg"]),
    ),
    "imbalance": (imbalanced, ("imbalance", "note", [])),
    "folder that is no class": (without_classes, ("no-class-folder", "fatal", ["train/Annotations"])),
    "images outside the classes": (
        lambda root: save_scene(root / "train/lost.jpg", 506),
        ("outside-classes", "warning", ["train/lost.jpg"]),
    ),
    "format that is not read": (
        lambda root: (root / "train/cat/phone.HEIC").write_bytes(b"0"),
        ("unread-format", "warning", ["train/cat/phone.HEIC"]),
    ),
    "two folders of a split": (
        lambda root: shutil.copytree(root / "val", root / "valid", ignore=lambda *_: ["cat", "dog", "owl"]),
        ("split-folders", "fatal", ["val", "valid"]),
    ),
    "a test split without classes": (
        lambda root: save_scene(root / "test/0.jpg", 508),
        ("unlabelled-split", "note", ["test/0.jpg"]),
    ),
    "a strip": (
        lambda root: Image.new("RGB", (12_000, 40)).save(root / "train/owl/3.jpg"),
        ("strip", "fatal", ["train/owl/3.jpg"]),
    ),
    "a link to nothing": (
        lambda root: (root / "train/owl/gone.jpg").symlink_to("nowhere.jpg"),
        ("damaged", "fatal", ["train/owl/gone.jpg"]),
    ),
    "a pipe": (lambda root: os.mkfifo(root / "train/owl/pipe.jpg"), ("damaged", "fatal", ["train/owl/pipe.jpg"])),
    "a split by another name": (
        lambda root: save_scene(root / "Testing/cat/0.jpg", 507),
        ("split-folders", "warning", ["Testing"]),
    ),
}


def found_in(root):
    return [(found.kind, found.severity, list(found.files)) for found in examine(root).findings]


def test_a_sound_folder(folder):
    diagnosis = examine(folder)
    assert diagnosis.findings == []
    assert not diagnosis.is_fatal
    assert diagnosis.as_record() == {
        "data": str(folder),
        "num_images": 48,
        "splits": {"train": 36, "val": 12},
        "classes": ["cat", "dog", "owl"],
        "findings": [],
    }


@pytest.mark.parametrize("fault", FAULTS)
def test_each_fault_is_found_and_nothing_else(fault, folder):
    spoil, finding = FAULTS[fault]
    spoil(folder)
    assert found_in(folder) == [finding]
    assert examine(folder).is_fatal == (finding[1] == "fatal")


def test_all_faults_at_once(folder):
    for spoil, _ in FAULTS.values():
        spoil(folder)
    found = {(kind, severity) for kind, severity, _ in found_in(folder)}
    assert found == {(kind, severity) for _, (kind, severity, _) in FAULTS.values()}
    files = {file for _, _, files in found_in(folder) for file in files}
    assert files >= {file for _, (_, _, files) in FAULTS.values() for file in files}


def test_what_is_fatal_comes_first_and_says_the_remedy(folder):
    for fault in ("grey", "tiny", "damaged"):
        FAULTS[fault][0](folder)
    findings = examine(folder).findings
    assert [finding.severity for finding in findings] == ["fatal", "warning", "note"]
    record = findings[0].as_record()
    assert record["num_files"] == 1
    assert "--damaged skip" in record["remedy"]
    assert "truncated" in record["reasons"][TRAIN]


def test_damage_is_what_a_training_stops_at(folder):
    FAULTS["damaged"][0](folder)
    with pytest.raises(UserError, match="truncated"):
        open_data(folder).train.checked()


def test_imbalance_gives_the_weights_of_the_classes(folder):
    imbalanced(folder)
    (finding,) = examine(folder).findings
    record = finding.as_record()
    assert record["class_counts"] == {"cat": 42, "dog": 12, "owl": 12}
    weights, counts = record["class_weights"], record["class_counts"]
    assert sum(weights[name] * counts[name] for name in counts) == pytest.approx(66, rel=1e-3)
    assert weights["dog"] * 12 == pytest.approx(weights["cat"] * 42, rel=1e-3)
    assert "--set balance=loss" in record["remedy"]
    assert record["ratio"] == 3.5


def test_near_duplicates_between_the_splits_that_are_held_out(sound_folder, tmp_path):
    root = Path(shutil.copytree(sound_folder / "train", tmp_path / "pets"))
    assert found_in(root) == []
    data = open_data(root)
    in_test = data.split("test").names[0]
    copy = Image.open(root / in_test).resize((140, 105))
    kept = next(name for name in data.train.names if name.startswith(in_test.split("/")[0]))
    copy.save(root / kept)
    (finding,) = examine(root).findings
    assert finding.kind == "near-duplicate"
    assert set(finding.files) == {in_test, kept}
    assert finding.details["splits"] == ["test", "train", "val"]
    assert "1 of the 6 images of test" in finding.message
    assert "folder of its own" in finding.remedy


def test_a_near_duplicate_under_another_class_is_counted(folder):
    Image.open(folder / "train/dog/3.jpg").resize((100, 75)).save(folder / "val/owl/3.jpg")
    (finding,) = examine(folder).findings
    assert "1 pair under two classes" in finding.message


def test_a_folder_of_images_is_for_predict(sound_folder):
    diagnosis = examine(sound_folder / "val/cat")
    assert [(found.kind, found.severity) for found in diagnosis.findings] == [("no-classes", "note")]
    assert "predict" in diagnosis.findings[0].remedy
    assert dict(diagnosis.splits) == {"unlabelled": 4}
    assert list(diagnosis.classes) == []


def test_folders_of_boxes_are_no_classes(tmp_path):
    for index in range(4):
        save_scene(tmp_path / f"voc/JPEGImages/{index}.jpg", index)
        (tmp_path / "voc/Annotations").mkdir(exist_ok=True)
        (tmp_path / f"voc/Annotations/{index}.xml").write_text("<xml/>")
    assert found_in(tmp_path / "voc") == [("no-class-folder", "fatal", ["Annotations", "JPEGImages"])]


def test_splits_in_capitals_are_no_classes(sound_folder, tmp_path):
    shutil.copytree(sound_folder / "train", tmp_path / "pets/Train")
    shutil.copytree(sound_folder / "val", tmp_path / "pets/Test")
    (finding,) = examine(tmp_path / "pets").findings
    assert (finding.kind, finding.severity) == ("no-class-folder", "fatal")
    assert "train/, val/ and test/" in finding.remedy


def test_one_folder_around_the_classes(sound_folder, tmp_path):
    shutil.copytree(sound_folder / "train", tmp_path / "pets/inner")
    (finding,) = examine(tmp_path / "pets").findings
    assert (finding.kind, finding.severity) == ("too-few-classes", "fatal")
    assert str(tmp_path / "pets/inner") in finding.remedy


def test_a_missing_train_and_classes_that_are_too_small(sound_folder, tmp_path):
    shutil.copytree(sound_folder / "val", tmp_path / "one/val")
    assert found_in(tmp_path / "one") == [("split-folders", "fatal", ["val"])]
    for name in ("cat", "dog"):
        save_scene(tmp_path / f"two/{name}/0.jpg", len(name + name[0]))
    findings = {finding.kind: finding for finding in examine(tmp_path / "two").findings}
    assert findings["class-sets"].severity == "warning"
    assert findings["refused"].severity == "fatal"
    assert findings["refused"].remedy == "add images to its classes"


@pytest.mark.parametrize("where", ["nowhere", "empty", "file.txt"])
def test_what_holds_no_images(where, tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "file.txt").write_text("x")
    with pytest.raises(UserError, match=where):
        examine(tmp_path / where)


def test_names_that_are_no_unicode(folder):
    (folder / "train/cat/0.jpg").rename(folder / "train/cat/\udcff.jpg")
    assert found_in(folder) == []
    assert found_in(folder / "train") == []


# --- the short form


def test_the_short_form_decodes_nothing(folder, monkeypatch):
    for fault in ("imbalance", "huge", "EXIF-rotated", "near-duplicate across splits"):
        FAULTS[fault][0](folder)
    monkeypatch.setattr(Image.Image, "convert", None)
    findings = examine_quickly(open_data(folder))
    assert [finding.kind for finding in findings] == ["imbalance", "huge", "exif-rotated"]
    assert list(findings[1].files) == ["train/dog/6.jpg"]


def test_the_short_form_knows_names(folder):
    (folder / "train/owl").rename(folder / "train/images")
    shutil.rmtree(folder / "val")
    assert [(found.kind, list(found.files)) for found in examine_quickly(open_data(folder))] == [
        ("no-class-folder", ["images"])
    ]


def test_the_built_in_data_have_no_faults():
    assert examine("digits").findings == []


# --- the real images, where they are at hand


def test_real_photographs(shared_photos):
    found = {kind: files for kind, _, files in found_in(shared_photos[0].parent)}
    assert found.keys() == {"no-classes", "grey", "exif-rotated"}
    assert len(found["grey"]) == 4
    assert len(found["exif-rotated"]) == 1


def test_real_boxes(tmp_path):
    found = {kind: files for kind, _, files in found_in(unpacked("raccoon_voc", tmp_path))}
    assert found.keys() == {"grey", "duplicate", "near-duplicate", "duplicate-within-split"}  # its boxes are sound
    assert len(found["duplicate"]) + len(found["duplicate-within-split"]) == 8
