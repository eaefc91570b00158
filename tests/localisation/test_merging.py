"""Merging of boxes: the fast ways against a slow loop over every pair, to the last bit."""

import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from verydeep.localisation import merging
from verydeep.localisation.merging import find_library, merge


@pytest.fixture(params=["compiled", "numpy"])
def way(request, monkeypatch):
    """Each way of merging that there is."""
    if request.param == "numpy":
        monkeypatch.setattr(merging, "find_library", lambda: None)
    elif find_library() is None:
        pytest.skip("merging.cpp was not built")
    return request.param


def overlap(a, b):
    """The intersection over union of two boxes."""
    width, height = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    if width <= 0 or height <= 0:
        return 0.0
    areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (a, b)]
    return width * height / (areas[0] + areas[1] - width * height)


def merged_slowly(corners, scores, threshold):
    """The same by its definition: every pair is looked at before every merging."""
    boxes = [(tuple(box), list(score), 1) for box, score in zip(corners.tolist(), scores.tolist(), strict=True)]
    while True:
        best, pair = threshold, None
        for i, (one, _, _) in enumerate(boxes):
            for j in range(i + 1, len(boxes)):
                if (found := overlap(one, boxes[j][0])) > best:
                    best, pair = found, (i, j)
        if pair is None:
            return boxes
        i, j = pair
        (one, score, n), (other, more, m) = boxes[i], boxes.pop(j)
        mean = tuple((a * n + b * m) / (n + m) for a, b in zip(one, other, strict=True))
        boxes[i] = mean, [a + b for a, b in zip(score, more, strict=True)], n + m


def assert_as_slowly(corners, scores, threshold):
    found, expected = merge(corners, scores, threshold), merged_slowly(corners, scores, threshold)
    assert found.corners.tolist() == [list(box) for box, _, _ in expected]
    np.testing.assert_allclose(found.scores, np.array([score for _, score, _ in expected]).reshape(-1, scores.shape[1]))
    assert found.counts.tolist() == [count for _, _, count in expected]


whole = st.integers(0, 12).map(float)
edge = st.one_of(whole, st.floats(-5, 20, allow_nan=False))
box = st.tuples(edge, edge, st.integers(0, 9), st.integers(0, 9)).map(lambda b: (b[0], b[1], b[0] + b[2], b[1] + b[3]))


@settings(max_examples=200)
@given(boxes=st.lists(box, max_size=24), threshold=st.sampled_from([0.0, 0.1, 0.3, 0.5, 0.7, 0.9, 1.0]))
@pytest.mark.parametrize("with_library", [True, False])
def test_boxes_are_merged_as_by_the_slow_loop(with_library, boxes, threshold):
    """Whole numbers make ties of every kind; boxes without an area, equal boxes and none at all come up too."""
    if with_library and find_library() is None:
        pytest.skip("merging.cpp was not built")
    corners = np.array(boxes, np.float64).reshape(-1, 4)
    scores = np.random.default_rng(len(boxes)).random((len(boxes), 2))
    with pytest.MonkeyPatch.context() as patch:
        if not with_library:
            patch.setattr(merging, "find_library", lambda: None)
        assert_as_slowly(corners, scores, threshold)


def around_objects(count, objects, seed=0, spread=0.08):
    """Boxes about some objects, as a net predicts them from many positions."""
    generator = np.random.default_rng(seed)
    centre, size = generator.random((objects, 2)) * 400 + 50, generator.random((objects, 2)) * 150 + 50
    of = generator.integers(0, objects, count)
    centre = centre[of] + generator.normal(0, spread, (count, 2)) * size[of]
    size = size[of] * np.exp(generator.normal(0, spread, (count, 2)))
    return np.concatenate([centre - size / 2, centre + size / 2], 1)


@pytest.mark.parametrize("objects", [1, 3, 40])
def test_many_boxes_are_merged_as_by_the_slow_loop(way, objects):
    corners = around_objects(150, objects)
    for threshold in (0.3, 0.6, 0.9):
        assert_as_slowly(corners, np.ones((150, 1)), threshold)


def test_equal_boxes_become_one(way):
    found = merge(np.tile([1.0, 2, 5, 9], (700, 1)), np.full((700, 3), [1.0, 2, 3]), 0.5)
    assert found.corners.tolist() == [[1, 2, 5, 9]]
    assert found.scores.tolist() == [[700, 1400, 2100]]
    assert found.counts.tolist() == [700]


def test_nothing_is_merged_at_a_threshold_of_one(way):
    corners = around_objects(20, 2)
    assert np.array_equal(merge(corners, np.ones((20, 1)), 1).corners, corners)


def test_both_ways_agree_on_thousands(monkeypatch):
    if find_library() is None:
        pytest.skip("merging.cpp was not built")
    corners = around_objects(2000, 7)
    fast = merge(corners, np.ones((2000, 1)), 0.5)
    monkeypatch.setattr(merging, "find_library", lambda: None)
    slow = merge(corners, np.ones((2000, 1)), 0.5)
    assert np.array_equal(fast.corners, slow.corners)
    assert np.array_equal(fast.counts, slow.counts)
    assert len(fast.counts) < 20


@pytest.mark.parametrize("objects", [1, 10, 3000])
def test_ten_thousand_boxes_take_less_than_a_second(objects):
    if find_library() is None:
        pytest.skip("merging.cpp was not built")
    corners, scores = around_objects(10_000, objects), np.ones((10_000, 1))
    begun = time.process_time()
    merge(corners, scores, 0.5)
    assert time.process_time() - begun < 1
