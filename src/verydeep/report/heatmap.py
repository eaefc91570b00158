"""Where in a photograph a net sees a class: its class score map laid over the image."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from numpy import ndarray
from PIL import Image

from verydeep.errors import UsageError, UserError
from verydeep.evaluation.protocols import check_scales, default_test_scale
from verydeep.files import atomic_write
from verydeep.images.decode import read_image
from verydeep.images.geometry import rescale, rescaled_size
from verydeep.nets.net import VeryDeep
from verydeep.paper.constants import TOTAL_STRIDE
from verydeep.testing.classifier import Prediction

MOST_PIXELS = 4_000_000
"""Pixels of a rescaled image at most: about 2 GB of activations."""

_FEWEST_PLACES = 6
"""Places wanted along the shorter side; where the stride of 32 gives fewer, the net is applied to shifted images."""

_LEAST_RANGE = 1.0
"""Scores that the colours span at least: a map that is all but flat is not stretched into a pattern."""

_OPACITY = 0.55

_VIRIDIS = "440154 472d7b 3b528b 2c728e 21918c 28ae80 5ec962 addc30 fde725"


@dataclass(frozen=True)
class HeatMap:
    """The class score map of one class.

    Attributes:
        scores: of the class, before the soft-max, at each place.
        test_scale: shorter side of the rescaled image, pixels.
        step: pixels of the rescaled image from place to place.
        centre: left and top of the centre of the first place, pixels of the rescaled image.
        rescaled: width and height of the rescaled image, pixels.
    """

    scores: Float[ndarray, "i j"]
    test_scale: int
    step: int
    centre: tuple[float, float]
    rescaled: tuple[int, int]

    def as_record(self) -> dict[str, Any]:
        """The figures, for JSON."""
        lowest, highest = float(self.scores.min()), float(self.scores.max())
        return {"test_scale": self.test_scale, "places": list(self.scores.shape), "lowest": lowest, "highest": highest}

    def over(self, image: Image.Image) -> Image.Image:
        """Lays the map over the image, at the image's own size: dark blue for the lowest score, yellow for the highest.

        Between the centres of the places the scores are interpolated; beyond the outermost they stay the same.

        Args:
            image: RGB, the one that the map was made of.
        """
        levels = self._levels(image.size)
        levels.putpalette(colour_table().tobytes())
        return Image.blend(image.convert("L").convert("RGB"), levels.convert("RGB"), _OPACITY)

    def _levels(self, size: tuple[int, int]) -> Image.Image:
        """The map at the size of an image, in grey levels."""
        low, high = float(self.scores.min()), float(self.scores.max())
        middle, half = (low + high) / 2, max(high - low, _LEAST_RANGE) / 2
        levels = 255 * (self.scores - middle + half) / (2 * half)
        margins = [math.ceil(side / self.step) + 1 for side in self.centre]
        edge = max(margins) + 1  # the last places lie at most one step farther from their edge than the first
        padded = Image.fromarray(np.pad(levels, edge, mode="edge").astype(np.float32))
        scales = [there / (here * self.step) for there, here in zip(self.rescaled, size, strict=True)]
        shifts = [edge + 0.5 - side / self.step for side in self.centre]
        placed = padded.transform(
            size,
            Image.Transform.AFFINE,
            (scales[0], 0, shifts[0], 0, scales[1], shifts[1]),
            resample=Image.Resampling.BILINEAR,
        )
        return Image.fromarray(np.rint(np.asarray(placed)).clip(0, 255).astype(np.uint8))


def colour_table() -> ndarray:
    """256 colours from dark blue over green to yellow, evenly spaced to the eye: 256,3, uint8."""
    anchors = np.array([list(bytes.fromhex(colour)) for colour in _VIRIDIS.split()], dtype=float)
    where = np.linspace(0, len(anchors) - 1, 256)
    columns = [np.interp(where, range(len(anchors)), channel) for channel in anchors.T]
    table: ndarray = np.rint(np.stack(columns, 1)).astype(np.uint8)
    return table


def heat_map(net: VeryDeep, image: Image.Image, index: int, *, test_scale: int | None = None) -> HeatMap:
    """Computes the class score map of one class for an image.

    Choice: Q is twice the prediction's, so that the map has places to tell apart, and smaller for very long images, so
    that memory stays bounded. Where 32 pixels from place to place give fewer than six along the shorter side, the net
    is also applied to the image shifted by 16, or by 8, 16 and 24 pixels.

    Args:
        net: the net; it stays where it is.
        image: RGB, upright.
        index: of the class.
        test_scale: Q, pixels.

    Raises:
        UserError: the image is so long that it would not fit the memory.
        UsageError: Q is below the crop.

    Paper: section 3.2.
    """
    scale = _default_scale(net, image.size) if test_scale is None else test_scale
    check_scales(net, [scale])
    width, height = rescaled_size(image.size, scale)
    if width * height > MOST_PIXELS:
        remedy = "crop it" if test_scale is None else "give a smaller --heatmap-scale"
        raise UserError(
            f"an image of {image.width}x{image.height} becomes {width}x{height} at test scale {scale}, more than the "
            f"{MOST_PIXELS:,} pixels of a heat map: {remedy}"
        )
    rescaled, crop = rescale(image, scale), net.geometry.crop
    step = next((step for step in (32, 16, 8) if (scale - crop) // step + 1 >= _FEWEST_PLACES), 8)
    # what the steps leave over is trimmed about the centre
    spare_x, spare_y = ((side - crop) % step // 2 for side in rescaled.size)
    pixels = np.array(rescaled)[spare_y:, spare_x:]
    rows, columns = ((side - crop) // step + 1 for side in pixels.shape[:2])
    scores, every = np.empty((rows, columns), dtype=np.float32), TOTAL_STRIDE // step
    for i in range(min(every, rows)):
        for j in range(min(every, columns)):
            scores[i::every, j::every] = _scores(net, pixels[step * i :, step * j :], index)
    centre = (spare_x + crop / 2, spare_y + crop / 2)
    return HeatMap(scores, scale, step, centre, rescaled.size)


def _scores(net: VeryDeep, pixels: ndarray, index: int) -> Float[ndarray, "i j"]:
    height, width = (side // TOTAL_STRIDE * TOTAL_STRIDE for side in pixels.shape[:2])
    batch = torch.from_numpy(np.ascontiguousarray(pixels[:height, :width])).permute(2, 0, 1)[None]
    training = net.training
    net.eval()
    try:
        with torch.inference_mode():
            map_ = net.score_map(batch.to(next(net.parameters()).device))[0, index]
    finally:
        net.train(training)
    scores: ndarray = map_.float().cpu().numpy()
    return scores


def _default_scale(net: VeryDeep, size: tuple[int, int]) -> int:
    wanted = 2 * default_test_scale(net)
    width, height = rescaled_size(size, wanted)
    fitting = int(wanted * math.sqrt(MOST_PIXELS / (width * height)))
    return max(min(wanted, fitting), net.geometry.crop)


class HeatMapFolder:
    """Heat maps as PNG files in a folder, each with the name of its image.

    Args:
        folder: is made where it is missing.
        images: all files that maps will be made of.
        net: makes the maps.
        test_scale: Q, pixels.

    Raises:
        UserError: the folder cannot be made.
        UsageError: a map would overwrite an image, or Q is below the crop.
    """

    def __init__(self, folder: Path, images: Sequence[Path], net: VeryDeep, test_scale: int | None = None) -> None:
        self.net, self.test_scale = net, test_scale
        if test_scale is not None:
            check_scales(net, [test_scale])
        self.files = dict(zip(images, _names(folder, images), strict=True))
        sources = {image.resolve() for image in images}
        if folder.resolve() in {image.parent for image in sources}:
            raise UsageError(f"--heatmap {folder} holds the images themselves: give another folder")
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UserError(f"--heatmap {folder} cannot be made: {error.strerror or error}") from error

    def add_to(self, prediction: Prediction, image_file: Path) -> Prediction:
        """Writes the map of a prediction's first class over its image, and tells of it in the prediction.

        Raises:
            UserError: the image cannot be read or is too long, or the map cannot be written.
        """
        image, file = read_image(image_file), self.files[image_file]
        try:
            made = heat_map(self.net, image, prediction.classes[0].index, test_scale=self.test_scale)
        except UserError as error:
            raise UserError(f"{image_file}: {error}") from error
        try:
            with atomic_write(file) as temporary:
                made.over(image).save(temporary, format="PNG")
        except OSError as error:
            raise UserError(f"--heatmap {file} cannot be written: {error.strerror or error}") from error
        return replace(prediction, heatmap={"file": str(file)} | made.as_record())


def single_place_note(predictions: Sequence[Prediction], net: VeryDeep) -> str | None:
    """Says what to do where maps have a single place, which tells nothing of where the class is."""
    single = [each.file for each in predictions if each.heatmap and each.heatmap["places"] == [1, 1]]
    if not single:
        return None
    more = f" (and {len(single) - 1} more)" if len(single) > 1 else ""
    scale = net.geometry.crop + TOTAL_STRIDE * (_FEWEST_PLACES - 1)
    return (
        f"{single[0]}{more}: at this test scale the score map has a single place, so the heat map has one colour: "
        f"give --heatmap-scale {scale} for {_FEWEST_PLACES} places along the shorter side, or leave it out"
    )


def _names(folder: Path, images: Sequence[Path]) -> list[Path]:
    """A name for each image's map; images of the same name get -2, -3 ... after it."""
    taken: set[str] = set()
    files = []
    for image in images:
        name, number = image.stem, 1
        while name in taken:
            number += 1
            name = f"{image.stem}-{number}"
        taken.add(name)
        files.append(folder / f"{name}.png")
    return files
