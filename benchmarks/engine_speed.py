"""The engine beside the libraries that are installed: D at 224 in float32.

Usage: python benchmarks/engine_speed.py [--threads 1,2] [--batches 1,8] [--rounds 7] [--json]

One process for each number of threads; all contenders in turn in each round, after a pause and an untimed call, with
the same allocator settings. Prints the median of images per second, the slowest and fastest, the ratio to the fastest
peer, the difference to float64, and the peak of a matrix product for what is possible at all.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from dataclasses import asdict, dataclass

from verydeep.records import environment
from verydeep.speed.allocator import tune_allocator, use_huge_pages

tune_allocator()
use_huge_pages()

import torch  # noqa: E402 - after the allocator
from engine_peers import contenders  # noqa: E402
from torch import Tensor  # noqa: E402

from verydeep.convnets.net import VeryDeep  # noqa: E402

PAUSE = 0.15
"""Seconds before each call: threads that still wait actively for more of the last work disturb the next."""


@dataclass(frozen=True, kw_only=True)
class Row:
    """What one contender reached: images per second (median, slowest, fastest), and its difference to float64."""

    threads: int
    batch: int
    name: str
    images_per_second: float
    slowest: float
    fastest: float
    ratio_to_best_peer: float
    error: float
    product_peak_gflops: float

    def __str__(self) -> str:
        """One line."""
        return (
            f"{self.threads} threads, batch {self.batch}  {self.name:34} {self.images_per_second:6.2f} images/s "
            f"({self.slowest:.2f} to {self.fastest:.2f}), {self.ratio_to_best_peer:.2f} of the best peer, "
            f"error {self.error:.1e}, product peak {self.product_peak_gflops:.0f} GFLOP/s"
        )


def matrix_product_peak() -> float:
    """GFLOP/s of the largest of ten products of 2048x2048 matrices."""
    a, best = torch.randn(2048, 2048), 0.0
    for _ in range(10):
        start = time.perf_counter()
        a @ a
        best = max(best, 2 * 2048**3 / (time.perf_counter() - start) / 1e9)
    return best


def exact_scores(net: VeryDeep, images: Tensor) -> Tensor:
    """The scores in float64, of an image at a time."""
    scores = torch.cat([net.double()(image[None]) for image in images])
    net.float()
    return scores


def measure(threads: int, batches: list[int], rounds: int) -> list[dict[str, object]]:
    """Times every contender in turn."""
    torch.set_num_threads(threads)
    net = VeryDeep("D", generator=torch.Generator().manual_seed(0)).eval()
    peak, rows = matrix_product_peak(), []
    for batch in batches:
        images = torch.randint(
            0, 256, (batch, 3, 224, 224), dtype=torch.uint8, generator=torch.Generator().manual_seed(1)
        )
        exact = exact_scores(net, images)
        found = contenders(net, images, threads)
        seconds: dict[str, list[float]] = {name: [] for name in found}
        for _ in range(rounds):
            for name, forward in found.items():
                time.sleep(PAUSE)
                forward()
                start = time.perf_counter()
                forward()
                seconds[name].append(time.perf_counter() - start)
        medians = {name: statistics.median(taken) for name, taken in seconds.items()}
        best_peer = min(list(medians.values())[1:])
        for name, taken in seconds.items():
            row = Row(
                threads=threads,
                batch=batch,
                name=name,
                images_per_second=batch / medians[name],
                slowest=batch / max(taken),
                fastest=batch / min(taken),
                ratio_to_best_peer=best_peer / medians[name],
                error=float((found[name]().double() - exact).norm() / exact.norm()),
                product_peak_gflops=peak,
            )
            print(row, file=sys.stderr, flush=True)
            rows.append(asdict(row))
    return rows


def main() -> None:
    """Measures each number of threads in a process of its own."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--threads", default="1,2")
    parser.add_argument("--batches", default="1,8")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--json", action="store_true", dest="as_json")
    arguments = parser.parse_args()
    counts = [int(count) for count in arguments.threads.split(",")]
    if len(counts) == 1:
        with torch.inference_mode():
            rows = measure(counts[0], [int(batch) for batch in arguments.batches.split(",")], arguments.rounds)
    else:
        rows = []
        for count in counts:
            command = [sys.executable, __file__, "--threads", str(count), "--json"]
            command += ["--batches", arguments.batches, "--rounds", str(arguments.rounds)]
            # libraries that ask the environment get the same number
            own = os.environ | {"OMP_NUM_THREADS": str(count)}
            answer = subprocess.run(command, env=own, stdout=subprocess.PIPE, check=True, text=True)
            rows += json.loads(answer.stdout)["rows"]
    if arguments.as_json:
        print(json.dumps({"machine": environment(), "rows": rows}, indent=2))


if __name__ == "__main__":
    main()
