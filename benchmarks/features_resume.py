"""A job of ``features`` that is killed and resumed ends in the same file; its memory does not grow with the images.

    python benchmarks/features_resume.py FOLDER --model verydeep-cifar10

Describes all images of FOLDER (50,000 of CIFAR-10 as JPEG were meant), once undisturbed and once killed half-way by
SIGKILL and resumed, and compares the bytes of both files; then a tenth of the images, and compares the peaks of memory.
"""

import argparse
import hashlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from verydeep.data.listing import image_files


def run(arguments: list[str], killed_at: int | None = None) -> tuple[float, int]:
    """Runs ``features``; returns its seconds and its peak of memory. It is killed once so many images are kept."""
    begun = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, "-m", "verydeep", "features", *arguments, "--json"], stdout=subprocess.DEVNULL
    )
    part = Path(arguments[arguments.index("--out") + 1] + ".part")
    while killed_at is not None and process.poll() is None:
        index = part / "0.jsonl"
        if index.exists() and index.read_text().count("\n") * 512 >= killed_at:
            process.send_signal(signal.SIGKILL)
            break
        time.sleep(0.05)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode != (0 if killed_at is None else -signal.SIGKILL):
        sys.exit(f"features ended with {process.returncode}")
    return time.perf_counter() - begun, usage.ru_maxrss * 1024


def digest(file: Path) -> str:
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


def a_tenth_of(files: list[Path], folder: Path) -> Path:
    """Links every tenth file into a flat folder."""
    folder.mkdir()
    for number, file in enumerate(files[::10]):
        (folder / f"{number:06}{file.suffix}").symlink_to(file.resolve())
    return folder


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--model", default="verydeep-cifar10")
    parser.add_argument("--ending", default="safetensors", choices=["safetensors", "npz", "parquet"])
    given = parser.parse_args()
    files = image_files(given.data)
    with tempfile.TemporaryDirectory(prefix="verydeep-features-") as folder:
        whole, resumed, small = (Path(folder) / f"{name}.{given.ending}" for name in ("whole", "resumed", "small"))
        common = [given.model, str(given.data), "--split", "all", "--out"]
        seconds, peak = run([*common, str(whole)])
        run([*common, str(resumed)], killed_at=len(files) // 2)
        kept = sum(line.count("\n") for line in [(Path(f"{resumed}.part") / "0.jsonl").read_text()])
        resumed_seconds, resumed_peak = run([*common, str(resumed), "--resume"])
        tenth = a_tenth_of(files, Path(folder) / "tenth")
        _, small_peak = run([given.model, str(tenth), "--out", str(small)])
        record = {
            "images": len(files),
            "images_per_second": len(files) / seconds,
            "same_file": digest(whole) == digest(resumed),
            "bytes": whole.stat().st_size,
            "images_kept_when_killed": 512 * kept,
            "seconds": seconds,
            "seconds_after_resuming": resumed_seconds,
            "peak_memory_bytes": {"all": peak, "resumed": resumed_peak, "a tenth": small_peak},
        }
    print(json.dumps(record, indent=2))
    if not record["same_file"]:
        sys.exit("the files differ")


if __name__ == "__main__":
    main()
