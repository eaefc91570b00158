"""The worst mistakes of a net as pictures: the images it gets wrong with the most confidence."""

import base64
import io
from dataclasses import dataclass

import numpy as np
from PIL import Image

from verydeep.data.image_set import ImageSet
from verydeep.errors import UserError
from verydeep.evaluation.result import Result
from verydeep.nets.net import VeryDeep
from verydeep.report.heatmap import heat_map

_LONGEST_SIDE = 240
_JPEG_QUALITY = 80


@dataclass(frozen=True, kw_only=True)
class Mistake:
    """An image that a net takes for another class.

    Attributes:
        name: of the image.
        true: its class.
        taken_for: the class that the net says.
        posterior: of that class.
        true_posterior: of the true class.
        picture: the image, small, as a ``data:`` URI.
        map: the score map of ``taken_for`` laid over it; None without a net, or of an image too long for it.
    """

    name: str
    true: str
    taken_for: str
    posterior: float
    true_posterior: float
    picture: str
    map: str | None


def worst_mistakes(result: Result, images: ImageSet, net: VeryDeep | None, most: int = 12) -> list[Mistake]:
    """Finds the images that a net gets wrong with the most confidence.

    Args:
        result: of a test.
        images: those tested, in the order of the result.
        net: draws the score maps.
        most: number of images at most.

    Raises:
        DamagedImageError: an image cannot be decoded any more.
    """
    assert len(images) == len(result.labels)
    said = result.posteriors.argmax(1)
    confidence = np.where(said == result.labels, -1.0, result.posteriors.max(1))
    order = np.argsort(-confidence, kind="stable")[:most]
    return [_mistake(result, images, net, int(index)) for index in order if confidence[index] >= 0]


def _mistake(result: Result, images: ImageSet, net: VeryDeep | None, index: int) -> Mistake:
    row, label = result.posteriors[index], int(result.labels[index])
    said = int(row.argmax())
    image = images.read(index)
    small = image.copy()
    small.thumbnail((_LONGEST_SIDE, _LONGEST_SIDE), Image.Resampling.BICUBIC)
    if max(small.size) < _LONGEST_SIDE // 2:  # the map of a tiny image needs pixels of its own
        times = _LONGEST_SIDE // max(small.size)
        small = small.resize((small.width * times, small.height * times), Image.Resampling.NEAREST)
    return Mistake(
        name=result.names[index],
        true=result.classes[label],
        taken_for=result.classes[said],
        posterior=float(row[said]),
        true_posterior=float(row[label]),
        picture=_data_uri(small),
        map=None if net is None else _map_over(small, image, net, said),
    )


def _map_over(small: Image.Image, image: Image.Image, net: VeryDeep, index: int) -> str | None:
    try:
        return _data_uri(heat_map(net, image, index).over(small))
    except UserError:  # the image is too long for a map
        return None


def _data_uri(image: Image.Image) -> str:
    buffer = io.BytesIO()
    image.save(buffer, format="JPEG", quality=_JPEG_QUALITY)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")
