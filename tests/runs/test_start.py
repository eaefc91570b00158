"""What a training begins with where nothing is said."""

import pytest

from small_nets import make_net
from verydeep.data.open import open_data
from verydeep.nets.model_card import make_card
from verydeep.runs.net import default_crop
from verydeep.runs.start import has_learnt


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


@pytest.mark.parametrize(
    ("error", "num_images", "learnt"), [(0.0, 2, False), (0.0, 60, True), (0.6, 60, False), (0.3, 60, True)]
)
def test_a_net_is_recommended_by_an_error_on_images_enough(error, num_images, learnt):
    net = make_net("A", num_classes=3)
    card = make_card(net, errors={"split": "val", "top1_error": error, "num_images": num_images})
    assert has_learnt(card) is learnt
    assert not has_learnt(make_card(net))
