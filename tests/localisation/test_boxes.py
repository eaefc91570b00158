"""Boxes: what a net predicts and back, overlaps against torchvision and a slow loop, boxes of maps."""

import numpy as np
import pytest
import torch

from verydeep.images.augment import CropPlace
from verydeep.localisation.boxes import clip, decode, decode_map, encode, iou


def random_boxes(count, seed=0, width=500, height=375):
    edges = np.sort(np.random.default_rng(seed).random((count, 2, 2)) * (width, height), 1)
    return edges.reshape(count, 4)


PLACES = [
    CropPlace(size=(341, 256), original=(500, 375), left=17, top=32, crop=224),
    CropPlace(size=(341, 256), original=(500, 375), left=17, top=32, crop=224, mirrored=True),
    CropPlace(size=(64, 64), original=(500, 375), left=0, top=0, crop=64),
]


def slowly(a, b):
    width, height = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    both = max(width, 0) * max(height, 0)
    union = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - both
    return both / union if union > 0 else 0.0


def test_overlaps_are_those_of_a_slow_loop_and_of_torchvision():
    ops = pytest.importorskip("torchvision.ops")
    a, b = random_boxes(40, 1), random_boxes(30, 2)
    b[:5] = a[:5]
    b[5:10, 2:] = a[5:10, :2]  # they touch
    found = iou(a, b)
    assert found.tolist() == pytest.approx(np.array([[slowly(x, y) for y in b] for x in a]), abs=1e-15)
    theirs = ops.box_iou(torch.from_numpy(a), torch.from_numpy(b)).numpy()
    np.testing.assert_allclose(found, theirs, atol=1e-15)


def test_overlaps_are_those_of_pycocotools():
    mask = pytest.importorskip("pycocotools.mask", reason="pycocotools is not installed: pip install pycocotools")
    a, b = random_boxes(40, 1), random_boxes(30, 2)
    corner_and_size = [np.concatenate([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]], 1) for boxes in (a, b)]
    np.testing.assert_allclose(iou(a, b), mask.iou(*corner_and_size, [0] * 30), atol=1e-12)


def test_boxes_without_an_area_overlap_nothing():
    points = np.array([[3.0, 3, 3, 3], [0, 0, 9, 9], [4, 4, 2, 2]])
    assert iou(points, points).tolist() == [[0, 0, 0], [0, 1, 0], [0, 0, 0]]


def test_a_code_is_centre_and_size_in_parts_of_the_crop():
    place = CropPlace(size=(200, 100), original=(400, 200), left=50, top=0, crop=100)
    assert encode(np.array([[100.0, 0, 300, 200]]), place).tolist() == [[0.5, 0.5, 1, 1]]
    assert encode(np.array([[110.0, 20, 130, 60]]), place).tolist() == [[0.1, 0.2, 0.1, 0.2]]
    mirrored = CropPlace(size=(200, 100), original=(400, 200), left=50, top=0, crop=100, mirrored=True)
    assert encode(np.array([[110.0, 20, 130, 60]]), mirrored).tolist() == [[0.9, 0.2, 0.1, 0.2]]


@pytest.mark.parametrize("place", PLACES)
def test_decoding_undoes_encoding(place):
    boxes = random_boxes(50)
    np.testing.assert_allclose(decode(encode(boxes, place), place), boxes, atol=1e-9)
    np.testing.assert_allclose(decode(encode(boxes, place).astype(np.float32), place), boxes, atol=1e-3)


def test_a_size_below_zero_is_none():
    place = PLACES[0]
    left, top, right, bottom = decode(np.array([0.5, 0.5, -0.3, 0.2]), place)
    assert left == right
    assert bottom > top


@pytest.mark.parametrize("mirrored", [False, True])
def test_a_map_is_decoded_crop_by_crop(mirrored):
    """Each position alone, with the crop it sees: 32 pixels further, from the other side in a mirror image."""
    codes = np.random.default_rng(0).random((8, 3, 5)).astype(np.float32)
    width = 224 + 4 * 32
    first = CropPlace(
        size=(365, 295), original=(500, 404), left=6 + (width - 224 if mirrored else 0), top=3, crop=224,
        mirrored=mirrored,
    )  # fmt: skip
    found = decode_map(codes, first)
    assert found.shape == (2, 15, 4)
    for number, (row, column) in enumerate(np.ndindex(3, 5)):
        left = 6 + (width - 224 - 32 * column if mirrored else 32 * column)
        place = CropPlace(
            size=(365, 295), original=(500, 404), left=left, top=3 + 32 * row, crop=224, mirrored=mirrored
        )
        expected = decode(codes[:, row, column].reshape(2, 4), place)
        np.testing.assert_allclose(found[:, number], expected, atol=1e-9)


def test_boxes_end_at_the_edges_of_the_image():
    assert clip(np.array([[-5.0, 3, 700, 9]]), (640, 8)).tolist() == [[0, 3, 640, 8]]
