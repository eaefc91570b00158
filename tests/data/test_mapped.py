"""Map-style data sets of Python are opened as a folder of the same images would be, or refused in one line."""

import pickle

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, Dataset, IterableDataset, Subset, TensorDataset
from torchvision.datasets import FakeData, ImageFolder
from torchvision.transforms import v2

import verydeep
from conftest import StopAfter, picture
from verydeep.data.dataset import train_on_all
from verydeep.data.image_set import count_per_class
from verydeep.data.mapped import open_mapped
from verydeep.data.open import open_data
from verydeep.data.shard_writer import write_shards
from verydeep.errors import UsageError, UserError
from verydeep.images.decode import DamagedImageError

QUICK = {"recipe": "quick", "epochs": 2, "device": "cpu", "workers": 0}


def pairs(count=40, make=lambda image: image, labels=("cat", "dog")):
    return [(make(picture(index, 40, 44)), labels[index % 2]) for index in range(count)]


def to_tensor(image):
    return torch.from_numpy(np.asarray(image).copy()).permute(2, 0, 1)


class Lazy(Dataset):
    """Items that are made when they are asked for."""

    def __init__(self, items, **attributes):
        self.items, self.asked = items, []
        vars(self).update(attributes)

    def __len__(self):
        return len(self.items)

    def __getitem__(self, index):
        self.asked.append(index)
        return self.items[index]


def test_a_list_of_pairs():
    data = open_data(pairs())
    assert (data.name, data.classes) == ("pairs", ("cat", "dog"))
    assert [count_per_class(images) for images in data.splits.values()] == [[14, 14], [2, 2], [4, 4]]
    index = int(data.test.names[0].removesuffix(".png"))
    assert np.array_equal(data.test.pixels(0), np.asarray(picture(index, 40, 44)))
    assert open_data(data) is data
    assert open_data(tuple(pairs())).fingerprint == data.fingerprint
    assert open_data(pairs(labels=("dog", "cat"))).fingerprint != data.fingerprint


@pytest.mark.parametrize(
    "make",
    [
        np.asarray,
        to_tensor,
        lambda image: to_tensor(image).float() / 255,
        v2.Compose([v2.ToImage(), v2.ToDtype(torch.float32, scale=True)]),
        lambda image: np.dstack([np.asarray(image), np.full((44, 40), 255, np.uint8)]),
    ],
)
def test_kinds_of_images(make):
    made = open_data(pairs(make=make)).train
    as_given = open_data(pairs()).train
    assert all(np.array_equal(made.pixels(index), as_given.pixels(index)) for index in range(len(made)))


@pytest.mark.parametrize("make", [lambda grey: grey, np.asarray, lambda grey: torch.from_numpy(np.array(grey))[None]])
def test_grey_images(make):
    greys = [picture(index, 40, 44).convert("L") for index in range(20)]
    data = open_data([(make(grey), index % 2) for index, grey in enumerate(greys)])
    index = int(data.train.names[3].removesuffix(".png"))
    assert np.array_equal(data.train.pixels(3), np.dstack([np.asarray(greys[index])] * 3))


@pytest.mark.parametrize(
    ("labels", "classes", "listed"),
    [
        ((1, 0), ("0", "1"), None),
        ((10, 9), ("9", "10"), None),
        (("10", "9"), ("9", "10"), None),
        ((np.int64(1), torch.tensor(0)), ("0", "1"), None),
        ((1, 0), ("cat", "dog"), ["cat", "dog"]),
        (("dog", "cat"), ("dog", "cat"), ["dog", "cat"]),
        ((2, 0), ("a", "b", "c"), ["a", "b", "c"]),
        ((1, 0), ("tench, Tinca tinca", "goldfish"), [("tench", "Tinca tinca"), ("goldfish",)]),
    ],
)
def test_classes(labels, classes, listed):
    data = open_data(Lazy(pairs(labels=labels), **({} if listed is None else {"classes": listed})))
    assert data.classes == classes
    index = int(data.test.names[0].removesuffix(".png"))
    label = labels[index % 2]
    assert data.test.labels[0] == (
        label if listed and not isinstance(label, str) else classes.index(str(int(label)) if listed is None else label)
    )


def test_targets_save_a_reading_of_every_item_where_they_are_right():
    labels = [index % 2 for index in range(40)]
    lazy = Lazy(pairs(labels=(0, 1)), targets=torch.tensor(labels))
    open_data(lazy)
    assert len(lazy.asked) == 8
    wrong = Lazy(pairs(labels=(0, 1)), targets=[1 - label for label in labels])
    data = open_data(wrong)
    assert wrong.asked[-40:] == list(range(40))
    assert all(data.train.labels[i] == int(name.removesuffix(".png")) % 2 for i, name in enumerate(data.train.names))


def test_torchvision_gives_what_the_folder_gives(make_folder):
    root = make_folder("photos", {"a": 20, "b": 20})
    data, folder = open_data(ImageFolder(root)), open_data(root)
    assert (data.name, data.classes) == ("ImageFolder", folder.classes)
    assert sum(int(data.train.pixels(index).sum()) for index in range(28)) > 0
    fake = open_data(FakeData(60, (3, 48, 40), 3))
    assert fake.classes == ("0", "1", "2")
    assert fake.train.pixels(0).shape == (48, 40, 3)
    part = open_data(Subset(FakeData(60, (3, 48, 40), 3), range(30)))
    assert len(part.train) + len(part.val) + len(part.test) == 30


