"""Descriptors of any number of images, streamed to a file; a job that is killed is resumed to the same file.

Paper: appendix B.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from verydeep.device import Compute
from verydeep.distributed import broadcast_from_rank0, processes, wait_for_all
from verydeep.download import digest_of
from verydeep.errors import UserError
from verydeep.progress import Progress, ignore_progress
from verydeep.speed.backend import find_compute
from verydeep.testing import chunks as reading
from verydeep.testing.chunks import Counter, chunk_range, num_chunks
from verydeep.testing.descriptors import Chunk, Describer, DescriptorOptions, count_dimensions, find_settings
from verydeep.transfer.features_file import (
    Described,
    FeaturesFile,
    check_features_file,
    is_features_file,
    write_features,
)
from verydeep.transfer.image_list import ImageList, open_images
from verydeep.transfer.part import Part, begin, check_same, locked, part_folder
from verydeep.weights.resolve import find_model_file, open_net


@dataclass(frozen=True, kw_only=True)
class Work:
    """What describes images here or elsewhere: everything that a worker needs.

    Attributes:
        models: model files, run folders or published names.
        options: how images are described.
        compute: device and precision.
        images: all of them.
        skip_damaged: leave damaged images out.
    """

    models: tuple[str, ...]
    options: DescriptorOptions
    compute: Compute
    images: ImageList
    skip_damaged: bool


ComputeChunks = Callable[[Work, Sequence[int], Callable[[float], None]], Iterator[Chunk]]
"""Describes the chunks of these numbers, in any order; calls back with numbers of images as they are done."""


@dataclass(frozen=True, kw_only=True)
class FeaturesResult:
    """Summary of a file of descriptors."""

    file: Path
    num_images: int
    skipped: list[str]  # names of damaged images left out
    job: dict[str, Any]  # models, options and data, as the file has them
    seconds: float
    computed: int  # images of this call: fewer than there are where it resumed another

    def as_record(self) -> dict[str, Any]:
        kept = ("models", "layers", "test_scales", "combine", "pool", "mirror", "normalise", "dimensions", "precision")
        return {
            "file": str(self.file),
            "num_images": self.num_images,
            **{key: self.job[key] for key in kept},
            "data": self.job["data"]["name"],
            "splits": self.job["splits"],
            "skipped": self.skipped,
            "seconds": self.seconds,
            "images_per_second": self.computed / self.seconds if self.computed else None,
        }


def extract_features(
    models: str | Path | Sequence[str | Path],
    data: str | Path,
    out: str | Path,
    options: DescriptorOptions = DescriptorOptions(),
    *,
    split: str = "all",
    resume: bool = False,
    skip_damaged: bool = False,
    device: str | None = None,
    precision: str = "fp32",
    progress: Progress = ignore_progress,
    note: Callable[[str], None] | None = None,
    compute_chunks: ComputeChunks | None = None,
) -> FeaturesResult:
    """Describes all images of a data set and writes the descriptors with names and labels to a file.

    A million images never sit in memory: descriptors are kept on disk as they are computed, in the folder OUT.part.
    Processes under torchrun share the images; the file is the same as that of one process.

    Args:
        models: model files, run folders or published names, whose descriptors are stacked.
        data: anything that ``open_data`` takes, or a folder of images without labels.
        out: a name that ends in .safetensors, .npz or .parquet.
        options: layer, scales, and how they are combined.
        split: train, val, test or all; the split of each image is kept too.
        resume: go on with what a killed job has left, to the same file as if it had not been killed.
        skip_damaged: leave damaged images out and name them, instead of failing.
        device: cpu, cuda or mps; by default the fastest there is.
        precision: fp32, bf16, or auto for the faster of the two by a rule over the machine.
        progress: called with the number of images done.
        note: called with a line that a reader should know.
        compute_chunks: describes the images elsewhere, as on a Ray cluster.

    Raises:
        UserError: a model, the data or an image cannot be used; the file is there already; or what is to be resumed is
            of another job.
        UsageError: an unknown layer, device or precision, or a test scale that is too small.

    Paper: appendix B.
    """
    file, begun = Path(out), time.perf_counter()
    check_features_file(file)
    if file.exists() and not resume:
        raise UserError(f"{file} is there already: give another --out, or remove it")
    names = (str(models),) if isinstance(models, str | Path) else tuple(map(str, models))
    images = open_images(data, split, progress, note if processes().is_first else None)
    if not images.mirror and options.mirror is None:
        options = replace(options, mirror=False)
    compute = find_compute(device, precision, is_here=compute_chunks is None)
    work = Work(models=names, options=options, compute=compute, images=images, skip_damaged=skip_damaged)
    job = _job(work, str(data), split, progress)
    if file.exists():
        return _finished(file, job)
    job = broadcast_from_rank0(lambda: begin(file, job, resume=resume))
    rank, count = processes().rank, len(images)
    with locked(part_folder(file)) if rank == 0 else nullcontext():
        part = Part(part_folder(file), job["dimensions"], rank)
        wait_for_all()  # until all have repaired theirs
        part.read_again()
        left = [number for number in range(num_chunks(count)) if number not in part.chunks]
        mine = [left[index] for index in processes().share(len(left))]
        counter = Counter(_with_rate(progress), "describing", sum(len(chunk_range(one, count)) for one in mine))
        chunks = (compute_chunks or _compute_here)(work, mine, counter.advance)
        try:
            for chunk in chunks:
                part.append(chunk)
        except KeyboardInterrupt:
            if note is not None:
                note(f"{part.folder} keeps {len(part.chunks)} of {num_chunks(count)} parts: resume with --resume")
            raise
        wait_for_all()
        part.read_again()
        if missing := num_chunks(count) - len(part.chunks):
            raise UserError(
                f"{part.folder} lacks {missing} parts that other processes have: give a shared disk as --out"
            )
        skipped = part.skipped
        if len(skipped) == count:
            raise UserError(f"every one of the {count} images is damaged: see verydeep doctor {data}")
        if rank == 0:
            write_features(file, _described(images, skipped, job), part.rows())
            part.remove()
    all_names = images.names if skipped else []
    return FeaturesResult(
        file=file,
        num_images=count - len(skipped),
        skipped=[all_names[index] for index in skipped],
        job=job,
        seconds=time.perf_counter() - begun,
        computed=sum(len(chunk_range(number, count)) for number in left),
    )


def _job(work: Work, data: str, split: str, progress: Progress) -> dict[str, Any]:
    """What fixes the numbers of a file, as it stands in its metadata."""
    images = work.images
    settings = find_settings([open_net(name) for name in work.models], work.options)
    models = []
    for name in work.models:
        file = find_model_file(name)
        models.append({"name": name, "sha256": digest_of(file, "sha256", f"hashing {file.name}", progress)})
    options = asdict(work.options)
    return {
        "format_version": 1,
        "models": models,
        "layers": [one.layer.name for one in settings],
        "test_scales": [list(one.scales) for one in settings],
        "mirror": [one.mirror for one in settings],
        **{key: options[key] for key in ("combine", "pool", "normalise")},
        "dimensions": count_dimensions(settings, work.options),
        "precision": work.compute.precision,
        "device": work.compute.device,
        "data": {"name": images.data, "path": data, "fingerprint": images.fingerprint},
        "split": split,
        "splits": list(images.splits),
        "classes": None if images.classes is None else list(images.classes),
        "num_images": len(images),
        "damaged": "skip" if work.skip_damaged else "fail",
        "chunk": reading.CHUNK,
    }


def _finished(file: Path, job: dict[str, Any]) -> FeaturesResult:
    """Takes a file that is there already for the result, where it is of the same job."""
    if not is_features_file(file):
        raise UserError(f"{file} is there already, so that there is nothing to resume: remove it to compute it again")
    found = FeaturesFile(file)
    check_same(found.job, job, file)
    return FeaturesResult(file=file, num_images=len(found), skipped=[], job=found.job, seconds=0.0, computed=0)


def _compute_here(work: Work, numbers: Sequence[int], done: Callable[[float], None]) -> Iterator[Chunk]:
    if not numbers:
        return iter(())
    describer = Describer([open_net(name) for name in work.models], work.options, compute=work.compute)
    return describer.chunks(work.images, numbers, skip_damaged=work.skip_damaged, done=done)


def _described(images: ImageList, skipped: Sequence[int], job: dict[str, Any]) -> Described:
    names, labels, splits = images.names, images.labels, images.split_numbers
    if skipped:
        kept = np.delete(np.arange(len(images)), skipped)
        names = [names[index] for index in kept.tolist()]
        labels, splits = None if labels is None else labels[kept], splits[kept]
    return Described(names=names, labels=labels, splits=splits, job=job)


def _with_rate(progress: Progress) -> Progress:
    begun = time.perf_counter()

    def show(what: str, done: int, total: int) -> None:
        seconds = time.perf_counter() - begun
        progress(f"{what}, {done / max(seconds, 1e-9):,.0f} images/s", done, total)

    return show
