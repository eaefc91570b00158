"""Measures the speed of this package on this machine, side by side with what would be used instead of it.

All contenders take turns in every round. Those whose libraries are not installed are named.

Example: python -m benchmarks inference --width 0.125 --crop 64 --rounds 3 --no-memory
"""

import argparse
import json
import os
import sys
import warnings
from pathlib import Path
from typing import Any

from verydeep.errors import UsageError, UserError, printable
from verydeep.files import check_output_file
from verydeep.machine import num_cores


def numbers(text: str) -> tuple[int, ...]:
    """Reads numbers of images, such as 1,8."""
    return tuple(int(part) for part in text.split(","))


def read_arguments(arguments: list[str] | None) -> argparse.Namespace:
    """Reads the command line; torch is not imported for it, nor for --help."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add: Any = parser.add_argument
    add("what", metavar="WHAT", help="inference, training, pipeline, predict, dense, features or perceptual")
    add("--architecture", default="D", help="A, B, D or E; vgg16 and the like too")
    add("--batch-norm", action="store_true", help="a batch norm after every convolution")
    add("--crop", type=int, help="side of the images, a multiple of 32 [224; training: 32 too]")
    add("--width", type=float, default=1.0, help="factor on the channels of every layer")
    add(
        "--batch",
        type=numbers,
        default=(),
        help="images of a call, such as 1,8 [inference 1,8; training 16, 128 at 32]",
    )
    add("--precision", default="fp32", help="fp32, bf16 or int8, of all; auto: ours as accelerate has it, peers of any")
    add("--threads", type=int, help="of every contender alike [the cores; pipeline 1]")
    add("--rounds", type=int, help="times that every contender is timed [3 to 7]")
    add("--untuned", action="store_true", help="leave the allocator as the system has it, for all alike")
    add("--model", help="a trained net: a model file, run folder or name [random weights]")
    add("--data", type=Path, help="photographs: a folder [two of scikit-learn's; for inference noise]")
    add(
        "--photographs",
        type=int,
        default=64,
        help="photographs that pipeline, predict and features read, if need be repeatedly",
    )
    add("--no-memory", action="store_true", help="leave out the peaks of memory, which take a process for each row")
    add("--out", type=Path, help="write a figure of the speeds to this file (.svg)")
    add("--json", action="store_true", help="print one JSON object on standard output and nothing else there")
    return parser.parse_args(arguments)


def set_threads_and_allocator(threads: int, *, tuned: bool) -> None:
    """Sets them for all contenders alike, before any library loads."""
    from verydeep.speed.allocator import tune_allocator, use_huge_pages

    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ[name] = str(threads)
    if tuned:
        tune_allocator()
        use_huge_pages()
    else:
        os.environ.pop("THP_MEM_ALLOC_ENABLE", None)


def compare(given: argparse.Namespace) -> None:
    """Measures, prints and draws."""
    if given.out is not None:
        check_output_file(given.out, "--out", "speeds.svg")
    if given.threads is not None and given.threads < 1:
        raise UsageError(f"--threads {given.threads}: give 1 or more")
    threads = given.threads or (1 if given.what == "pipeline" else num_cores())
    set_threads_and_allocator(threads, tuned=not given.untuned)

    from benchmarks.compare.contender import Options
    from benchmarks.compare.figure import write_figure
    from benchmarks.compare.measure import measure
    from benchmarks.compare.printed import print_bench, report_progress

    options = Options(
        what=given.what,
        architecture=given.architecture,
        batch_norm=given.batch_norm,
        crop=given.crop,
        width=given.width,
        batches=given.batch,
        precision=given.precision,
        threads=threads,
        rounds=given.rounds,
        tuned=not given.untuned,
        memory=not given.no_memory,
        model=given.model,
        data=given.data,
        photographs=given.photographs,
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # what libraries plan is of no use to who compares them
        found = measure(options, report_progress)
    if given.out is not None:
        write_figure(found, given.out)
    if given.json:
        print(json.dumps(found.as_record(), indent=2, allow_nan=False))
    else:
        print_bench(found)


def main(arguments: list[str] | None = None) -> None:
    """Runs the command line; a user's error becomes one line on standard error."""
    given = read_arguments(arguments)
    try:
        compare(given)
    except UserError as error:
        print(f"benchmarks: {printable(' '.join(str(error).split()))}", file=sys.stderr)
        sys.exit(error.exit_status)


if __name__ == "__main__":
    main()
