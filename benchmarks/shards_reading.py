"""Reading images from shards beside reading them from the folder they were made of.

Usage: python benchmarks/shards_reading.py DATA [--rounds 5] [--crop 32] [--workers 0,2] [--json]

Writes DATA as shards into a temporary folder, checks that every image comes back (names, labels, bytes, fingerprint),
and then times both in turn, in one process, the first round not counted: the bytes alone in a shuffled order, from the
page cache and after they were put out of it; and whole epochs of training batches.
"""

import argparse
import json
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np

from verydeep.data.batches import training_batches
from verydeep.data.dataset import DataSet
from verydeep.data.image_set import ImageSet
from verydeep.data.open import open_data
from verydeep.data.shard_writer import Written, write_shards
from verydeep.images.augment import TrainingView
from verydeep.machine import environment


def check(folder: DataSet, shards: DataSet) -> dict[str, object]:
    """Compares two data sets, image by image."""
    images, labels, same = 0, True, folder.fingerprint == shards.fingerprint
    for split in ("train", "val", "test"):
        ours, theirs = getattr(folder, split), getattr(shards, split)
        if ours is None:
            same = same and theirs is None
            continue
        labels = labels and ours.classes == theirs.classes and np.array_equal(ours.labels, theirs.labels)
        same = same and list(ours.names) == list(theirs.names)
        same = same and all(ours.source.read(name) == theirs.source.read(name) for name in ours.names)
        images += len(theirs)
    return {"images": images, "labels_equal": bool(labels), "names_bytes_and_fingerprint_equal": bool(same)}


def read_bytes(images: ImageSet) -> int:
    """Reads the encoded images in a shuffled order."""
    order = np.random.default_rng(0).permutation(len(images)).tolist()
    for index in order:
        images.source.read(images.names[index])
    return len(order)


def train_epoch(images: ImageSet, crop: int, workers: int) -> int:
    """Makes the batches of an epoch."""
    view = TrainingView(crop=crop, train_scale=(crop, crop), mirror=True)
    batches = training_batches(images, view, batch_size=128, seed=0, epoch=0, workers=workers)
    return sum(len(batch) for batch, _, _ in batches)


def put_out_of_the_page_cache(files: list[Path]) -> None:
    """Asks the system to forget what it has read of files."""
    for file in files:
        descriptor = os.open(file, os.O_RDONLY)
        os.fsync(descriptor)
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        os.close(descriptor)


def measure(
    what: Callable[[ImageSet], int], sets: dict[str, ImageSet], rounds: int, before: Callable[[str], None]
) -> dict[str, list[float]]:
    """Times a way of reading on each set in turn; images per second by name."""
    rates: dict[str, list[float]] = {name: [] for name in sets}
    for number in range(rounds + 1):
        for name in sets if number % 2 else reversed(sets):  # neither is always the first
            before(name)
            start = time.perf_counter()
            count = what(sets[name])
            if number:
                rates[name].append(count / (time.perf_counter() - start))
    return rates


def compare(folder: DataSet, shards: DataSet, out: Path, arguments: argparse.Namespace) -> list[dict[str, object]]:
    """Measures every way of reading."""
    files = {
        "folder": [Path(folder.train.where(index)) for index in range(len(folder.train))],
        "shards": sorted(out.glob("train-*.tar")),
    }
    ways: list[tuple[str, Callable[[ImageSet], int], Callable[[str], None]]] = [
        ("bytes, from the page cache", read_bytes, lambda name: None),
        ("bytes, not in the page cache", read_bytes, lambda name: put_out_of_the_page_cache(files[name])),
    ]
    ways += [
        (
            f"training batches, crop {arguments.crop}, {workers} workers",
            partial(train_epoch, crop=arguments.crop, workers=workers),
            lambda name: None,
        )
        for workers in map(int, arguments.workers.split(","))
    ]
    rows: list[dict[str, object]] = []
    for title, what, before in ways:
        rates = measure(what, {"folder": folder.train, "shards": shards.train}, arguments.rounds, before)
        ratios = [one / other for one, other in zip(rates["shards"], rates["folder"], strict=True)]
        row = {"what": title, "ratio": statistics.median(ratios), "ratios": ratios, "images_per_second": rates}
        rows.append(row)
        if not arguments.as_json:
            shown = "; ".join(
                f"{name} {statistics.median(some):,.0f} images/s ({min(some):,.0f} to {max(some):,.0f})"
                for name, some in rates.items()
            )
            spread = f"{min(ratios):.2f} to {max(ratios):.2f}"
            print(f"{title}: {shown}; shards / folder {statistics.median(ratios):.2f} ({spread})", flush=True)
    return rows


def main() -> None:
    """Writes, checks, measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("data")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--crop", type=int, default=32)
    parser.add_argument("--workers", default="0,2")
    parser.add_argument("--json", action="store_true", dest="as_json")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        out = Path(temporary) / "shards"
        start = time.perf_counter()
        written: Written = write_shards(arguments.data, out)
        seconds = time.perf_counter() - start
        folder, shards = open_data(arguments.data), open_data(out)
        checked = check(folder, shards)
        if not arguments.as_json:
            print(f"written: {written.num_images:,} images, {written.bytes / 1e6:.1f} MB, {seconds:.1f} s; {checked}")
        rows = compare(folder, shards, out, arguments)
        if arguments.as_json:
            record = {"machine": environment(), "written": written.as_record(), "seconds": seconds, "checked": checked}
            print(json.dumps(record | {"rows": rows}, indent=2))


if __name__ == "__main__":
    main()
