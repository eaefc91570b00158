"""Lets a small training fail, or be killed, at each of its writes, fsyncs and renames, or at random moments.

    python tests/training/fault_driver.py WORK --every 1 --moments 30

After each fault the same command is given again with --resume, and the weights must be those of a training to which
nothing happened. The faults come from faults.c, which is compiled into WORK and preloaded. Each training runs in a fork
of this process, which has trained once: a fork imports nothing, and most of a short training is imports.
"""

import argparse
import contextlib
import ctypes
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path

PAGE_LOST = 3
"""Exit status of a training that ended well, a page of it lost."""


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


def train(data: Path, out: Path) -> int:
    """Begins the training, or goes on with it: what ``train DATA --out RUN --resume`` does."""
    from verydeep.errors import UserError
    from verydeep.runs.fit import train as start
    from verydeep.runs.options import ComputeOptions

    execution = ComputeOptions(device="cpu", precision="fp32", checkpoint_seconds=1e-9)
    changes = {"epochs": 2, "batch_size": 4, "keep": "best", "initialisation": "glorot"}
    try:
        start(data, out=out, crop=32, width=0.02, recipe="quick", changes=changes, execution=execution, go_on=True)
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


def same_weights(one: Path, other: Path) -> bool:
    import torch
    from safetensors.torch import load_file

    ours, theirs = load_file(one / "model.safetensors"), load_file(other / "model.safetensors")
    return ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in ours)


def untimed_log(run: Path) -> list[dict[str, object]]:
    """The lines of a log but for their times."""
    timed = ("seconds", "images_per_second", "time")
    lines = map(json.loads, (run / "log.jsonl").read_text().splitlines())
    return [{key: value for key, value in line.items() if key not in timed} for line in lines]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("work", type=Path)
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
    data, whole, out, count_file = (options.work / name for name in ("data", "whole", "run", "count"))
    make_pictures(data)
    assert train(data, options.work / "first") == 0

    def counted() -> int:
        faults.faults_arm(str(whole).encode(), 0, 0)
        status = train(data, whole)
        seen = faults.faults_seen()
        faults.faults_arm(b"", 0, 0)
        count_file.write_text(str(seen))
        return status

    began = time.monotonic()
    assert in_fork(counted) == 0
    lasts, calls, failures, told = time.monotonic() - began, int(count_file.read_text()), 0, 0

    def check(what: str) -> None:
        nonlocal failures
        status, left = in_fork(lambda: train(data, out)), [file.name for file in out.glob(".*")]
        if status or left or not same_weights(whole, out) or untimed_log(whole) != untimed_log(out):
            failures += 1
            print(f"{what}: FAILED, exit {status}, left {left}", flush=True)
        shutil.rmtree(out)

    for kills in (0, 1):
        for number in range(options.first, calls + 1, options.every):

            def struck(number: int = number, kills: int = kills) -> int:
                lost = note_lost_pages()
                faults.faults_arm(str(out).encode(), number, kills)
                return train(data, out) or (PAGE_LOST if lost else 0)

            status = in_fork(struck)
            assert status in ((-signal.SIGKILL,) if kills else (1, PAGE_LOST)), (number, kills, status)
            told += not kills
            check(f"{'killed' if kills else 'failed'} at call {number} of {calls}")
    print(f"{calls} writes, fsyncs and renames: {told} failed, {told} killed, one by one", flush=True)
    moments = random.Random(0)
    for number in range(options.moments):
        seconds = moments.uniform(0, 1.1 * lasts)
        status = in_fork(lambda: train(data, out), seconds)
        check(f"killed after {seconds:.3f} s ({number})")
    print(f"{options.moments} killed at random moments of {lasts:.2f} s")
    print(f"{failures} of {2 * told + options.moments} resumed to other weights")
    sys.exit(bool(failures))


if __name__ == "__main__":
    main()
