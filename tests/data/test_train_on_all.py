"""Training on all images: the validation images join, and no error of theirs is called validation."""

import numpy as np
import pytest

from verydeep.data.dataset import train_on_all
from verydeep.data.open import open_data
from verydeep.errors import UserError


def test_all_images_are_trained_on(make_folder):
    data = open_data(make_folder("photos", {"a": 20, "b": 10}))
    whole = train_on_all(data)
    assert sorted(whole.train.names) == sorted([*data.train.names, *data.val.names])
    labels = dict(zip(data.train.names, data.train.labels, strict=True))
    labels |= dict(zip(data.val.names, data.val.labels, strict=True))
    assert dict(zip(whole.train.names, whole.train.labels, strict=True)) == labels
    assert (whole.val.split, whole.val.names) == ("train", data.val.names)
    assert set(whole.val.names) <= set(whole.train.names)
    assert whole.test is data.test
    assert whole.validation.startswith("none")
    assert whole.fingerprint != data.fingerprint
    assert not set(whole.train.names) & set(whole.test.names)


def test_images_in_memory_come_along():
    data = open_data("digits")
    whole = train_on_all(data)
    for index in (0, len(data.train) - 1, len(data.train), len(whole.train) - 1):
        images, own = (data.train, index) if index < len(data.train) else (data.val, index - len(data.train))
        assert np.array_equal(np.asarray(whole.train.read(index)), np.asarray(images.read(own)))
    assert len(whole.train.decoded) == len(whole.train)


def test_they_join_once(make_folder):
    root = make_folder("photos/train", {"a": 10, "b": 10})
    make_folder("photos/val", {"a": 3, "b": 3})
    data = open_data(root.parent)
    assert train_on_all(data).train.names  # beside the training images they can join
    with pytest.raises(UserError, match=r"photos has validation images of its own.*--no-validation is for"):
        train_on_all(train_on_all(data))
