"""Writes a folder that looks like ImageNet and shows noise: for trying a thousand classes and measuring the loading.

Usage: python benchmarks/fake_imagenet.py OUT [--classes 1000] [--per-class 2] [--val-per-class 1] [--seed 0]

OUT gets train/n0.../*.JPEG and val/n0.../*.JPEG, as `verydeep train OUT` reads them. The images have the sizes of
ImageNet's, about 500x375 and a hundred kilobytes, so that decoding them takes as long; one in fifty is grey. The same
arguments give the same files.
"""

import argparse
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

SIZES = ((500, 375), (500, 375), (500, 375), (375, 500), (500, 333), (333, 500), (500, 500), (640, 480), (400, 300))
GREY_SHARE = 0.02
FIRST_WNID, LAST_WNID = 1_440_764, 9_999_999


@dataclass(frozen=True)
class Job:
    """An image to write.

    Attributes:
        file: where.
        seed: that decides everything about it.
    """

    file: Path
    seed: tuple[int, ...]


def jobs(out: Path, classes: int, per_class: int, val_per_class: int, seed: int) -> Iterator[Job]:
    """Names every image as ImageNet does."""
    for label in range(classes):
        wnid = f"n{FIRST_WNID + label * ((LAST_WNID - FIRST_WNID) // classes):08d}"
        for index in range(per_class):
            yield Job(out / "train" / wnid / f"{wnid}_{index + 1}.JPEG", (seed, 0, label, index))
        for index in range(val_per_class):
            number = label * val_per_class + index + 1
            yield Job(out / "val" / wnid / f"ILSVRC2012_val_{number:08d}.JPEG", (seed, 1, label, index))


def draw(seed: tuple[int, ...]) -> Image.Image:
    """Draws coarse patches under fine grain, which compress about as well as photographs."""
    generator = np.random.default_rng(seed)
    width, height = SIZES[generator.integers(len(SIZES))]
    width, height = width + int(generator.integers(-20, 21)), height + int(generator.integers(-20, 21))
    channels = () if generator.random() < GREY_SHARE else (3,)
    coarse = Image.fromarray(generator.integers(0, 256, (6, 8, *channels), dtype=np.uint8))
    grain = Image.fromarray(generator.integers(0, 256, (height, width, *channels), dtype=np.uint8))
    return Image.blend(coarse.resize((width, height), Image.Resampling.BILINEAR), grain, 0.25)


def write(job: Job) -> int:
    """Writes an image and gives its bytes."""
    draw(job.seed).save(job.file, "JPEG", quality=92)
    return job.file.stat().st_size


def main() -> None:
    """Reads the arguments, writes the folder and says what it holds."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("out", type=Path, help="a new folder")
    parser.add_argument("--classes", type=int, default=1000)
    parser.add_argument("--per-class", type=int, default=2)
    parser.add_argument("--val-per-class", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    if min(arguments.classes, arguments.per_class, arguments.val_per_class) < 1 or arguments.classes > 1_000_000:
        parser.error("give at least one class and one image")
    if arguments.out.exists() and any(arguments.out.iterdir()):
        parser.error(f"{arguments.out} is not empty: give a new folder")
    wanted = list(jobs(arguments.out, arguments.classes, arguments.per_class, arguments.val_per_class, arguments.seed))
    for folder in dict.fromkeys(job.file.parent for job in wanted):
        folder.mkdir(parents=True)
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        size = sum(pool.map(write, wanted))
    print(f"{len(wanted):,} images in {arguments.out}, {size / len(wanted) / 1000:.0f} kB each on average")


if __name__ == "__main__":
    main()
