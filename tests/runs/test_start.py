"""What a training begins with where nothing is said."""

import pytest

from verydeep.data.open import open_data
from verydeep.runs.net import default_crop


@pytest.mark.parametrize(("side", "crop"), [(32, 32), (100, 96), (256, 224), (400, 224)])
def test_the_crop_fits_the_images(side, crop, make_folder):
    assert default_crop(open_data(make_folder("photos", {"a": 10, "b": 10}, side))) == crop


@pytest.mark.parametrize(("name", "crop"), [("digits", 32), ("clothes", 128)])
def test_the_crop_fits_the_built_in_images(name, crop):
    assert default_crop(open_data(name)) == crop


def test_damaged_images_do_not_choose_the_crop(make_folder):
    root = make_folder("photos", {"a": 10, "b": 10}, 64)
    for file in root.rglob("a/*.png"):
        file.write_bytes(b"")
    assert default_crop(open_data(root)) == 64
    for file in root.rglob("*.png"):
        file.write_bytes(b"")
    assert default_crop(open_data(root)) == 224
