"""Classes that turn batches of a table of images into batches of descriptors or of classes: for Ray Data and Spark.

Each holds its nets from the first batch to the last. None imports Ray or Spark.

Paper: appendix B.
"""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8
from numpy import ndarray

from verydeep.data.sources import FolderSource, ImageSource
from verydeep.device import Compute, find_device, fp32_choice
from verydeep.errors import UserError
from verydeep.images.decode import decode_pixels
from verydeep.testing.chunks import num_chunks
from verydeep.testing.classifier import Classifier
from verydeep.testing.descriptors import Describer, DescriptorOptions
from verydeep.weights.resolve import open_net

PATH = "path"
"""Column of the paths of images: text, or bytes where a name need not be Unicode."""


class DescribeBatch:
    """Adds the descriptors of images to batches of a table: ``descriptor``, and ``damaged`` where these are skipped.

    Args:
        models: model files, run folders or published names that the worker can reach.
        options: how images are described.
        sources: where the images are read from, by the number in the column ``set``; by default ``path`` has files.
        compute: device and precision; by default the fastest device of the worker, in float32.
        skip_damaged: give a damaged image NaN for a descriptor, instead of failing.
    """

    def __init__(
        self,
        models: str | Path | Sequence[str | Path],
        options: DescriptorOptions = DescriptorOptions(),
        *,
        sources: Sequence[ImageSource] | None = None,
        compute: Compute | None = None,
        skip_damaged: bool = False,
    ) -> None:
        names = [models] if isinstance(models, str | Path) else models
        compute = compute or fp32_choice(find_device(None))
        self._describer = Describer([open_net(name) for name in names], options, compute=compute)
        self._sources, self._skip_damaged = sources, skip_damaged

    def __call__(self, batch: Any) -> dict[str, Any]:  # noqa: ANN401
        """Describes the images of a batch: a dict of columns, or a data frame."""
        columns = {name: np.asarray(batch[name]) for name in batch}
        images = _Listed(columns, self._sources)
        descriptors = np.full((len(images), self._describer.dimensions), np.nan, np.float32)
        damaged = np.zeros(len(images), bool)
        first = 0
        for chunk in self._describer.chunks(images, range(num_chunks(len(images))), skip_damaged=self._skip_damaged):
            damaged[list(chunk.skipped)] = True
            last = first + len(chunk.rows) + len(chunk.skipped)
            descriptors[first:last][~damaged[first:last]] = chunk.rows
            first = last
        return columns | {"descriptor": descriptors} | ({"damaged": damaged} if self._skip_damaged else {})


class PredictBatch:
    """Adds the most likely classes of images to batches of a table: ``classes``, ``posteriors``, and ``error``.

    Args:
        model: a model file, run folder or published name that the worker can reach.
        top: number of classes to name.
        options: of ``Classifier``: protocol, device, precision.
    """

    def __init__(self, model: str | Path, *, top: int = 5, **options: Any) -> None:  # noqa: ANN401 - Classifier's
        self._classifier, self._top = Classifier(model, **options), top

    def __call__(self, batch: Any) -> dict[str, Any]:  # noqa: ANN401 - a dict, or a data frame
        """Classifies the images of a batch; one that cannot be read has its error instead of classes."""
        columns = {name: np.asarray(batch[name]) for name in batch}
        classes, posteriors, errors = [], [], []
        for path in columns[PATH].tolist():
            ranked, error = self._ranked(os.fsdecode(path))
            classes.append([one.name for one in ranked])
            posteriors.append([one.posterior for one in ranked])
            errors.append(error)
        return columns | {"classes": classes, "posteriors": posteriors, "error": errors}

    def _ranked(self, path: str) -> tuple[Sequence[Any], str]:
        try:
            return self._classifier.predict(path, top=self._top).classes, ""
        except UserError as error:
            return (), str(error)


@dataclass(frozen=True)
class _Listed:
    """The images of a batch."""

    columns: Mapping[str, ndarray]
    sources: Sequence[ImageSource] | None

    def __len__(self) -> int:
        return len(self.columns[PATH])

    @property
    def parallel_reads(self) -> int:
        return max(source.parallel_reads for source in self.sources or [FolderSource(Path())])

    def pixels(self, index: int) -> UInt8[ndarray, "_ _ 3"]:
        source, name = self._at(index)
        return decode_pixels(source.read(name), source.where(name))

    def where(self, index: int) -> str:
        source, name = self._at(index)
        return source.where(name)

    def _at(self, index: int) -> tuple[ImageSource, str]:
        source = FolderSource(Path()) if self.sources is None else self.sources[int(self.columns["set"][index])]
        return source, os.fsdecode(self.columns[PATH][index])
