"""Folders and names become data sets, with splits that nobody has to trust."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from conftest import picture
from verydeep.data.dataset import describe, hold_out
from verydeep.data.image_set import ImageSet, count_per_class
from verydeep.data.listing import natural_key
from verydeep.data.open import open_data
from verydeep.data.sources import FolderSource, read_ahead
from verydeep.errors import UserError
from verydeep.images.decode import DamagedImageError


def names_of(data):
    return {split: set(data.split(split).names) for split in ("train", "val", "test")}


def test_class_folders_alone_are_split_80_20_and_a_tenth(make_folder):
    data = open_data(make_folder("photos", {"cats": 50, "dogs": 30}))
    assert data.classes == ("cats", "dogs")
    assert count_per_class(data.split("test")) == [10, 6]
    assert count_per_class(data.val) == [4, 2]
    assert count_per_class(data.train) == [36, 22]
    names = names_of(data)
    assert not names["train"] & names["val"]
    assert not names["test"] & (names["train"] | names["val"])
    assert data.split() is data.test
    assert names_of(open_data(make_folder("again", {"cats": 50, "dogs": 30}))) == names


def test_one_more_image_moves_few_others(make_folder):
    before = names_of(open_data(make_folder("one", {"cats": 50, "dogs": 30})))
    after = names_of(open_data(make_folder("two", {"cats": 51, "dogs": 30})))
    assert len(before["test"] ^ after["test"]) <= 2


@pytest.mark.parametrize("val", ["val", "validation", "valid"])
def test_split_folders(val, make_folder):
    root = make_folder("set/train", {"b10": 6, "b2": 5}).parent
    make_folder(f"set/{val}", {"b2": 2, "b10": 3})
    data = open_data(root)
    assert data.classes == ("b2", "b10")
    assert count_per_class(data.train) == [5, 6]
    assert count_per_class(data.val) == [2, 3]
    assert data.split() is data.val
    assert val in data.validation
    with pytest.raises(UserError, match="it has train, val"):
        data.split("test")


def test_train_and_test_alone_hold_a_tenth_of_train_out(make_folder):
    root = make_folder("set/train", {"a": 20, "b": 20}).parent
    make_folder("set/test", {"a": 3, "b": 4})
    data = open_data(root)
    assert (len(data.train), len(data.val), len(data.split("test"))) == (36, 4, 7)
    assert all(name.startswith("train/") for name in data.val.names)
    assert "stratified tenth" in data.validation


def test_labels_come_from_train_even_when_a_split_lacks_a_class(make_folder):
    """The trap: classes listed from the other split would call c b."""
    root = make_folder("set/train", {"a": 4, "b": 4, "c": 4}).parent
    make_folder("set/val", {"a": 2, "c": 2})
    assert open_data(root).val.labels.tolist() == [0, 0, 2, 2]


def test_hidden_folders_and_other_files_do_not_count(make_folder):
    root = make_folder("photos", {"a": 10, "b": 10, ".ipynb_checkpoints": 3, "__MACOSX": 2})
    (root / "a" / "notes.txt").write_text("none")
    picture(0, 8, 8).save(root / "a" / ".hidden.png")
    (root / "a" / "more").mkdir()
    picture(0, 8, 8).save(root / "a" / "more" / "deep.png")
    data = open_data(root)
    assert data.classes == ("a", "b")
    assert sum(count_per_class(data.split(split))[0] for split in ("train", "val", "test")) == 11


def spoil(kind, root, make_folder):
    match kind:
        case "missing":
            return root / "nothing"
        case "a file":
            (root / "file.txt").write_text("x")
            return root / "file.txt"
        case "no folders":
            (root / "flat").mkdir()
            picture(0, 8, 8).save(root / "flat" / "a.png")
            return root / "flat"
        case "empty class":
            folder = make_folder("photos", {"a": 5, "b": 5})
            (folder / "c").mkdir()
            return folder
        case "one class":
            return make_folder("photos", {"a": 5})
        case "unknown class in val":
            make_folder("photos/train", {"a": 5, "b": 5})
            make_folder("photos/val", {"a": 2, "B": 2})
        case "no train":
            make_folder("photos/val", {"a": 5, "b": 5})
        case "two validations":
            for name in ("train", "val", "valid"):
                make_folder(f"photos/{name}", {"a": 5, "b": 5})
        case "one image a class":
            make_folder("photos", {"a": 1, "b": 1})
    return root / "photos"


@pytest.mark.parametrize(
    ("kind", "complaint"),
    [
        ("missing", "no data .*digits"),
        ("a file", "is a file"),
        ("no folders", "has no class folders"),
        ("empty class", "class 'c' has no images"),
        ("one class", "at least two"),
        ("unknown class in val", "class 'B' of .*val is not among the classes of train"),
        ("no train", "but no train/"),
        ("two validations", "val/ and valid/"),
        ("one image a class", "too few images"),
    ],
)
def test_folders_that_make_no_data_set(kind, complaint, tmp_path, make_folder):
    with pytest.raises(UserError, match=complaint):
        open_data(spoil(kind, tmp_path, make_folder))


def test_digits():
    data = open_data("digits")
    assert (len(data.train) + len(data.val) + len(data.split("test")), len(data.split("test"))) == (1797, 359)
    assert not data.mirror
    assert data.classes == tuple("0123456789")
    image = data.train.read(0)
    assert (image.mode, image.size, np.asarray(image).max()) == ("RGB", (8, 8), 239)
    assert open_data("digits").fingerprint == data.fingerprint
    assert "1,295 train" in describe(data)


def test_fingerprint_follows_names_sizes_and_labels(make_folder):
    fingerprints = {open_data(make_folder(name, {"a": 8, "b": 8})).fingerprint for name in ("one", "two")}
    assert len(fingerprints) == 1
    third = make_folder("three", {"a": 8, "b": 8})
    (third / "a" / "0.png").write_bytes((third / "a" / "0.png").read_bytes() + b"\0")
    assert open_data(third).fingerprint not in fingerprints


@pytest.mark.parametrize(
    ("names", "order"),
    [
        (["10", "9", "2"], ["2", "9", "10"]),
        (["b2", "a10", "B1", "a9"], ["a9", "a10", "B1", "b2"]),
        (["x", "1"], ["1", "x"]),
    ],
)
def test_natural_order(names, order):
    assert sorted(names, key=natural_key) == order


@given(st.lists(st.text(max_size=6), max_size=8))
def test_natural_order_is_total(names):
    sorted(names, key=natural_key)


@given(st.lists(st.integers(0, 3), min_size=1, max_size=60), st.floats(0.05, 0.5))
def test_hold_out_is_stratified_and_loses_nothing(labels, share):
    images = ImageSet(
        split="train",
        classes=("a", "b", "c", "d"),
        names=[f"{index}.png" for index in range(len(labels))],
        labels=np.array(labels, dtype=np.int64),
        source=FolderSource(Path("never read")),
    )
    rest, aside = hold_out(images, share, "val")
    assert sorted([*rest.names, *aside.names]) == sorted(images.names)
    for have, rests, asides in zip(count_per_class(images), count_per_class(rest), count_per_class(aside), strict=True):
        assert rests + asides == have
        assert asides == (min(max(1, round(share * have)), have - 1) if have else 0)


def spoiled_folder(make_folder):
    root = make_folder("photos", {"a": 20, "b": 20})
    data = open_data(root)
    bad = Path(data.train.where(3))
    bad.write_bytes(b"no image")
    return open_data(root).train, bad


def test_damaged_images_are_fatal_and_named_before_training(make_folder):
    train, bad = spoiled_folder(make_folder)
    with pytest.raises(DamagedImageError, match=rf"{bad.name} .*--damaged skip"):
        train.checked()


def test_damaged_images_can_be_left_out(make_folder):
    train, bad = spoiled_folder(make_folder)
    kept, skipped = train.checked(skip_damaged=True, memory=10**9)
    assert skipped == [bad.relative_to(train.source.root).as_posix()]
    assert len(kept) == len(train) - 1
    assert skipped[0] not in kept.names
    for index in range(len(kept)):
        assert np.array_equal(
            np.asarray(kept.read(index)), np.asarray(train.read(train.names.index(kept.names[index])))
        )


def test_memory_bounds_what_is_held(make_folder):
    train = open_data(make_folder("photos", {"a": 20, "b": 20})).train
    kept, _ = train.checked(memory=5 * 4 * 42 * 40)
    assert 0 < len(kept.decoded) <= 6
    assert not train.checked(memory=0)[0].decoded


def test_images_that_have_no_file_stay_in_memory():
    test = open_data("digits").split("test")
    kept, _ = test.checked(memory=0)
    assert np.array_equal(np.asarray(kept.read(7)), np.asarray(test.read(7)))


def test_reading_ahead_keeps_the_order_and_passes_errors_on():
    assert list(read_ahead(lambda index: index * index, range(200))) == [index * index for index in range(200)]
    with pytest.raises(ZeroDivisionError):
        list(read_ahead(lambda index: 1 // (index - 50), range(100)))
