"""The worst errors of a net as pictures: the images it gets wrong with the most confidence."""

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
    picture: str  # a small one, as a ``data:`` URI
    map: str | None  # the score map of ``taken_for`` laid over it


def worst_errors(
    posteriors: Float[ndarray, "n k"],
    labels: Int[ndarray, "n"],
    names: Sequence[str],
    classes: Sequence[str],
    read: Callable[[int], Image.Image],
    map_of: Callable[[Image.Image, int], HeatMap | None] | None = None,
    most: int = 12,
) -> list[WorstError]:
    """Finds the images that a net gets wrong with the most confidence; ``map_of`` makes the map of one for a class."""
    named = posteriors.argmax(1)
    confidence = np.where(named == labels, -1.0, posteriors.max(1))
    found = []
    for index in np.argsort(-confidence, kind="stable")[:most].tolist():
        if confidence[index] < 0:
            break
        label, taken_for, image = int(labels[index]), int(named[index]), read(index)
        small = _small(image)
        map_ = map_of(image, taken_for) if map_of else None
        found.append(
            WorstError(
                name=names[index],
                true=classes[label],
                taken_for=classes[taken_for],
                posterior=float(posteriors[index, taken_for]),
                true_posterior=float(posteriors[index, label]),
                picture=_data_uri(small),
                map=None if map_ is None else _data_uri(map_.over(small)),
            )
        )
    return found


def _small(image: Image.Image) -> Image.Image:
    small = image.copy()
    small.thumbnail((_LONGEST_SIDE, _LONGEST_SIDE), Image.Resampling.BICUBIC)
    if max(small.size) < _LONGEST_SIDE // 2:  # the map of a tiny image needs pixels of its own
        times = _LONGEST_SIDE // max(small.size)
        small = small.resize((small.width * times, small.height * times), Image.Resampling.NEAREST)
    return small


def _data_uri(image: Image.Image) -> str:
    buffer = io.BytesIO()
    image.save(buffer, format="JPEG", quality=_JPEG_QUALITY)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")
