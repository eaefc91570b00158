"""Lets a small job fail, or be killed, at each of its writes, fsyncs and renames, or at random moments.

    python tests/training/fault_driver.py WORK --job train --every 1 --moments 30

Jobs: train, localise, features, tables, fetch. After each fault the same command is given again, with --resume, and
what lies there then must be what a job left to which nothing happened. The faults come from faults.c, which is compiled
into WORK and preloaded. Each job runs in a fork of this process, which has done it once: a fork imports nothing, and
most of a short job is imports.
"""

import argparse
import contextlib
import ctypes
import functools
import hashlib
import http.server
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

PAGE_LOST = 3
"""Exit status of a training that ended well, a page of it lost."""

TIMES = frozenset({"seconds", "images_per_second", "time", "began", "command", "options", "seconds_used"})
"""What differs between two equal jobs, beside the names of their folders."""


def preload(work: Path) -> None:
    """Compiles faults.c and starts this script again with it in front of the C library."""
    library = work / "faults.so"
    source = Path(__file__).with_name("faults.c")
    subprocess.run(["cc", "-shared", "-fPIC", "-O1", "-o", str(library), str(source), "-ldl"], check=True)
    os.environ |= {"LD_PRELOAD": str(library), "FAULTS": str(library), "OMP_NUM_THREADS": "1"}
    os.execv(sys.executable, [sys.executable, *sys.argv])


def make_pictures(folder: Path) -> None:
    """Writes 2 classes of 8 pictures."""
    import numpy as np
    from PIL import Image

    generator = np.random.default_rng(0)
    for name, level in (("dark", 40), ("bright", 200)):
        (folder / name).mkdir(parents=True)
        for index in range(8):
            noise = generator.integers(-30, 31, (36, 36, 3)) + level
            Image.fromarray(noise.astype(np.uint8)).save(folder / name / f"{index}.png")


def train(work: Path, out: Path) -> None:
    """Begins the training, or resumes it: what ``train DATA --out RUN --resume`` does."""
    from verydeep.runs.fit import train as start
    from verydeep.runs.options import ComputeOptions

    execution = ComputeOptions(device="cpu", precision="fp32", checkpoint_seconds=1e-9)
    changes = {"epochs": 2, "batch_size": 4, "keep": "best", "initialisation": "glorot"}
    start(work / "data", out=out, crop=32, width=0.02, recipe="quick", changes=changes, execution=execution, go_on=True)


def localise(work: Path, out: Path) -> None:
    """Begins the training of a localiser, or resumes it."""
    from verydeep.localisation.options import LocaliseOptions
    from verydeep.localisation.start import train as start

    options = LocaliseOptions(
        init_from=work / "classifier.safetensors", epochs=2, batch_size=8, device="cpu", out=out, resume=True,
        workers=0, checkpoint_minutes=1e-9,
    )  # fmt: skip
    start(work / "boxes.csv", options)


def features(work: Path, out: Path) -> None:
    """Begins a file of descriptors, or resumes it."""
    from verydeep.testing import chunks
    from verydeep.testing.descriptors import DescriptorOptions
    from verydeep.transfer.features import extract_features

    chunks.CHUNK = 4
    out.mkdir(exist_ok=True)
    scale = DescriptorOptions(test_scales=(40,))
    extract_features(
        work / "classifier.safetensors", work / "data", out / "f.safetensors", scale, split="all", resume=True
    )


def tables(work: Path, out: Path) -> None:
    """Makes tables, or goes on with them: the same command."""
    from verydeep.tables.grid import TablesOptions
    from verydeep.tables.make import make_tables

    options = TablesOptions(
        out=out, architectures=("A",), train_scale=((37, 37),), width=0.02, crop=32, recipe="quick", epochs=1,
        device="cpu", precision="fp32", changes={"batch_size": 8, "initialisation": "glorot"}, split="val",
    )  # fmt: skip
    make_tables(str(work / "data"), options)


def fetch(work: Path, out: Path) -> None:
    """Fetches weights from a server of the parent process."""
    from verydeep.weights.fetch import fetch_weights

    os.environ["VERYDEEP_CACHE"] = str(out)
    fetch_weights("imagenet-A")


