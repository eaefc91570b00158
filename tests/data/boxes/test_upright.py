"""Boxes follow the rotation of their image, checked against its pixels for all eight orientations."""

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageOps

from box_files import xml
from verydeep.data.boxes.open import open_boxed
from verydeep.data.boxes.upright import look_at_images, turn
from verydeep.images.decode import ORIENTATION

STORED = (80, 50)
BOX = (10, 5, 30, 40)


def turned_image(orientation, size=STORED):
    """An image with a white box, and its EXIF; the box is drawn on the pixels as stored."""
    image = Image.new("RGB", size, (20, 20, 20))
    left, top, right, bottom = BOX
    ImageDraw.Draw(image).rectangle((left, top, right - 1, bottom - 1), fill="white")
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    return image, exif


def white(image):
    """Edges of the white part of an image."""
    rows, columns = np.nonzero(np.asarray(image.convert("L")) > 128)
    return [float(edge) for edge in (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)]


def save(folder, stated, orientation, count=6, size=STORED, box=BOX):
    """A VOC set of images with an orientation whose annotations state a size."""
    for name in ("Annotations", "JPEGImages"):
        (folder / name).mkdir(parents=True)
    for index in range(count):
        image, exif = turned_image(orientation, size)
        image.save(folder / f"JPEGImages/{index}.png", exif=exif)
        (folder / f"Annotations/{index}.xml").write_text(xml(index, [("white", box)], stated, filename=f"{index}.png"))
    return folder


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_box_is_turned_with_the_pixels(orientation, tmp_path):
    image, exif = turned_image(orientation)
    image.save(tmp_path / "a.png", exif=exif)
    with Image.open(tmp_path / "a.png") as opened:
        upright = ImageOps.exif_transpose(opened)
    (facts,) = look_at_images([tmp_path / "a.png"])
    assert (facts.stored, facts.upright, facts.orientation) == (STORED, upright.size, orientation)
    assert turn(np.array([BOX], dtype=np.float64), STORED, orientation).tolist() == [white(upright)]


@pytest.mark.parametrize("orientation", range(5, 9))
def test_the_stated_size_says_on_which_pixels_a_box_was_drawn(orientation, tmp_path):
    found = open_boxed(save(tmp_path / "stored", STORED, orientation))
    assert {one.done for one in found.findings} == {"turned with it"}
    assert found.train.boxes[0].tolist() == [white(found.train.images.read(0))]
    upright = white(found.train.images.read(0))
    found = open_boxed(save(tmp_path / "upright", STORED[::-1], orientation, box=tuple(map(int, upright))))
    assert not found.findings
    assert found.train.boxes[0].tolist() == [upright]


def test_mirrored_images_are_turned_as_the_others_of_their_set(tmp_path):
    """A half turn leaves the size as it is: the other images say how the boxes were drawn."""
    folder = save(tmp_path / "set", STORED, 6)
    image, exif = turned_image(3)
    image.save(folder / "JPEGImages/7.png", exif=exif)
    (folder / "Annotations/7.xml").write_text(xml(7, [("white", BOX)], STORED, filename="7.png"))
    found = open_boxed(folder).split("all")
    index = found.images.names.index("JPEGImages/7.png")
    assert found.boxes[index].tolist() == [white(found.images.read(index))]


def test_where_nothing_says_it_a_box_is_taken_as_upright_and_said(tmp_path):
    found = open_boxed(save(tmp_path / "set", STORED, 3))
    assert {(one.kind, one.done) for one in found.findings} == {("box-turned", "taken as upright")}
    assert found.train.boxes[0].tolist() == [list(map(float, BOX))]


def test_without_a_size_the_boxes_say_it_that_fit_in_one_way_only(tmp_path):
    box = (55, 5, 75, 40)  # right of an upright image, which is 50 wide
    found = open_boxed(save(tmp_path / "set", None, 6, box=box))
    assert {one.done for one in found.findings} == {"turned with it"}
    assert found.train.boxes[0].tolist() == turn(np.array([box], dtype=np.float64), STORED, 6).tolist()
