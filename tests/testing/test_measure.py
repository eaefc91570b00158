"""Batches of parts of images: every image once, of one shape, never padded; posteriors of maps."""

import numpy as np
import torch

from conftest import pillow_rescale
from verydeep.data.open import open_data
from verydeep.images.geometry import rescale
from verydeep.testing.measure import MeanPosterior, batches_by_shape, posteriors_of


def pixels_of(images):
    return [images.pixels(index) for index in range(len(images))]


def test_batches_by_shape_hold_every_image_once_and_whole(make_folder, monkeypatch):
    train = open_data(make_folder("photos", {"a": 20, "b": 15})).train
    seen = []

    def parts(image):
        return [(7, rescale(image, 40))]

    monkeypatch.setattr("verydeep.testing.measure.BATCH_PIXELS", 4 * 40 * 42)
    for kind, indices, images in batches_by_shape(map(parts, pixels_of(train))):
        assert kind == 7
        assert len(indices) <= 4
        for index, image in zip(indices, images, strict=True):
            assert np.array_equal(image, np.asarray(pillow_rescale(train.read(index), 40)))
        seen += indices
    assert sorted(seen) == list(range(len(train)))


def test_an_image_larger_than_the_bound_comes_alone(make_folder, monkeypatch):
    train = open_data(make_folder("photos", {"a": 5, "b": 5})).train
    monkeypatch.setattr("verydeep.testing.measure.BATCH_PIXELS", 1)
    batches = list(batches_by_shape([(0, pixels)] for pixels in pixels_of(train)))
    assert len(batches) == len(train)
    assert all(len(indices) == 1 for _, indices, _ in batches)


def test_parts_of_different_kinds_and_shapes_do_not_mix(make_folder, monkeypatch):
    train = open_data(make_folder("photos", {"a": 8, "b": 8})).train

    def parts(image):
        array = np.asarray(image)
        return [(0, array[:20, :20]), (0, array[20:40, 20:40]), (1, array[:20, :20]), (1, array[:10, :30])]

    seen = {(0, 20, 20): [], (1, 20, 20): [], (1, 10, 30): []}
    monkeypatch.setattr("verydeep.testing.measure.BATCH_PIXELS", 7 * 400)
    for kind, indices, images in batches_by_shape(map(parts, pixels_of(train))):
        assert len(indices) == len(images) <= 9
        for index, image in zip(indices, images, strict=True):
            made = [array for of_kind, array in parts(train.read(index)) if of_kind == kind]
            assert any(np.array_equal(image, array) for array in made)
        seen[kind, *images.shape[1:3]] += indices
    once = list(range(len(train)))
    assert sorted(seen[0, 20, 20]) == sorted(once + once)
    assert sorted(seen[1, 20, 20]) == sorted(seen[1, 10, 30]) == once


def test_posteriors_are_the_soft_max_of_the_mean_over_positions():
    maps = torch.randn(4, 7, 3, 5, generator=torch.Generator().manual_seed(0)) * 9
    expected = maps.double().mean((2, 3)).softmax(1).numpy()
    np.testing.assert_allclose(posteriors_of(maps.numpy()), expected, atol=1e-6)
    kept = MeanPosterior(3, 7)
    kept.add([0, 2, 2, 1], maps.numpy(), 0.25)
    kept.add([2, 1], maps[:2].numpy(), 0.5)
    first, second, third, fourth = expected
    by_hand = np.stack([first / 4, fourth / 4 + second / 2, (second + third) / 4 + first / 2])
    np.testing.assert_allclose(kept.finish(), by_hand, atol=1e-6)
