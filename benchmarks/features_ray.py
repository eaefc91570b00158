"""``features`` on a Ray cluster of this machine beside plain ``features``: one worker against two, and the overhead.

    python benchmarks/features_ray.py FOLDER --model vgg16-features --test-scales 224

Each way writes a file of its own, and all files must be the same. Steady images per second leave out what a process
takes to start: the difference between all images and a tenth of them. Every worker has the cores over the workers.
"""

import argparse
import hashlib
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from verydeep.data.listing import image_files


def seconds_of(arguments: Sequence[str]) -> float:
    begun = time.perf_counter()
    subprocess.run(
        [sys.executable, "-m", "verydeep", "features", *arguments, "--json"], check=True, stdout=subprocess.DEVNULL
    )
    return time.perf_counter() - begun


def linked(files: Sequence[Path], folder: Path) -> str:
    """Links files into a flat folder."""
    folder.mkdir()
    for number, file in enumerate(files):
        (folder / f"{number:06}{file.suffix}").symlink_to(file.resolve())
    return str(folder)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--model", default="vgg16-features")
    parser.add_argument("--test-scales", default="224")
    parser.add_argument("--images", type=int, default=5120)
    given = parser.parse_args()
    found = image_files(given.data)
    files = [found[number % len(found)] for number in range(given.images)]
    ways: dict[str, list[str]] = {
        "features": [],
        "one worker": ["--ray", "local", "--ray-workers", "1"],
        "two workers": ["--ray", "local", "--ray-workers", "2"],
    }
    rows, digests = [], set()
    with tempfile.TemporaryDirectory(prefix="verydeep-ray-") as scratch:
        folder = Path(scratch)
        everything, tenth = linked(files, folder / "all"), linked(files[::10], folder / "tenth")
        for name, options in ways.items():
            common = ["--test-scales", given.test_scales, *options, "--out"]
            out, small = (str(folder / f"{name.replace(' ', '-')}-{part}.safetensors") for part in ("all", "tenth"))
            seconds = seconds_of([given.model, everything, *common, out])
            first = seconds_of([given.model, tenth, *common, small])
            with Path(out).open("rb") as opened:
                digests.add(hashlib.file_digest(opened, "sha256").hexdigest())
            steady = (len(files) - len(files[::10])) / (seconds - first)
            rows.append({"name": name, "seconds": seconds, "seconds_of_a_tenth": first, "images_per_second": steady})
    print(json.dumps({"images": len(files), "rows": rows, "same_file": len(digests) == 1}, indent=2))


if __name__ == "__main__":
    main()
