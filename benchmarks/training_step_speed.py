"""A weight update with verydeep's kernel beside the same update by PyTorch in both memory layouts, in float32.

Usage: python benchmarks/training_step_speed.py [--case d224|d32] [--batch N] [--threads N] [--rounds 5] [--cpu-time]
       [--json]

All run in one process, in turn in each round, after a pause and two untimed updates each, on the same images, with the
same allocator settings. Prints the median of images per second, the slowest and fastest, the ratio to PyTorch's better
layout, and how far the gradient of all weights, of two images without dropout, is from float64's. With --cpu-time the
processor's time is taken instead of the clock's: for a machine with other work, and one thread.
"""

import argparse
import json
import os
import statistics
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass

from verydeep.records import environment
from verydeep.speed.allocator import tune_allocator, use_huge_pages

tune_allocator()
use_huge_pages()

import torch  # noqa: E402 - after the allocator
from torch import Tensor  # noqa: E402

from verydeep.convnets.net import VeryDeep  # noqa: E402
from verydeep.device import Choice  # noqa: E402
from verydeep.speed.training import place  # noqa: E402
from verydeep.training.fit import make_optimiser  # noqa: E402
from verydeep.training.recipes import find_recipe  # noqa: E402
from verydeep.training.update import update  # noqa: E402

CASES = {"d224": ("D", False, 224, 16), "d32": ("D", True, 32, 128)}
CLASSES = {"d224": 1000, "d32": 10}
PAUSE = 0.15
"""Seconds before each update: threads that still wait actively for more of the last work disturb the next."""


@dataclass(frozen=True, kw_only=True)
class Row:
    """What one contender reached: images per second (median, slowest, fastest), and its difference to float64."""

    case: str
    threads: int
    name: str
    images_per_second: float
    slowest: float
    fastest: float
    ratio_to_better_layout: float
    error: float

    def __str__(self) -> str:
        """One line."""
        return (
            f"{self.case}, {self.threads} threads  {self.name:24} {self.images_per_second:6.2f} images/s "
            f"({self.slowest:.2f} to {self.fastest:.2f}), {self.ratio_to_better_layout:.2f} of the better layout, "
            f"gradient error {self.error:.1e}"
        )


def make_net(case: str) -> VeryDeep:
    architecture, batch_norm, crop, _ = CASES[case]
    generator = torch.Generator().manual_seed(0)
    return VeryDeep(
        architecture, num_classes=CLASSES[case], batch_norm=batch_norm, crop=crop, generator=generator
    ).train()


def make_images(case: str, count: int) -> tuple[Tensor, Tensor]:
    """Images of noise n,3,h,w, and their classes."""
    crop = CASES[case][2]
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (count, crop, crop, 3), dtype=torch.uint8, generator=generator)
    return images.permute(0, 3, 1, 2), torch.arange(count) % CLASSES[case]


def make_step(case: str, batch: int, choice: Choice) -> Callable[[], object]:
    net = make_net(case)
    place(net, choice)
    optimiser = make_optimiser(net, find_recipe("small-images", learning_rate=1e-12))
    images, labels = make_images(case, batch)
    return lambda: update(net, optimiser, images, labels, choice)


def gradient(case: str, choice: Choice, dtype: torch.dtype) -> Tensor:
    """The gradient of all weights, of two images without dropout, in float64."""
    net = make_net(case)
    net.set_dropout(0.0)
    place(net.to(dtype), choice)
    images, labels = make_images(case, 2)
    torch.nn.functional.cross_entropy(net(images), labels).backward()
    return torch.cat(
        [parameter.grad.double().flatten() for parameter in net.parameters() if parameter.grad is not None]
    )


def measure(case: str, batch: int, threads: int, rounds: int, clock: Callable[[], float]) -> list[Row]:
    """Times the contenders in turn."""
    choices = {
        name: Choice(device="cpu", precision="fp32", channels_last=last, threads=threads, kernel=kernel)
        for name, last, kernel in (
            ("verydeep's kernel", True, True),
            ("PyTorch, channels last", True, False),
            ("PyTorch, channels first", False, False),
        )
    }
    exact = gradient(case, choices["PyTorch, channels first"], torch.float64)
    errors = {
        name: float((gradient(case, choice, torch.float32) - exact).norm() / exact.norm())
        for name, choice in choices.items()
    }
    del exact
    steps = {name: make_step(case, batch, choice) for name, choice in choices.items()}
    for step in (*steps.values(), *steps.values()):
        step()
    seconds: dict[str, list[float]] = {name: [] for name in steps}
    for _ in range(rounds):
        for name, step in steps.items():
            time.sleep(PAUSE)
            start = clock()
            step()
            seconds[name].append(clock() - start)
    better = min(statistics.median(taken) for name, taken in seconds.items() if not choices[name].kernel)
    return [
        Row(
            case=f"{case} batch {batch}",
            threads=threads,
            name=name,
            images_per_second=batch / statistics.median(taken),
            slowest=batch / max(taken),
            fastest=batch / min(taken),
            ratio_to_better_layout=better / statistics.median(taken),
            error=errors[name],
        )
        for name, taken in seconds.items()
    ]


def main() -> None:
    """Measures the cases and prints images per second and ratios."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--case", choices=CASES)
    parser.add_argument("--batch", type=int)
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--cpu-time", action="store_true")
    parser.add_argument("--json", action="store_true", dest="as_json")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    clock = time.process_time if arguments.cpu_time else time.perf_counter
    rows = []
    for case in [arguments.case] if arguments.case else CASES:
        for row in measure(case, arguments.batch or CASES[case][3], arguments.threads, arguments.rounds, clock):
            rows.append(row)
            if not arguments.as_json:
                print(row, flush=True)
    if arguments.as_json:
        print(json.dumps({"machine": environment(), "rows": [asdict(row) for row in rows]}, indent=2))


if __name__ == "__main__":
    main()
