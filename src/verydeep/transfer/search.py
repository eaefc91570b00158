"""Similar images: the nearest descriptors by the cosine, which is one matrix multiplication over all of them.

Paper: appendix B.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float32
from numpy import ndarray

from verydeep.data.folder import UNLABELLED, find_images, label_files
from verydeep.data.image_set import ImageSet, describe_skipped
from verydeep.data.shards.dataset import is_shards
from verydeep.device import Compute
from verydeep.download import digest_of
from verydeep.errors import UsageError, UserError
from verydeep.images.decode import DamagedImageError
from verydeep.progress import Progress, ignore_progress
from verydeep.speed.backend import find_compute
from verydeep.testing.chunks import Counter, num_chunks
from verydeep.testing.classifier import pixels_of
from verydeep.testing.descriptors import Describer, DescriptorOptions
from verydeep.transfer.features_file import FeaturesFile, is_features_file
from verydeep.transfer.image_list import ImageList, open_images
from verydeep.weights.resolve import find_model_file, load


@dataclass(frozen=True)
class Similar:
    """An image that is like another."""

    file: str
    similarity: float  # cosine of the descriptors
    pixels: Callable[[], ndarray] | None = field(default=None, repr=False, compare=False)  # None where it is not here


@dataclass(frozen=True)
class SearchResult:
    """The images most like one, the most similar first."""

    file: str
    similar: tuple[Similar, ...]

    def as_record(self) -> dict[str, Any]:
        similar = [{"file": one.file, "similarity": one.similarity} for one in self.similar]
        return {"file": self.file, "similar": similar}


def search(
    model: str | Path,
    folder: str | Path,
    images: Sequence[str | Path],
    *,
    top: int = 10,
    options: DescriptorOptions = DescriptorOptions(),
    device: str | None = None,
    precision: str = "fp32",
    skip_damaged: bool = False,
    progress: Progress = ignore_progress,
    note: Callable[[str], None] | None = None,
) -> list[SearchResult]:
    """Finds the images of a folder that are most like others.

    Args:
        model: a model file, run folder or published name.
        folder: a file of descriptors that ``features`` wrote, with the options it was made with; or images to be
            described now: a folder at any depth, shards, or a name.
        images: files to find similar ones of.
        top: number of images to name for each.
        options: how images are described, where they are described now.
        device: cpu, cuda or mps; by default the fastest there is.
        precision: fp32, bf16 or auto.
        skip_damaged: leave damaged images out and name them, instead of failing.
        progress: called with the number of images described.
        note: called with a line that a reader should know.

    Raises:
        UserError: the model, the folder or an image cannot be used, or the descriptors are of another model.
        UsageError: ``top`` is below 1, or an unknown layer, device or precision.

    Paper: appendix B.
    """
    if top < 1:
        raise UsageError(f"--top {top}: name at least one image")
    compute = find_compute(device, precision)
    if is_features_file(folder):
        saved = FeaturesFile(folder)
        describer = _describer_of(saved, model, compute)
        blocks: Iterable[ndarray] = saved.blocks()
        found = _Collection(saved.names, Path(saved.job["data"]["path"]))
    else:
        describer = Describer([load(model)], options, compute=compute)
        listed = _open(folder, note)
        fresh, kept = _described(describer, listed, progress, note, skip_damaged=skip_damaged)
        blocks, found = [fresh], _Collection([listed.where(index) for index in kept], None, listed, kept)
    images, pixels = _read(images, note, skip_damaged=skip_damaged)
    queries = describer.of(pixels)
    nearest, similarities = most_similar(queries, blocks, top)
    return [
        SearchResult(
            str(image),
            tuple(found.similar(int(index), float(value)) for index, value in zip(*pair, strict=True)),
        )
        for image, *pair in zip(images, nearest, similarities, strict=True)
    ]


def most_similar(
    queries: Float32[ndarray, "m d"], blocks: Iterable[Float32[ndarray, "_ d"]], top: int
) -> tuple[ndarray, ndarray]:
    """Finds the rows of the largest cosine with each query, the largest first: their indices and cosines, m,k."""
    indices: ndarray = np.zeros((len(queries), 0), np.int64)
    cosines: ndarray = np.zeros((len(queries), 0), np.float32)
    units, first = _units(queries), 0
    for block in blocks:
        values = units @ _units(block).T
        numbers = np.broadcast_to(np.arange(first, first + len(block)), values.shape)
        cosines, indices = np.concatenate([cosines, values], 1), np.concatenate([indices, numbers], 1)
        order = np.argsort(-cosines, 1, kind="stable")[:, :top]
        cosines, indices = (np.take_along_axis(each, order, 1) for each in (cosines, indices))
        first += len(block)
    return indices, cosines


def _units(rows: Float32[ndarray, "n d"]) -> Float32[ndarray, "n d"]:
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    units: ndarray = rows / np.maximum(lengths, np.finfo(np.float32).tiny)
    return units


def _describer_of(saved: FeaturesFile, model: str | Path, compute: Compute) -> Describer:
    """Describes further images as those of a file were."""
    job, net = saved.job, load(model)
    digests = [one["sha256"] for one in job["models"]]
    if len(digests) != 1 or digest_of(find_model_file(model), "sha256") != digests[0]:
        names = " + ".join(one["name"] for one in job["models"])
        raise UserError(f"{saved.file} has descriptors of {names}, not of {model}: give one file of one model")
    options = DescriptorOptions(
        layer=job["layers"][0],
        test_scales=tuple(job["test_scales"][0]),
        combine=job["combine"],
        pool=job["pool"],
        mirror=job["mirror"][0],
        normalise=job["normalise"],
    )
    describer = Describer([net], options, compute=compute)
    if describer.dimensions != saved.dimensions:
        raise UserError(f"{saved.file} is damaged: its descriptors have {saved.dimensions} numbers: compute it again")
    return describer


def _open(folder: str | Path, note: Callable[[str], None] | None) -> ImageSet | ImageList:
    path = Path(folder)
    if path.is_file() and path.suffix in (".npz", ".parquet"):
        raise UserError(
            f"{path}: descriptors are searched in .safetensors files: write them to one by verydeep features"
        )
    if not path.is_dir() or is_shards(str(folder)):
        return open_images(folder)
    names = [file.relative_to(path).as_posix() for file in find_images([str(path)], note)]
    return label_files(path, UNLABELLED, (UNLABELLED,), [names])


def _read(
    images: Sequence[str | Path], note: Callable[[str], None] | None, *, skip_damaged: bool
) -> tuple[list[str | Path], list[ndarray]]:
    """Reads the images to find similar ones of; the damaged ones may be left out."""
    whole: list[tuple[str | Path, ndarray]] = []
    damaged: list[DamagedImageError] = []
    for image in images:
        try:
            whole.append((image, pixels_of(image)))
        except DamagedImageError as error:
            damaged.append(error)
    if damaged and not (skip_damaged and whole):
        raise damaged[0].in_a_set()
    if damaged and note is not None:
        note(describe_skipped([str(image) for image in images if image not in dict(whole)]))
    return [image for image, _ in whole], [pixels for _, pixels in whole]


def _described(
    describer: Describer,
    images: ImageSet | ImageList,
    progress: Progress,
    note: Callable[[str], None] | None,
    *,
    skip_damaged: bool,
) -> tuple[Float32[ndarray, "n d"], list[int]]:
    """Describes images in memory; the damaged ones may be left out."""
    counter = Counter(progress, "describing", len(images))
    numbers = range(num_chunks(len(images)))
    chunks = list(describer.chunks(images, numbers, skip_damaged=skip_damaged, done=counter.advance))
    skipped = {index for chunk in chunks for index in chunk.skipped}
    if len(skipped) == len(images):
        raise UserError(f"every one of the {len(images)} images is damaged")
    if skipped and note is not None:
        note(describe_skipped([images.where(index) for index in sorted(skipped)]))
    kept = [index for index in range(len(images)) if index not in skipped]
    return np.concatenate([chunk.rows for chunk in chunks]), kept


@dataclass(frozen=True)
class _Collection:
    """Where the images of rows are."""

    names: Sequence[str]
    root: Path | None
    images: ImageSet | ImageList | None = None
    kept: Sequence[int] = ()

    def similar(self, row: int, similarity: float) -> Similar:
        name = self.names[row]
        if self.images is not None:
            images, index = self.images, self.kept[row]
            return Similar(name, similarity, lambda: images.pixels(index))
        file = Path(name) if self.root is None else self.root / name
        return Similar(str(file), similarity, (lambda: pixels_of(file)) if file.is_file() else None)
