"""The command line of the bench: what it measures and how.

torch is imported inside the verb, as in the command line itself, and after the threads and the allocator are set.
"""

import os
from pathlib import Path
from typing import Annotated

import typer

from verydeep.cli.json_answer import JsonOption, print_json
from verydeep.cli.options import read_numbers
from verydeep.errors import UsageError
from verydeep.files import check_output_file
from verydeep.machine import num_cores


def bench(
    what: Annotated[str, typer.Option(help="inference, training, pipeline, predict or dense.")],
    architecture: Annotated[str, typer.Option(help="A, B, D or E; vgg16 and the like too.")] = "D",
    batch_norm: Annotated[bool, typer.Option("--batch-norm", help="A batch norm after every convolution.")] = False,
    crop: Annotated[
        int | None, typer.Option(help="Side of the images, a multiple of 32. [224; training: 32 too]")
    ] = None,
    width: Annotated[float, typer.Option(help="Factor on the channels of every layer.")] = 1.0,
    batch: Annotated[
        str | None, typer.Option(help="Images of a call, such as 1,8. [inference 1,8; training 16, and 128 at 32]")
    ] = None,
    precision: Annotated[
        str,
        typer.Option(help="fp32, bf16 or int8, of all contenders; auto: our fastest against the fastest peer of any."),
    ] = "fp32",
    threads: Annotated[int | None, typer.Option(help="Of every contender alike. [the cores; pipeline 1]")] = None,
    rounds: Annotated[int | None, typer.Option(help="Times that every contender is timed. [3 to 7]")] = None,
    untuned: Annotated[
        bool, typer.Option("--untuned", help="Leave the allocator as the system has it, for all contenders alike.")
    ] = False,
    model: Annotated[
        str | None, typer.Option(help="Take this trained net: a model file, run folder or name. [random weights]")
    ] = None,
    data: Annotated[
        Path | None, typer.Option(help="Photographs: a folder. [two of scikit-learn's; for inference noise]")
    ] = None,
    photographs: Annotated[
        int, typer.Option(help="Photographs that pipeline and predict read, again and again where there are fewer.")
    ] = 64,
    no_memory: Annotated[
        bool, typer.Option("--no-memory", help="Leave out the peaks of memory, which take a process for each row.")
    ] = False,
    out: Annotated[Path | None, typer.Option(help="Write a figure of the speeds to this file (.svg).")] = None,
    as_json: JsonOption = False,
) -> None:
    """Measure the speed of this package on this machine, side by side with what would be used instead of it.

    All contenders take turns in every round. Those whose libraries are not installed are named.

    Example: verydeep bench --what inference --width 0.125 --crop 64 --rounds 3 --no-memory
    """
    if out is not None:
        check_output_file(out, "--out", "speeds.svg")
    if threads is not None and threads < 1:
        raise UsageError(f"--threads {threads}: give 1 or more")
    count = threads or (1 if what == "pipeline" else num_cores())
    _prepare(count, tuned=not untuned)

    from verydeep.apps.bench_printed import print_bench
    from verydeep.apps.bench_verb import run, write_figure
    from verydeep.bench.contender import Options

    options = Options(
        what=what,
        architecture=architecture,
        batch_norm=batch_norm,
        crop=crop,
        width=width,
        batches=() if batch is None else read_numbers(batch, "--batch", "numbers of images, such as 1,8"),
        precision=precision,
        threads=count,
        rounds=rounds,
        tuned=not untuned,
        memory=not no_memory,
        model=model,
        data=data,
        photographs=photographs,
    )
    options.check()
    found = run(options)
    if out is not None:
        write_figure(found, out)
    if as_json:
        print_json(found.as_record())
    else:
        print_bench(found)


def _prepare(threads: int, *, tuned: bool) -> None:
    """Sets threads and allocator before any library loads, for all of them alike."""
    from verydeep.speed.allocator import tune_allocator, use_huge_pages

    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ[name] = str(threads)
    if tuned:
        tune_allocator()
        use_huge_pages()
    else:
        os.environ.pop("THP_MEM_ALLOC_ENABLE", None)
