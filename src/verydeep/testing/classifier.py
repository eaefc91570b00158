"""Classes of photographs: what ``verydeep predict`` does."""

import csv
import glob
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float
from numpy import ndarray
from PIL import Image

from verydeep.data.folder import natural_key
from verydeep.errors import UsageError, UserError
from verydeep.evaluation.evaluate import posterior
from verydeep.files import atomic_write
from verydeep.images.decode import is_image_file
from verydeep.nets.net import VeryDeep
from verydeep.speed.accelerate import Computing, accelerate, fastest
from verydeep.weights.resolve import load


@dataclass(frozen=True)
class RankedClass:
    """A class an image may show.

    Attributes:
        name: of the class.
        index: of its score.
        posterior: its probability.
    """

    name: str
    index: int
    posterior: float


@dataclass(frozen=True)
class Prediction:
    """The most likely classes of one image.

    Attributes:
        file: the image.
        classes: the most likely first.
        heatmap: what is known of its heat map; None where none was asked for.
    """

    file: str
    classes: tuple[RankedClass, ...]
    heatmap: dict[str, Any] | None = None

    def as_record(self) -> dict[str, Any]:
        """The prediction, for JSON."""
        record = {"file": self.file, "classes": [vars(ranked) for ranked in self.classes]}
        return record if self.heatmap is None else record | {"heatmap": self.heatmap}


class Classifier:
    """Tells what images show, by the paper's dense evaluation at one test scale.

    Args:
        model: a net, taken as it is at the first prediction, a model file, a run folder or a published name.
        precision: fp32, bf16, or auto for the faster of the two by a rule over the machine, as ``accelerate`` has them.

    Raises:
        UserError: there is no such model, or it has convolutions only.
        UsageError: another precision.
    """

    def __init__(self, model: VeryDeep | str | Path, *, precision: str = "fp32") -> None:
        if precision not in (known := ("fp32", "bf16", "auto")):
            raise UsageError(f"precision {precision}: choose one of {', '.join(known)}")
        self.precision = precision
        self.net = model if isinstance(model, VeryDeep) else load(model)
        self.net.require_scores()
        count = self.net.geometry.num_classes
        self._computing: Computing | None = None
        self.classes = self.net.classes or tuple(str(index) for index in range(count))

    def predict(self, image: str | Path | Image.Image, *, top: int = 5) -> Prediction:
        """Ranks the classes of an image.

        Args:
            image: a file, or an image of any size and mode.
            top: number of classes to name.

        Raises:
            UserError: the image cannot be read.
            UsageError: ``top`` is below 1.
        """
        if top < 1:
            raise UsageError(f"top {top}: name at least one class")
        name = "image" if isinstance(image, Image.Image) else str(image)
        if self._computing is None:
            plain = self.precision == "fp32"
            self._computing = fastest(self.net) if plain else accelerate(self.net, precision=self.precision)
        return self._ranked(name, posterior(self._computing, image), top)

    def _ranked(self, file: str, posteriors: Float[ndarray, "k"], top: int) -> Prediction:
        order = np.argsort(-posteriors, kind="stable")[:top].tolist()
        return Prediction(file, tuple(RankedClass(self.classes[i], i, float(posteriors[i])) for i in order))


def find_images(arguments: Iterable[str]) -> list[Path]:
    """Finds the image files that files, folders and patterns name.

    Raises:
        UserError: one of them names no image.
    """
    found: list[Path] = []
    for argument in arguments:
        path = Path(argument)
        if path.is_dir():
            inside = sorted(
                (file for file in path.rglob("*") if is_image_file(file)), key=lambda f: natural_key(str(f))
            )
            if not inside:
                raise UserError(f"no images in {path}")
            found += inside
        elif path.exists() or not glob.has_magic(argument):
            found.append(path)
        else:
            matches = sorted(glob.glob(argument, recursive=True), key=natural_key)  # noqa: PTH207 - also absolute patterns
            if not matches:
                raise UserError(f"no files match {argument!r}")
            found += [Path(match) for match in matches]
    return found


def write_csv(predictions: Sequence[Prediction], file: Path) -> None:
    """Writes predictions as a table: one line per image and rank.

    Raises:
        UserError: the file cannot be written.
    """
    try:
        with (
            atomic_write(file) as temporary,
            temporary.open("w", newline="", encoding="utf-8", errors="backslashreplace") as lines,  # any file name
        ):
            writer = csv.writer(lines)
            writer.writerow(["file", "rank", "class", "index", "posterior"])
            for prediction in predictions:
                for rank, ranked in enumerate(prediction.classes, start=1):
                    writer.writerow([prediction.file, rank, ranked.name, ranked.index, f"{ranked.posterior:.6g}"])
    except OSError as error:
        raise UserError(f"--csv {file} cannot be written: {error.strerror or error}") from error