def test_splits_that_are_given():
    data = open_data({"train": pairs(20), "val": pairs(6), "test": pairs(4)})
    assert [len(images) for images in data.splits.values()] == [20, 6, 4]
    assert (data.train.names[1], data.test.names[1]) == ("train/000001.png", "test/000001.png")
    assert data.validation == "the data set given as val"
    with pytest.raises(UsageError, match=r"pairs has the label 'cow', which is none of the classes of train"):
        open_data({"train": pairs(20), "test": pairs(4, labels=("cat", "cow"))})
    with pytest.raises(UsageError, match="no split train"):
        open_data({"test": pairs(4)})
    with pytest.raises(UsageError, match="a split 'training': name them train, val and test"):
        open_data({"training": pairs(4)})


class Endless(IterableDataset):
    def __iter__(self):
        return iter(pairs())


class NoLength(Dataset):
    def __getitem__(self, index):
        return pairs()[index]


@pytest.mark.parametrize(
    ("given", "problem"),
    [
        (7, "int is no data set: give a name, a path, or what has a length and items"),
        (iter(pairs()), "list_iterator is no data set"),
        (Endless(), "Endless is no data set"),
        (NoLength(), "NoLength is no data set"),
        (DataLoader(pairs()), "DataLoader is no data set"),
        ([], "list for train is empty"),
        (
            [picture(0, 8, 8)] * 4,
            r"the label of pairs\[0\] is missing: the item is a Image: give a data set whose items",
        ),
        ([{"image": 1, "label": 2}] * 4, r"the item is a dict: .*\(row\['image'\], row\['label'\]\)"),
        (TensorDataset(torch.zeros(4, 3, 8, 8)), "the item is a tuple"),
        (pairs(labels=(0.5, 1.5)), r"the label of pairs\[0\] is 0\.5, of type float: give an int or a str"),
        (pairs(labels=(None, "a")), "is None, of type NoneType"),
        (pairs(labels=(1, "a")), "labels of both kinds, such as 1 and 'a'"),
        (pairs(labels=("a", "a")), "one class, 'a'"),
        (Lazy(pairs(labels=(0, 2)), classes=["a", "b"]), "Lazy has the label 2, which is none of the classes"),
    ],
)
def test_what_is_no_data_set_is_refused(given, problem):
    with pytest.raises(UsageError, match=problem) as raised:
        open_mapped(given)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("make", "problem"),
    [
        (lambda image: "photo.jpg", r"the image of pairs\[\d+\] is a str: give an image of Pillow"),
        (lambda image: np.asarray(image).astype(float), r"an array \(44, 40, 3\) of float64: give"),
        (lambda image: np.moveaxis(np.asarray(image), 2, 0), r"an array \(3, 44, 40\) of uint8"),
        (lambda image: to_tensor(image)[None], r"a tensor \(1, 3, 44, 40\) of uint8"),
        (lambda image: to_tensor(image).long(), r"a tensor \(3, 44, 40\) of int64"),
        (lambda image: to_tensor(image).float(), r"floats from .*: give 0\.\.1, or uint8, and leave Normalize out"),
    ],
)
def test_what_is_no_image_is_refused(make, problem):
    images = open_data(pairs(make=make)).train
    with pytest.raises(UsageError, match=problem):
        images.pixels(0)


class Broken(Lazy):
    targets = (0, 1) * 20

    def __getitem__(self, index):
        if index == 13:
            raise OSError("the disk is gone")
        return super().__getitem__(index)


def test_items_that_cannot_be_made_are_damaged_images():
    whole = open_data(Broken(pairs(labels=(0, 1)))).splits
    (split,) = (split for split, images in whole.items() if "000013.png" in images.names)
    with pytest.raises(DamagedImageError, match=r"Broken\[13\] cannot be read as an image: the disk is gone"):
        whole[split].checked()
    assert whole[split].checked(skip_damaged=True)[1] == ["000013.png"]


def test_random_images_keep_the_fingerprint():
    flips = FakeData(40, (3, 40, 40), 2, transform=v2.Compose([v2.ToImage(), v2.RandomCrop(32)]))
    assert open_data(flips).fingerprint == open_data(flips).fingerprint
    assert len(train_on_all(open_data(flips)).fingerprint) == 64


def test_it_goes_to_other_processes_and_into_shards(tmp_path):
    data = open_data(pairs())
    again = pickle.loads(pickle.dumps(data))
    assert np.array_equal(again.train.pixels(3), data.train.pixels(3))
    write_shards(data, tmp_path / "shards")
    shards = open_data(tmp_path / "shards")
    assert np.array_equal(shards.train.pixels(3), data.train.pixels(3))
    assert shards.train.names == data.train.names


@pytest.mark.parametrize("workers", [0, 1])
def test_fit_evaluate_and_resume(workers, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    fake = FakeData(60, (3, 40, 40), 2, transform=v2.ToImage())
    net = verydeep.VeryDeep("A", num_classes=2, crop=32, width=0.125)
    quick = QUICK | {"workers": workers}
    whole = verydeep.fit(net, fake, out="whole", **quick)
    assert whole.finished
    assert net.classes == ("0", "1")
    result = verydeep.evaluate("whole", fake)
    assert (len(result.labels), result.split) == (12, "test")

    net = verydeep.VeryDeep("A", num_classes=2, crop=32, width=0.125)
    stopped = verydeep.fit(net, fake, out="stopped", reporter=StopAfter(1), **quick)
    assert not stopped.finished
    with pytest.raises(UserError, match="began with data that were given in Python, <FakeData>: give them to resume"):
        verydeep.resume("stopped")
    with pytest.raises(UserError, match="the data in <FakeData> are not those"):
        verydeep.resume("stopped", data=FakeData(61, (3, 40, 40), 2))
    assert verydeep.resume("stopped", data=fake).finished


def test_train_chooses_the_crop_and_the_name_of_the_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run = verydeep.train(pairs(), architecture="A", width=0.125, **QUICK)
    assert run.run.name == "pairs-A"
    assert run.net.geometry.crop == 32
