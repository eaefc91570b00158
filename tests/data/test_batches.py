"""Batches: every image once, the same for any number of workers, never padded."""

import numpy as np
import torch

from verydeep.data.augment import TrainingView
from verydeep.data.batches import batches_by_shape, training_batches
from verydeep.data.datasets import open_data
from verydeep.data.images import rescale

VIEW = TrainingView(crop=32, train_scale=(32, 40), mirror=True)


def test_an_epoch_holds_every_image_once_and_resumes_in_its_middle(make_folder):
    train = open_data(make_folder("photos", {"a": 20, "b": 15})).train
    whole = list(training_batches(train, VIEW, batch_size=8, seed=1, epoch=2))
    assert [len(images) for images, _, _ in whole] == [8, 8, 8, 1]
    assert torch.cat([labels for _, labels, _ in whole]).bincount().tolist() == [14, 11]
    assert whole[0][0].dtype == torch.uint8
    assert whole[0][0].is_contiguous(memory_format=torch.channels_last)
    rest = list(training_batches(train, VIEW, batch_size=8, seed=1, epoch=2, first=2))
    for (images, labels, _), (again, same, _) in zip(whole[2:], rest, strict=True):
        assert torch.equal(images, again)
        assert torch.equal(labels, same)
    other = next(iter(training_batches(train, VIEW, batch_size=8, seed=1, epoch=3)))
    assert not torch.equal(whole[0][0], other[0])


def test_workers_change_nothing(make_folder):
    train = open_data(make_folder("photos", {"a": 20, "b": 15})).train
    alone = list(training_batches(train, VIEW, batch_size=8, seed=1, epoch=0))
    helped = list(training_batches(train, VIEW, batch_size=8, seed=1, epoch=0, workers=2))
    for (images, labels, _), (again, same, _) in zip(alone, helped, strict=True):
        assert torch.equal(images, again)
        assert torch.equal(labels, same)


def test_batches_by_shape_hold_every_image_once_and_whole(make_folder):
    train = open_data(make_folder("photos", {"a": 20, "b": 15})).train
    seen = []
    for indices, images in batches_by_shape(train, lambda image: rescale(image, 40), most_pixels=4 * 40 * 42):
        assert len(indices) <= 4
        for index, image in zip(indices, images, strict=True):
            assert np.array_equal(image.permute(1, 2, 0).numpy(), np.asarray(rescale(train.read(index), 40)))
        seen += indices
    assert sorted(seen) == list(range(len(train)))


def test_an_image_larger_than_the_bound_comes_alone(make_folder):
    train = open_data(make_folder("photos", {"a": 5, "b": 5})).train
    assert all(len(indices) == 1 for indices, _ in batches_by_shape(train, lambda image: image, most_pixels=1))