def serve_weights(work: Path) -> None:
    """Lets a name stand for a small file on a server in a thread of this process."""
    from dataclasses import replace

    import torch
    from torch import nn

    from verydeep.download import Digest
    from verydeep.weights.published import PUBLISHED

    sides, channels = (0, 3, 6, 8, 11, 13, 16, 18), (3, 8, 8, 16, 16, 32, 32, 32, 32)
    layers: dict[str, nn.Module] = {
        f"features.{number}": nn.Conv2d(*channels[index : index + 2], 3) for index, number in enumerate(sides)
    }
    for number, shape in ((0, (32 * 49, 64)), (3, (64, 64)), (6, (64, 9))):
        layers[f"classifier.{number}"] = nn.Linear(*shape)
    state = {f"{name}.{part}": value for name, layer in layers.items() for part, value in layer.state_dict().items()}
    (work / "served").mkdir()
    torch.save(state, work / "served/a.pth")

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=work / "served"))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    content = (work / "served/a.pth").read_bytes()
    digest = Digest("sha256", hashlib.sha256(content).hexdigest())
    url = f"http://127.0.0.1:{server.server_address[1]}/a.pth"
    os.environ["no_proxy"] = "*"
    PUBLISHED["imagenet-A"] = replace(PUBLISHED["imagenet-A"], url=url, digest=digest, size=len(content))


def make_inputs(work: Path) -> None:
    """Writes 2 classes of 8 pictures, boxes on them, and a classifier."""
    import torch

    from verydeep.nets.model_file import save
    from verydeep.nets.net import VeryDeep

    make_pictures(work / "data")
    names = [f"data/{name}/{index}.png" for name in ("dark", "bright") for index in range(8)]
    lines = [f"{name},{name.split('/')[1]},4,5,30,{25 + number % 8}" for number, name in enumerate(names)]
    (work / "boxes.csv").write_text("\n".join(["file,class,x1,y1,x2,y2", *lines]) + "\n")
    net = VeryDeep("A", num_classes=2, crop=32, width=0.02, generator=torch.Generator().manual_seed(0))
    net.classes, net.train_scale = ("bright", "dark"), (36, 36)
    save(net, work / "classifier.safetensors")


@dataclass(frozen=True)
class Job:
    """What is disturbed."""

    run: Callable[[Path, Path], None]
    compared: tuple[str, ...]
    "Files that must be equal: safetensors by their bytes, or by their tensors in a run; lines of JSON but for times."
    tolerated: str = ""
    "Temporary files that may stay, as a pattern: of the page of a training that had ended when its process was killed."


JOBS = {
    "train": Job(train, ("model.safetensors", "log.jsonl")),
    "localise": Job(localise, ("model.safetensors", "log.jsonl")),
    "features": Job(features, ("f.safetensors",)),
    "tables": Job(tables, ("results.jsonl",), tolerated=".report.html.*.tmp"),
    "fetch": Job(fetch, ("weights/imagenet-A.safetensors", "weights/.pins.json")),
}


def attempt(job: Job, work: Path, out: Path) -> int:
    """Runs a job; 1 where it says that a file could not be written."""
    from verydeep.errors import UserError

    try:
        job.run(work, out)
    except (UserError, OSError) as error:
        print(f"    {error}", flush=True)
        return 1
    return 0


def note_lost_pages() -> list[OSError]:
    """Notes pages of the running training that cannot be written: it goes on without them."""
    from verydeep.runs import live_report

    write, lost = live_report.write_page, []

    def noted(*given: object) -> object:
        try:
            return write(*given)
        except OSError as error:
            lost.append(error)
            raise

    live_report.write_page = noted
    return lost


def in_fork(work: Callable[[], int], seconds: float | None = None) -> int:
    """Runs something in a fork, and kills it after some time; gives its exit status, or minus the signal."""
    child = os.fork()
    if not child:
        with contextlib.suppress(BaseException):
            os._exit(work())
        os._exit(99)
    if seconds is not None:
        time.sleep(seconds)
        os.kill(child, signal.SIGKILL)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def difference(job: Job, one: Path, other: Path) -> str | None:
    """Which file of a job differs from that of another, or is missing."""
    for name in job.compared:
        if not (other / name).exists() or contents(one, name) != contents(other, name):
            return name
    return None


