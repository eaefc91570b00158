"""Pictures with boxes: colours at their edges, inside the picture, whatever its size."""

import numpy as np
import pytest
from PIL import Image

from verydeep.report.box_pictures import ANSWER_COLOUR, OBJECT_COLOUR, box_picture, draw_boxes


def test_boxes_stand_where_they_are():
    drawn = np.asarray(draw_boxes(Image.new("RGB", (480, 360)), [(np.array([100.0, 60, 300, 200]), OBJECT_COLOUR)]))
    assert drawn.shape == (180, 240, 3)
    rows, columns = np.nonzero((drawn == OBJECT_COLOUR).all(2))
    assert (columns.min(), rows.min(), columns.max(), rows.max()) == (50, 30, 150, 100)
    assert tuple(drawn[65, 100]) == (0, 0, 0)


@pytest.mark.parametrize("size", [(5, 4), (3000, 40), (240, 240)])
def test_boxes_of_any_place_and_size_are_drawn(size):
    image = Image.new("L", size)
    for corners in ([-50.0, -9, 9000, 9000], [1, 1, 1, 1], [0, 0, *size], [4000, 3000, 5000, 4000]):
        drawn = np.asarray(draw_boxes(image, [(np.array(corners, float), ANSWER_COLOUR)]))
        assert (drawn == ANSWER_COLOUR).all(2).any()


def test_there_is_no_picture_without_the_image():
    one = box_picture(None, name="a", label="cat", iou=0.3, objects=np.zeros((2, 4)), answer=np.zeros(4))
    assert one.picture is None
