"""The worst errors of a net as pictures: the images it gets wrong with the most confidence; small pictures."""

import base64
import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int
from numpy import ndarray
from PIL import Image

from verydeep.report.heatmap import HeatMap

_LONGEST_SIDE = 240
_JPEG_QUALITY = 80


@dataclass(frozen=True, kw_only=True)
class WorstError:
    """An image that a net takes for another class."""

    name: str
    true: str
    taken_for: str
    posterior: float  # of ``taken_for``
    true_posterior: float
    picture: str | None  # a small one, as a ``data:`` URI; None on a page without pictures
    map: str | None  # the score map of ``taken_for`` laid over it


def worst_errors(
    posteriors: Float[ndarray, "n k"],
    labels: Int[ndarray, "n"],
    names: Sequence[str],
    classes: Sequence[str],
    read: Callable[[int], Image.Image] | None,
    map_of: Callable[[Image.Image, int], HeatMap | None] | None = None,
    most: int = 12,
) -> list[WorstError]:
    """Finds the images that a net gets wrong with the most confidence.

    ``read`` gives the picture of an image, ``map_of`` its map for a class; without ``read`` there are neither.
    """
    named = posteriors.argmax(1)
    confidence = np.where(named == labels, -1.0, posteriors.max(1))
    found = []
    for index in np.argsort(-confidence, kind="stable")[:most].tolist():
        if confidence[index] < 0:
            break
        label, taken_for = int(labels[index]), int(named[index])
        picture = map_ = None
        if read is not None:
            image = read(index)
            picture = small(image, _LONGEST_SIDE)
            map_ = map_of(image, taken_for) if map_of else None
        found.append(
            WorstError(
                name=names[index],
                true=classes[label],
                taken_for=classes[taken_for],
                posterior=float(posteriors[index, taken_for]),
                true_posterior=float(posteriors[index, label]),
                picture=None if picture is None else picture_uri(picture),
                map=None if map_ is None or picture is None else picture_uri(map_.over(picture)),
            )
        )
    return found


def small_picture(image: Image.Image, longest: int = 160) -> str:
    """Makes a picture for a page as a ``data:`` URI, its longer side about so many pixels."""
    return picture_uri(small(image, longest))


def small(image: Image.Image, longest: int) -> Image.Image:
    """Shrinks an image until its longer side has so many pixels; a tiny one is enlarged."""
    small = image.copy()
    small.thumbnail((longest, longest), Image.Resampling.BICUBIC)
    if max(small.size) < longest // 2:  # the map and the boxes of a tiny image need pixels of their own
        times = longest // max(small.size)
        small = small.resize((small.width * times, small.height * times), Image.Resampling.NEAREST)
    return small


def picture_uri(image: Image.Image) -> str:
    """Encodes a picture as a ``data:`` URI."""
    buffer = io.BytesIO()
    image.save(buffer, format="JPEG", quality=_JPEG_QUALITY)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")
