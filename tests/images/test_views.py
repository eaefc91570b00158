"""What a net sees of an image: against a slow loop, and what is refused."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from conftest import picture, pillow_rescale, scene
from verydeep.errors import UserError
from verydeep.images.resample import find_library
from verydeep.images.views import corners_and_centre, grid, grid_offsets, untrimmed, whole


@given(st.integers(0, 5000))
def test_the_grid_goes_evenly_from_edge_to_edge(room):
    offsets = grid_offsets(room)
    assert len(offsets) == 5
    assert (offsets[0], offsets[-1]) == (0, room)
    assert all(abs(offset - room * index / 4) <= 0.5 for index, offset in enumerate(offsets))


def test_crops_are_cut_where_they_should_be():
    image = np.asarray(scene(3, 160, 120))
    array = np.asarray(pillow_rescale(Image.fromarray(image), 90))
    assert array.shape == (90, 120, 3)
    crops = grid(image, 90, 64)
    assert len(crops) == 25
    for number, crop in enumerate(crops):
        top, left = (0, 7, 13, 20, 26)[number // 5], (0, 14, 28, 42, 56)[number % 5]
        assert np.array_equal(crop, array[top : top + 64, left : left + 64])
    five = corners_and_centre(image, 90, 64)
    for crop, (top, left) in zip(five, [(0, 0), (0, 56), (26, 0), (26, 56), (13, 28)], strict=True):
        assert np.array_equal(crop, array[top : top + 64, left : left + 64])


def test_wholes_are_trimmed_about_the_centre_or_not_at_all():
    image = np.asarray(scene(4, 160, 120))
    array = np.asarray(pillow_rescale(Image.fromarray(image), 90))
    trimmed = whole(image, 90, 64)[0]
    assert trimmed.shape == (64, 96, 3)
    # Pillow, where there was no compiler, rounds a window differently
    assert np.abs(trimmed.astype(int) - array[13:77, 12:108]).max() <= (find_library() is None)
    assert np.array_equal(untrimmed(image, 90, 64)[0], array)


@pytest.mark.parametrize("view", [whole, untrimmed, grid, corners_and_centre])
def test_an_image_that_would_fill_the_memory_is_refused_with_the_limit(view):
    with pytest.raises(UserError, match="1x10000 pixels is a strip: one side is more than 200 times as long"):
        view(np.asarray(picture(0, 1, 10_000)), 224, 224)
    with pytest.raises(UserError, match="10x2000 becomes 600x120000 at scale 600, more than 64,000,000"):
        view(np.asarray(picture(0, 10, 2000)), 600, 224)
