"""Pictures with boxes: those of the objects that are there, and the one that was answered."""

from collections.abc import Sequence
from dataclasses import dataclass

from jaxtyping import Float
from numpy import ndarray
from PIL import Image, ImageDraw

from verydeep.report.worst import picture_uri, small

OBJECT_COLOUR, ANSWER_COLOUR = (46, 160, 67), (218, 54, 51)
"""Of the boxes of objects, green, and of answers, red."""

_LONGEST_SIDE = 240


@dataclass(frozen=True, kw_only=True)
class BoxPicture:
    """An image with the boxes of its objects, and the box that a net answers."""

    name: str
    label: str  # class of the objects
    iou: float  # of the answer with the object that it overlaps most
    picture: str | None  # a small one, as a ``data:`` URI; None on a page without pictures


def draw_boxes(
    image: Image.Image, boxes: Sequence[tuple[Float[ndarray, "4"], tuple[int, int, int]]], longest: int = _LONGEST_SIDE
) -> Image.Image:
    """Draws boxes (left, top, right, bottom, pixels of the image), each in a colour, on a small copy of an image."""
    drawn = small(image, longest).convert("RGB")
    draw, (across, down) = ImageDraw.Draw(drawn), (drawn.width / image.width, drawn.height / image.height)
    for corners, colour in boxes:
        left, top, right, bottom = (
            min(max(round(edge * scale), 0), end - 1)
            for edge, scale, end in zip(
                corners.tolist(), (across, down, across, down), (*drawn.size, *drawn.size), strict=True
            )
        )
        at = (left, top, max(left, right), max(top, bottom))
        draw.rectangle(at, outline="white", width=4)  # so that it is seen on any ground
        draw.rectangle(at, outline=colour, width=2)
    return drawn


def box_picture(
    image: Image.Image | None,
    *,
    name: str,
    label: str,
    iou: float,
    objects: Float[ndarray, "_ 4"],
    answer: Float[ndarray, "4"],
) -> BoxPicture:
    """Makes the picture of an answer for a page; without the image there is none."""
    picture = None
    if image is not None:
        boxes = [*((one, OBJECT_COLOUR) for one in objects), (answer, ANSWER_COLOUR)]
        picture = picture_uri(draw_boxes(image, boxes))
    return BoxPicture(name=name, label=label, iou=iou, picture=picture)
