"""Rescaling without a squash, and the middle of an image."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from conftest import centre_crop, pillow_rescale, scene, trim
from verydeep.images.decode import decode_pixels
from verydeep.images.geometry import rescale, rescaled_centre, rescaled_size, size_of


@given(st.integers(1, 5000), st.integers(1, 5000), st.integers(1, 600))
def test_rescaled_size_keeps_the_shape(width, height, scale):
    new = rescaled_size((width, height), scale)
    assert min(new) == scale
    longer = max(width, height) * scale / min(width, height)
    assert abs(max(new) - longer) <= 0.5
    assert (new[0] <= new[1]) == (width <= height) or new[0] == new[1]


def test_rescaling_has_antialiasing():
    """A checkerboard of single pixels becomes grey, not black and white."""
    board = Image.fromarray(((np.indices((512, 512)).sum(0) % 2) * 255).astype(np.uint8)).convert("RGB")
    small = np.asarray(pillow_rescale(board, 32))[2:-2, 2:-2]
    assert small.min() > 120
    assert small.max() < 136


@given(st.integers(1, 90), st.integers(1, 90))
def test_trim_is_about_the_centre(width, height):
    pixels = np.arange(width * height).reshape(height, width).astype(np.int32)
    trimmed = np.asarray(trim(Image.fromarray(pixels), 8))
    rows, columns = height // 8 * 8, width // 8 * 8
    if rows and columns:
        top, left = (height - rows) // 2, (width - columns) // 2
        assert np.array_equal(trimmed, pixels[top : top + rows, left : left + columns])


def test_centre_crop():
    crop = centre_crop(Image.fromarray(np.arange(35, dtype=np.uint8).reshape(5, 7)), 3, 3)
    assert np.array_equal(np.asarray(crop), np.arange(35).reshape(5, 7)[1:4, 2:5])


@pytest.mark.parametrize("kernel", ["", "none"])
def test_the_rescaled_middle_of_photographs(shared_photos, monkeypatch, kernel):
    """Decoding, rescaling and cropping in one step: the pixels of Pillow's three steps."""
    monkeypatch.setenv("VERYDEEP_RESAMPLE", kernel)
    for file in shared_photos[:8]:
        with Image.open(file) as image:
            expected = np.asarray(centre_crop(pillow_rescale(image.convert("RGB"), 256), 224, 224)).astype(int)
        pixels = rescaled_centre(decode_pixels(file.read_bytes(), file.name), 256, 224)
        assert np.abs(pixels - expected).mean() <= 0.3


@pytest.mark.parametrize("kernel", ["", "none"])
@pytest.mark.parametrize("size", [(90, 61), (61, 90), (64, 64)])
def test_rescaled_and_trimmed(monkeypatch, kernel, size):
    monkeypatch.setenv("VERYDEEP_RESAMPLE", kernel)
    image = scene(5, *size)
    pixels = np.asarray(image)
    assert size_of(pixels) == size
    assert np.array_equal(rescale(pixels, 45), np.asarray(pillow_rescale(image, 45)))
    difference = rescale(pixels, 45, 32).astype(int) - np.asarray(trim(pillow_rescale(image, 45), 32))
    assert np.abs(difference).mean() <= 0.3
