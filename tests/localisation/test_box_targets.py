"""Which box a crop is trained on, and crops drawn until they show it."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from boxed_sets import boxed_images
from verydeep.data.batches import LEAST_SHOWN, training_batches
from verydeep.distributed import Processes
from verydeep.images.augment import AreaView, CropPlace, TrainingView
from verydeep.localisation.boxes import decode
from verydeep.localisation.targets import BoxTargets, central_place, errors_on_centres, visible_shares

WHOLE = CropPlace(size=(100, 100), original=(100, 100), left=0, top=0, crop=100, mirrored=False)
RIGHT_HALF = CropPlace(size=(200, 200), original=(100, 100), left=100, top=50, crop=100, mirrored=False)


def with_boxes(*boxes):
    images = boxed_images("train", 1)
    return BoxTargets(replace(images, boxes=[np.array(boxes, float)]))


def test_the_object_that_is_seen_best_is_the_target_then_the_largest():
    targets = with_boxes([0, 40, 60, 70], [60, 30, 80, 60], [82, 30, 98, 60])
    target, share = targets(0, WHOLE)
    assert share == 1
    assert decode(target[None, 1:].astype(float), WHOLE)[0] == pytest.approx([0, 40, 60, 70], abs=1e-4)
    target, share = targets(0, RIGHT_HALF)
    assert share == 1
    assert decode(target[None, 1:].astype(float), RIGHT_HALF)[0] == pytest.approx([60, 30, 80, 60], abs=1e-4)


def test_the_share_that_a_crop_shows():
    assert visible_shares(np.array([[0.0, 40, 60, 70], [60, 30, 80, 60]]), RIGHT_HALF) == pytest.approx([1 / 6, 1])


@pytest.fixture
def boxed():
    return boxed_images("train", 8)


def batches(boxed, view, **options):
    return list(
        training_batches(boxed.images, view, batch_size=3, seed=5, epoch=1, targets=BoxTargets(boxed), **options)
    )


def test_targets_come_beside_the_pixels_of_their_crop(boxed):
    view = TrainingView(crop=32, train_scale=(32, 40), mirror=True)
    found = batches(boxed, view)
    assert [len(images) for images, _, _ in found] == [3, 3, 2]
    for images, targets, samples in found:
        assert targets.dtype == torch.float32
        assert targets.shape == (len(images), 5)
        assert targets[:, 0].tolist() == boxed.images.labels[samples].tolist()
        for image, (_, x, y, width, _) in zip(images, targets.tolist(), strict=True):
            assert min(x + width / 2, 1) - max(x - width / 2, 0) > 0
            column, row = (min(max(int(32 * centre), 0), 31) for centre in (x, y))
            if 0 < x < 1 and 0 < y < 1:  # the middle of the object is bright
                assert image[:, row, column].max() > 120


def test_crops_are_the_same_for_any_number_of_processes_and_workers(boxed):
    view = TrainingView(crop=32, train_scale=(32, 40), mirror=True)
    alone = batches(boxed, view)
    shared = [batches(boxed, view, members=Processes(rank, 2)) for rank in range(2)]
    rows = {sample: target for _, targets, ids in alone for sample, target in zip(ids.tolist(), targets, strict=True)}
    for part in shared:
        for _, targets, ids in part:
            for sample, target in zip(ids.tolist(), targets, strict=True):
                assert torch.equal(rows[sample], target)
    with_workers = batches(boxed, view, workers=1)
    assert all(torch.equal(one[1], other[1]) for one, other in zip(alone, with_workers, strict=True))


def test_crops_are_drawn_again_until_they_show_half_of_a_box(boxed):
    view = TrainingView(crop=32, train_scale=(64, 64), mirror=False)  # a crop shows a quarter of the image
    targets, shares = BoxTargets(boxed), []
    for _, rows, _ in batches(boxed, view):
        for row in rows.numpy():
            place = CropPlace(size=(64, 64), original=(64, 64), left=0, top=0, crop=32, mirrored=False)
            shares.append(visible_shares(decode(row[None, 1:].astype(float), place), place)[0])
    assert np.mean(np.array(shares) >= LEAST_SHOWN) > 0.9
    first = [
        targets(index, view.draw(boxed.images.pixels(index), np.random.default_rng(index)))[1] for index in range(8)
    ]
    assert np.mean(np.array(first) >= LEAST_SHOWN) < 0.7


def test_windows_are_seeded_and_inside_the_image():
    pixels = np.zeros((60, 100, 3), np.uint8)
    view = AreaView(side=32, mirror=True)
    places = [view.draw(pixels, np.random.default_rng(seed)) for seed in range(50)]
    assert places[3] == view.draw(pixels, np.random.default_rng(3))
    for place in places:
        assert 0 <= place.left <= place.size[0] - 32
        assert 0 <= place.top <= place.size[1] - 32
        shown = 32 * 32 * 100 * 60 / (place.size[0] * place.size[1]) / 6000
        assert 0.3 < shown <= 1.01
    assert 10 < sum(place.mirrored for place in places) < 40


def test_any_object_of_the_class_counts_in_the_error():
    boxed = boxed_images("val", 2)
    boxed = replace(boxed, boxes=[np.array([[0.0, 0, 10, 10], [20, 20, 40, 40]])] * 2)
    places = [central_place(boxed.images.pixels(index), 44, 32) for index in range(2)]
    right = BoxTargets(replace(boxed, boxes=[np.array([[20.0, 20, 40, 40]])] * 2))
    outputs = torch.zeros(2, 8)
    outputs[0, :4] = torch.from_numpy(right(0, places[0])[0][1:])
    errors = errors_on_centres(outputs, "pcr", boxed, places)
    assert errors == {"split": "val", "protocol": "centre", "num_images": 2, "localisation_error": 0.5}