def contents(out: Path, name: str) -> Any:  # noqa: ANN401 - bytes, or what JSON holds
    file = out / name
    if name == "model.safetensors":  # whose card says when it was trained
        from safetensors.numpy import load_file

        return {key: value.tobytes() for key, value in load_file(file).items()}
    if file.suffix == ".json":
        return json.loads(file.read_text())
    if file.suffix == ".safetensors":
        return file.read_bytes()
    return [untimed(json.loads(line)) for line in file.read_text().replace(str(out), "OUT").splitlines()]


def untimed(value: Any) -> Any:  # noqa: ANN401 - what JSON holds
    if isinstance(value, dict):
        return {key: untimed(one) for key, one in value.items() if key not in TIMES}
    return [untimed(one) for one in value] if isinstance(value, list) else value


def leftovers(job: Job, out: Path) -> list[str]:
    """Temporary files, and parts of files."""
    kinds = (".*.tmp", ".tmp??????", "*.part", ".*.tag", "checkpoint-next.safetensors")
    found = (file for kind in kinds for file in out.rglob(kind) if not (job.tolerated and file.match(job.tolerated)))
    return sorted(str(file.relative_to(out)) for file in found)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("work", type=Path)
    parser.add_argument("--job", choices=JOBS, default="train")
    parser.add_argument("--first", type=int, default=1, help="the first call to let fail")
    parser.add_argument("--every", type=int, default=1, help="let every n-th call fail")
    parser.add_argument("--moments", type=int, default=30, help="kill at so many random moments")
    options = parser.parse_args()
    options.work.mkdir(parents=True, exist_ok=True)
    if "FAULTS" not in os.environ:
        preload(options.work)
    warnings.simplefilter("error")
    faults = ctypes.CDLL(os.environ["FAULTS"])
    import torch

    torch.set_num_threads(1)
    work, job = options.work.resolve(), JOBS[options.job]
    whole, out, count_file = (work / name for name in ("whole", "run", "count"))
    make_inputs(work)
    if options.job == "fetch":
        serve_weights(work)
    assert attempt(job, work, work / "first") == 0

    def counted() -> int:
        faults.faults_arm(str(whole).encode(), 0, 0)
        status = attempt(job, work, whole)
        seen = faults.faults_seen()
        faults.faults_arm(b"", 0, 0)
        count_file.write_text(str(seen))
        return status

    began = time.monotonic()
    assert in_fork(counted) == 0
    lasts, calls, failures, told = time.monotonic() - began, int(count_file.read_text()), 0, 0

    def check(what: str) -> None:
        nonlocal failures
        status = in_fork(lambda: attempt(job, work, out))
        left, differs = leftovers(job, out), None if status else difference(job, whole, out)
        if status or left or differs:
            failures += 1
            print(f"{what}: FAILED, exit {status}, left {left}, other: {differs}", flush=True)
        shutil.rmtree(out, ignore_errors=True)

    for kills in (0, 1):
        for number in range(options.first, calls + 1, options.every):

            def struck(number: int = number, kills: int = kills) -> int:
                lost = note_lost_pages()
                faults.faults_arm(str(out).encode(), number, kills)
                return attempt(job, work, out) or (PAGE_LOST if lost else 0)

            status = in_fork(struck)
            expected = (-signal.SIGKILL,) if kills else (1, PAGE_LOST) if options.job == "train" else (0, 1, PAGE_LOST)
            assert status in expected, (number, kills, status)
            told += not kills
            check(f"{'killed' if kills else 'failed'} at call {number} of {calls}")
    print(f"{calls} writes, fsyncs and renames: {told} failed, {told} killed, one by one", flush=True)
    moments = random.Random(0)
    for number in range(options.moments):
        seconds = moments.uniform(0, 1.1 * lasts)
        in_fork(lambda: attempt(job, work, out), seconds)
        check(f"killed after {seconds:.3f} s ({number})")
    print(f"{options.moments} killed at random moments of {lasts:.2f} s")
    print(f"{failures} of {2 * told + options.moments} resumed to something else")
    sys.exit(bool(failures))


if __name__ == "__main__":
    main()
