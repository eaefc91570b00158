"""JPEG to crop beside Pillow and torchvision, one thread.

Usage: OMP_NUM_THREADS=1 python benchmarks/pipeline_speed.py PHOTOS [--rounds 9] [--scale 256] [--crop 224] [--json]

PHOTOS is a folder of JPEG files, which are read once. Every way goes through all of them in turn, round after round,
the first round not counted; times are those of the processor. For each way of the test crop the mean difference of its
pixels to Pillow's is told (of 255), for the training views, which are random, none.
"""

import argparse
import io
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from numpy import ndarray
from PIL import Image, ImageOps
from torchvision.transforms import v2

from verydeep.data.augment import TrainingView
from verydeep.data.images import centre_crop, decode_pixels, is_image_file, rescale, rescaled_centre
from verydeep.records import environment


def upright(image: Image.Image) -> Image.Image:
    """Decodes an opened photograph; some say how they were held."""
    return ImageOps.exif_transpose(image).convert("RGB")


def test_crops(scale: int, crop: int) -> dict[str, Callable[[bytes], ndarray]]:
    """Ways to the central crop of the rescaled photograph."""

    def pillow(encoded: bytes) -> ndarray:
        with Image.open(io.BytesIO(encoded)) as image:
            return np.asarray(centre_crop(rescale(upright(image), scale), crop, crop))

    def pillow_draft(encoded: bytes) -> ndarray:
        with Image.open(io.BytesIO(encoded)) as image:
            image.draft("RGB", (scale, scale))
            return np.asarray(centre_crop(rescale(upright(image), scale), crop, crop))

    transform = v2.Compose([v2.Resize(scale, antialias=True), v2.CenterCrop(crop), v2.PILToTensor()])

    def torchvision(encoded: bytes) -> ndarray:
        with Image.open(io.BytesIO(encoded)) as image:
            made: ndarray = transform(upright(image)).permute(1, 2, 0).numpy()
        return made

    return {
        "Pillow": pillow,
        "verydeep": lambda encoded: rescaled_centre(decode_pixels(encoded, "photo"), scale, crop),
        "verydeep, decoding alone": lambda encoded: decode_pixels(encoded, "photo"),
        "Pillow, draft": pillow_draft,
        "torchvision v2 on PIL": torchvision,
    }


def training_views(crop: int) -> dict[str, Callable[[bytes], ndarray]]:
    """Ways to a training crop: a scale of 256 to 512, a place, a mirroring."""
    transform = v2.Compose(
        [v2.RandomResize(256, 513, antialias=True), v2.RandomCrop(crop), v2.RandomHorizontalFlip(), v2.PILToTensor()]
    )

    def torchvision(encoded: bytes) -> ndarray:
        with Image.open(io.BytesIO(encoded)) as image:
            made: ndarray = transform(upright(image)).numpy()
        return made

    generator, shifts = np.random.default_rng(0), np.diag([4.0, 2.0, 1.0])
    view = TrainingView(crop=crop, train_scale=(256, 512), mirror=True)
    shifted = TrainingView(crop=crop, train_scale=(256, 512), mirror=True, colour_shift=shifts)
    return {
        "torchvision v2 on PIL": torchvision,
        "verydeep": lambda encoded: view(decode_pixels(encoded, "photo"), generator),
        "verydeep, colour shift": lambda encoded: shifted(decode_pixels(encoded, "photo"), generator),
    }


def measure(ways: dict[str, Callable[[bytes], ndarray]], photos: list[bytes], rounds: int) -> dict[str, list[float]]:
    """Times each way through all photographs, in turn.

    Returns:
        Milliseconds a photograph, one number a round.
    """
    times: dict[str, list[float]] = {name: [] for name in ways}
    for number in range(rounds + 1):
        for name, way in ways.items():
            start = time.process_time()
            for encoded in photos:
                way(encoded)
            if number:
                times[name].append(1000 * (time.process_time() - start) / len(photos))
    return times


def compare(times: dict[str, list[float]]) -> list[dict[str, object]]:
    """Rows of a table; the ratio is the median over the rounds of how much faster than the first way."""
    first = next(iter(times.values()))
    return [
        {
            "way": name,
            "milliseconds": statistics.median(own),
            "fastest": min(own),
            "slowest": max(own),
            "times_as_fast": statistics.median(base / time for base, time in zip(first, own, strict=True)),
        }
        for name, own in times.items()
    ]


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("photos", type=Path)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--scale", type=int, default=256)
    parser.add_argument("--crop", type=int, default=224)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(1)
    photos = [file.read_bytes() for file in sorted(options.photos.rglob("*")) if is_image_file(file)]
    ways = test_crops(options.scale, options.crop)
    rows = compare(measure(ways, photos, options.rounds))
    for row, way in zip(rows, ways.values(), strict=True):
        pairs = [(way(encoded).astype(int), ways["Pillow"](encoded)) for encoded in photos]
        if all(ours.shape == theirs.shape for ours, theirs in pairs):
            row["difference"] = float(np.mean([np.abs(ours - theirs).mean() for ours, theirs in pairs]))
    answer = {
        "test crop": rows,
        "training view": compare(measure(training_views(options.crop), photos, options.rounds)),
        "photos": len(photos),
        "environment": environment(),
    }
    if options.json:
        print(json.dumps(answer))
        return
    for name in ("test crop", "training view"):
        print(f"{name}, {len(photos)} photos, {options.rounds} rounds")
        for row in answer[name]:  # type: ignore[attr-defined]
            apart = f"  difference {row['difference']:.3f}" if "difference" in row else ""
            print(
                f"  {row['way']:26} {row['milliseconds']:6.3f} ms ({row['fastest']:.3f} to {row['slowest']:.3f})  "
                f"{row['times_as_fast']:.2f}{apart}"
            )


if __name__ == "__main__":
    main()
