"""Batches: every image once, the same for any number of workers, never padded."""

import numpy as np
import pytest
import torch

from verydeep.data.batches import training_batches, training_order
from verydeep.data.open import open_data
from verydeep.distributed import Processes
from verydeep.images.augment import TrainingView

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


def test_balanced_sampling_draws_every_class_equally_often_and_never_the_same_crop_twice(make_folder):
    train = open_data(make_folder("photos", {"rare": 8, "usual": 80})).train
    drawn = [use for epoch in range(40) for use in training_order(train, seed=0, epoch=epoch, balanced=True)]
    rare = np.mean(train.labels[[use % len(train) for use in drawn]] == 0)
    assert rare == pytest.approx(0.5, abs=4 * (0.25 / len(drawn)) ** 0.5)
    uses = training_order(train, seed=0, epoch=0, balanced=True)
    assert len(uses) == len(set(uses)) == len(train)
    assert len({use % len(train) for use in uses}) < len(train)
    assert uses == training_order(train, seed=0, epoch=0, balanced=True)
    images = torch.cat([images for images, _, _ in training_batches(
        train, VIEW, batch_size=16, seed=0, epoch=0, balanced=True
    )])  # fmt: skip
    often = max({use % len(train) for use in uses}, key=lambda index: sum(use % len(train) == index for use in uses))
    crops = [images[place] for place, use in enumerate(uses) if use % len(train) == often]
    assert len(crops) > 2
    assert not all(torch.equal(crops[0], crop) for crop in crops[1:])


@pytest.mark.parametrize("size", [2, 3, 4])
def test_processes_share_every_batch(size, make_folder):
    train = open_data(make_folder("photos", {"a": 20, "b": 15})).train
    whole = list(training_batches(train, VIEW, batch_size=8, seed=1, epoch=0))
    shares = [
        list(training_batches(train, VIEW, batch_size=8, seed=1, epoch=0, members=Processes(rank, size)))
        for rank in range(size)
    ]
    for number, (images, _, uses) in enumerate(whole):
        theirs = [shares[rank][number] for rank in range(min(size, len(images)))]
        assert sorted(torch.cat([share[2] for share in theirs]).tolist()) == sorted(uses.tolist())
        for rank, share in enumerate(theirs):
            assert torch.equal(share[0], images[rank::size])
    assert len(whole[-1][0]) == 1
    assert all(torch.equal(shares[rank][-1][0], whole[-1][0]) for rank in range(size))
