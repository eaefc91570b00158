"""The built-in set with boxes: the same from a seed, its boxes around what is drawn, too hard for a mean box."""

import pickle

import numpy as np
import pytest

from verydeep.data.boxes.open import has_boxes, open_boxed, open_shapes
from verydeep.data.open import open_data
from verydeep.data.shapes import CLASSES, COUNTS, SIZES, ShapesSource, _mask


def overlap(first, second):
    """Intersection over union, the plain way."""
    width = min(first[2], second[2]) - max(first[0], second[0])
    height = min(first[3], second[3]) - max(first[1], second[1])
    both = max(0, width) * max(0, height)
    areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (first, second)]
    return both / (sum(areas) - both)


def sides(images, name):
    size, _, _ = images.images.source.objects(name)
    return np.array([*size, *size], dtype=np.float64)


def right_share(images, box, label=None):
    """Share of the images, of a class where one is given, for which a box in shares of the image is right."""
    found = [
        max(overlap(box * sides(images, name), one) for one in boxes) > 0.5
        for name, boxes, own in zip(images.images.names, images.boxes, images.images.labels, strict=True)
        if label in (None, own)
    ]
    return np.mean(found)


def test_the_mean_box_is_wrong_three_times_out_of_four():
    data = open_boxed("shapes")
    train, labels = data.train, data.train.images.labels
    shares = np.array(
        [boxes[0] / sides(train, name) for boxes, name in zip(train.boxes, train.images.names, strict=True)]
    )
    assert right_share(data.test, shares.mean(0)) <= 0.25
    assert right_share(data.test, np.array([0.0, 0.0, 1.0, 1.0])) <= 0.25
    for label in range(len(data.classes)):  # nor does the class say where its objects are
        assert right_share(data.test, shares[labels == label].mean(0), label) <= 0.35


def test_it_is_a_set_of_classes_and_of_boxes():
    data, boxed = open_data("shapes"), open_boxed("shapes")
    assert has_boxes("shapes")
    assert {split: len(images) for split, images in data.splits.items()} == COUNTS
    assert data.classes == boxed.classes == CLASSES[:6]
    assert boxed.as_data_set().fingerprint == data.fingerprint != boxed.fingerprint
    assert boxed.as_data_set().validation == data.validation
    for images in boxed.splits.values():
        assert np.bincount(images.images.labels).std() < 2
        for name, boxes in zip(images.images.names, images.boxes, strict=True):
            assert len(boxes)
            assert (boxes >= 0).all()
            assert (boxes[:, :2] < boxes[:, 2:]).all()
            assert (boxes[:, 2:] <= sides(images, name)[2:]).all()
    assert sum(len(labels) for labels, _ in boxed.train.others) > 100  # objects of other classes


def test_an_image_is_the_same_each_time_and_in_another_process():
    source = ShapesSource()
    again = pickle.loads(pickle.dumps(source))
    assert again == source
    first = source.pixels("train/00007.png")
    assert np.array_equal(first, again.pixels("train/00007.png"))
    assert first.shape[1::-1] in SIZES
    others = [
        source.pixels("train/00008.png"),
        source.pixels("val/00007.png"),
        ShapesSource(seed=1).pixels("train/00007.png"),
    ]
    assert all(first.shape != other.shape or (first != other).mean() > 0.5 for other in others)


def test_any_number_and_size():
    source = ShapesSource(seed=3, num_classes=8, sizes=((200, 150),))
    data = open_shapes(source, {"train": 24, "val": 8, "test": 8})
    assert (len(data.train), data.classes) == (24, CLASSES)
    assert data.train.images.read(0).size == (200, 150)
    assert set(data.train.images.labels.tolist()) == set(range(8))
    assert data.fingerprint != open_shapes(ShapesSource(num_classes=8), {"train": 24, "val": 8, "test": 8}).fingerprint


@pytest.mark.parametrize("label", range(len(CLASSES)))
@pytest.mark.parametrize("size", [(40, 30), (17, 60), (8, 8)])
def test_an_object_fills_its_box(label, size):
    mask = np.asarray(_mask(label, *size))
    rows, columns = np.nonzero(mask)
    assert [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1] == [0, 0, *size]


def test_the_box_is_where_the_object_is():
    """Pixels of the object's colour, or of its outline, lie in the box and reach its edges."""
    source, near = ShapesSource(), 0
    for index in range(40):
        name = f"test/{index:05d}.png"
        _, objects, _ = source.objects(name)
        if len(objects) > 1:
            continue
        like = (np.abs(source.pixels(name).astype(int) - objects[0].colour) < 25).all(2)
        left, top, right, bottom = (int(edge) for edge in objects[0].corners)
        inside = like[top:bottom, left:right].mean()
        outside = (like.sum() - like[top:bottom, left:right].sum()) / (like.size - (bottom - top) * (right - left))
        near += inside > 2 * outside
    assert near >= 25
