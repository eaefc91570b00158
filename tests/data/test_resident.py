"""Crops cut on a device: the law of TrainingView, a whole batch at once. On the processor here; tests/gpu has a GPU."""

import numpy as np
import pytest
import torch
from numpy.lib.stride_tricks import sliding_window_view
from PIL import Image

from conftest import picture
from verydeep.data.augment import TrainingView, principal_shifts
from verydeep.data.datasets import open_data
from verydeep.data.image_set import ImageSet
from verydeep.data.images import rescale
from verydeep.data.resident import hold_on_device, resident_batches
from verydeep.data.stores import PictureStore
from verydeep.errors import UsageError, UserError


def images_of(*pictures):
    return ImageSet(
        split="train",
        classes=("a", "b"),
        names=[str(index) for index in range(len(pictures))],
        labels=np.arange(len(pictures)) % 2,
        store=PictureStore("pictures", {str(index): np.asarray(one) for index, one in enumerate(pictures)}),
        decoded={index: np.asarray(one) for index, one in enumerate(pictures)},
    )


def addresses(height, width):
    """An image whose red is the row and whose green is the column."""
    rows, columns = np.mgrid[:height, :width].astype(np.uint8)
    return Image.fromarray(np.stack([rows, columns, np.full_like(rows, 7)], axis=-1))


def crops_of(held, view, count, *, seed=0, margin=0, index=0):
    generator = torch.Generator().manual_seed(seed)
    return held.crops(torch.full((count,), index), view, generator, margin=margin)


def has_window(whole, crop):
    windows = sliding_window_view(whole, crop.shape, axis=(0, 1, 2))
    return (windows == crop).all((-1, -2, -3)).any()


def test_crops_are_windows_of_the_rescaled_images_or_of_their_mirror_images():
    pictures = [picture(0, 90, 60), picture(1, 50, 80), picture(2, 64, 64)]
    scales = range(40, 44)
    held = hold_on_device(images_of(*pictures), "cpu", scales=(40, 43))
    view = TrainingView(crop=32, train_scale=(40, 43), mirror=True)
    for index, image in enumerate(pictures):
        wholes = [np.asarray(rescale(image, scale)) for scale in scales]
        wholes += [whole[:, ::-1] for whole in wholes]
        seen = set()
        for crop in crops_of(held, view, 60, index=index).permute(0, 2, 3, 1).numpy():
            found = [number for number, whole in enumerate(wholes) if has_window(whole, crop)]
            assert found
            seen.add(found[0])
        assert seen == set(range(8))


def test_places_are_uniform_and_half_of_the_crops_are_mirrored():
    held = hold_on_device(images_of(addresses(36, 40)), "cpu", scales=(36, 36))
    view = TrainingView(crop=32, train_scale=(36, 36), mirror=True)
    crops = crops_of(held, view, 9000)
    mirrored = crops[:, 1, 0, 0] > crops[:, 1, 0, -1]
    assert 0.48 < mirrored.float().mean() < 0.52
    tops, lefts = crops[:, 0, 0, 0], crops[:, 1, 0].amin(1)
    counts = torch.bincount(tops.long() * 9 + lefts.long())
    assert len(counts) == 5 * 9
    assert counts.min() > 140
    assert counts.max() < 260
    still = crops_of(held, TrainingView(crop=32, train_scale=(36, 36), mirror=False), 100)
    assert (still[:, 1, 0, 0] < still[:, 1, 0, -1]).all()


def test_crops_over_the_edge_see_the_image_reflected():
    held = hold_on_device(images_of(addresses(32, 32)), "cpu", scales=(32, 32))
    view = TrainingView(crop=32, train_scale=(32, 32), mirror=False)
    padded = np.pad(np.asarray(addresses(32, 32)), ((4, 4), (4, 4), (0, 0)), mode="reflect")
    crops = crops_of(held, view, 400, margin=4).permute(0, 2, 3, 1).numpy()
    assert all(has_window(padded, crop) for crop in crops)
    assert len({crop.tobytes() for crop in crops}) > 70


def test_the_colour_shift_is_that_of_the_training_view():
    grey = Image.new("RGB", (32, 32), (120, 128, 136))
    shifts = principal_shifts(np.array([[4000.0, 3500, 3000], [3500, 4200, 3600], [3000, 3600, 4400]]))
    view = TrainingView(crop=32, train_scale=(32, 32), mirror=False, colour_shift=shifts)
    held = hold_on_device(images_of(grey, Image.new("RGB", (32, 32), "white")), "cpu", scales=(32, 32))
    crops = crops_of(held, view, 4000).short()
    assert (crops == crops[:, :, :1, :1]).all()
    ours = crops[:, :, 0, 0].double().numpy() - (120, 128, 136)
    generator = np.random.default_rng(0)
    theirs = np.stack([view(np.asarray(grey), generator)[0, 0] for _ in range(4000)]).astype(float) - (120, 128, 136)
    assert np.abs(ours.mean(0)).max() < 0.5
    assert np.cov(ours.T) == pytest.approx(np.cov(theirs.T), rel=0.15)
    assert crops_of(held, view, 200, index=1).min() > 200


def test_an_epoch_holds_every_image_once_with_its_label(make_folder):
    train = open_data(make_folder("photos", {"dark": 20, "bright": 15})).train
    held = hold_on_device(train, "cpu", scales=(32, 40))
    view = TrainingView(crop=32, train_scale=(32, 40), mirror=True)
    whole = list(resident_batches(held, view, batch_size=8, seed=1, epoch=2))
    assert [len(images) for images, _, _ in whole] == [8, 8, 8, 1]
    assert sorted(torch.cat([indices for _, _, indices in whole]).tolist()) == list(range(len(train)))
    for images, labels, indices in whole:
        assert images.dtype == torch.uint8
        assert images.is_contiguous(memory_format=torch.channels_last)
        assert labels.tolist() == train.labels[indices.numpy()].tolist()
        # natural order: bright is class 0
        assert torch.equal(images.float().mean((1, 2, 3)) < 128, labels == 1)
    rest = list(resident_batches(held, view, batch_size=8, seed=1, epoch=2, first=2))
    for batch, again in zip(whole[2:], rest, strict=True):
        assert all(torch.equal(*pair) for pair in zip(batch, again, strict=True))
    for seed, epoch in ((1, 3), (2, 2)):
        other = next(iter(resident_batches(held, view, batch_size=8, seed=seed, epoch=epoch)))
        assert not torch.equal(whole[0][0], other[0])
    assert len(list(resident_batches(held, view, batch_size=8, seed=1, epoch=2, drop_last=True))) == 3


def test_what_does_not_fit_is_refused(make_folder):
    train = open_data(make_folder("photos", {"dark": 5, "bright": 5})).train
    with pytest.raises(UserError, match="train images at the scales 32 to 40 take more than"):
        hold_on_device(train, "cpu", scales=(32, 40), most_bytes=100_000)
    held = hold_on_device(train, "cpu", scales=(32, 32))
    with pytest.raises(UsageError, match="held at the scales"):
        crops_of(held, TrainingView(crop=32, train_scale=(32, 40), mirror=True), 1)
    with pytest.raises(UsageError, match="crop 64 with margin 4 does not fit images of scale 32"):
        crops_of(held, TrainingView(crop=64, train_scale=(32, 32), mirror=True), 1, margin=4)
