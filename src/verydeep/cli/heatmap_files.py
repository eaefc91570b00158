"""Heat maps as PNG files in a folder, each with the name of its image."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from verydeep.errors import UsageError, UserError
from verydeep.files import atomic_write
from verydeep.paper.constants import TOTAL_STRIDE
from verydeep.runs.evaluation_report import heat_map
from verydeep.testing.classifier import Classifier, Prediction, score_map_at
from verydeep.testing.protocols import check_scales

_FEW_POSITIONS = 6
"""Along the shorter side: with fewer a map tells little of where a class is."""


class HeatMapFolder:
    """Lays score maps over images.

    Args:
        folder: is made where it is missing.
        images: all files that maps will be made of.
        classifier: whose maps they are.
        test_scale: Q of the maps, pixels; by default the map is that of the prediction.

    Raises:
        UserError: the folder cannot be made.
        UsageError: a map would overwrite an image, Q is below the crop, or the protocol has crops only.
    """

    def __init__(
        self, folder: Path, images: Sequence[Path], classifier: Classifier, test_scale: int | None = None
    ) -> None:
        self.classifier, self.test_scale = classifier, test_scale
        self.records: dict[str, dict[str, Any]] = {}
        protocol = classifier.test.protocol
        if test_scale is not None:
            check_scales(classifier.net, [test_scale])
        elif protocol.rounds_up or not any(method.is_dense for method in protocol.methods):
            raise UsageError(
                f"--heatmap: protocol {protocol.name} has no score map: give --heatmap-scale, or --protocol single"
            )
        self.files = dict(zip(images, _names(folder, images), strict=True))
        sources = {image.resolve() for image in images}
        if folder.resolve() in {image.parent for image in sources}:
            raise UsageError(f"--heatmap {folder} holds the images themselves: give another folder")
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UserError(f"--heatmap {folder} cannot be made: {error.strerror or error}") from error

    def write(self, prediction: Prediction, image: Image.Image, image_file: Path) -> None:
        """Writes the map of a prediction's first class over its image.

        Raises:
            UserError: the image is too long, or the map cannot be written.
        """
        map_, file = prediction.score_map, self.files[image_file]
        if self.test_scale is not None:
            try:
                map_ = score_map_at(self.classifier.backend, np.asarray(image), self.test_scale)
            except UserError as error:
                raise UserError(f"{image_file}: {error}") from error
        assert map_ is not None
        made = heat_map(map_, prediction.classes[0].index)
        try:
            with atomic_write(file) as temporary:
                made.over(image).save(temporary, format="PNG")
        except OSError as error:
            raise UserError(f"--heatmap {file} cannot be written: {error.strerror or error}") from error
        self.records[prediction.file] = {
            "file": str(file),
            "test_scale": map_.test_scale,
            "positions": list(made.scores.shape),
            "lowest": float(made.scores.min()),
            "highest": float(made.scores.max()),
        }

    def record(self, prediction: Prediction) -> dict[str, Any]:
        """What is known of a prediction's map, for JSON."""
        return {"heatmap": self.records[prediction.file]}

    @property
    def note(self) -> str | None:
        """What to do where maps have few positions, which tell little of where the class is."""
        few = [name for name, record in self.records.items() if min(record["positions"]) < _FEW_POSITIONS]
        if not few:
            return None
        more = f" (and {len(few) - 1} more)" if len(few) > 1 else ""
        rows, columns = self.records[few[0]]["positions"]
        scale = self.classifier.net.geometry.crop + TOTAL_STRIDE * (_FEW_POSITIONS - 1)
        return (
            f"{few[0]}{more}: at this test scale the score map has {rows}x{columns} positions, and the heat map tells "
            f"little of where: give --heatmap-scale {scale} for {_FEW_POSITIONS} positions along the shorter side"
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
