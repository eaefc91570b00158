"""Training steps of verydeep beside a plain loop and the same loop at its best.

Usage: python benchmarks/training_throughput.py [--rounds 7] [--json]

All run in one process, in turn, on the same images, with the same allocator settings: (a) a loop as a tutorial writes
it, float32 in the default layout; (b) the same net, channels last, bf16 autocast, fused SGD, in-place ReLU; and
verydeep's update. The net of (a) and (b) has torchvision's structure with a head for the same geometry.
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable

from verydeep.machine import environment
from verydeep.speed.allocator import tune_allocator, use_huge_pages

tune_allocator()
use_huge_pages()

import torch  # noqa: E402 - after the allocator
import torch.nn.functional as F  # noqa: E402
from torch import Tensor, nn  # noqa: E402

from verydeep.device import Compute, has_fast_bf16  # noqa: E402
from verydeep.nets.architecture import ARCHITECTURES, BLOCK_CHANNELS  # noqa: E402
from verydeep.nets.net import VeryDeep  # noqa: E402
from verydeep.training.loop import make_optimiser  # noqa: E402
from verydeep.training.recipe import find_recipe  # noqa: E402
from verydeep.training.update import update  # noqa: E402

CASES = (("A", True, 32, 128), ("D", False, 224, 8))
CLASSES = 10


def plain_net(name: str, batch_norm: bool, crop: int) -> nn.Sequential:
    """The net as torchvision builds it, with a head for this crop."""
    parts: list[nn.Module] = []
    channels = 3
    for out, kernels in zip(BLOCK_CHANNELS, ARCHITECTURES[name].blocks, strict=True):
        for kernel in kernels:
            parts.append(nn.Conv2d(channels, out, kernel, padding=kernel // 2))
            parts += [nn.BatchNorm2d(out)] if batch_norm else []
            parts.append(nn.ReLU(inplace=True))
            channels = out
        parts.append(nn.MaxPool2d(2))
    side = crop // 32
    parts += [nn.Flatten(), nn.Linear(channels * side * side, 4096), nn.ReLU(inplace=True), nn.Dropout()]
    parts += [nn.Linear(4096, 4096), nn.ReLU(inplace=True), nn.Dropout(), nn.Linear(4096, CLASSES)]
    return nn.Sequential(*parts)


def plain_step(net: nn.Module, images: Tensor, labels: Tensor, *, best: bool) -> Callable[[], None]:
    """One update of a loop in plain PyTorch."""
    optimiser = torch.optim.SGD(net.parameters(), lr=1e-3, momentum=0.9, weight_decay=5e-4, fused=best or None)
    mean, deviation = torch.full((3, 1, 1), 120.0), torch.full((3, 1, 1), 60.0)
    if best:
        net.to(memory_format=torch.channels_last)

    def step() -> None:
        batch = (images.float() - mean) / deviation
        with torch.autocast("cpu", torch.bfloat16, enabled=best and has_fast_bf16("cpu")):
            scores = net(batch)
        loss = F.cross_entropy(scores.float(), labels)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()

    return step


def our_step(net: VeryDeep, images: Tensor, labels: Tensor) -> Callable[[], None]:
    """One update as verydeep's loop makes it."""
    precision = "bf16" if has_fast_bf16("cpu") else "fp32"
    choice = Compute(device="cpu", precision=precision, channels_last=True, threads=torch.get_num_threads())
    net.place(choice)
    optimiser = make_optimiser(net, find_recipe("small-images", learning_rate=1e-3))

    def step() -> None:
        update(net, optimiser, images, labels, choice)

    return step


def measure(name: str, batch_norm: bool, crop: int, batch: int, rounds: int) -> dict[str, list[float]]:
    """Times the three steps in turn; seconds by name."""
    images = torch.randint(0, 256, (batch, crop, crop, 3), dtype=torch.uint8).permute(0, 3, 1, 2)
    labels = torch.arange(batch) % CLASSES
    net = VeryDeep(name, num_classes=CLASSES, batch_norm=batch_norm, crop=crop)
    steps = {
        "(a) plain loop, fp32": plain_step(
            plain_net(name, batch_norm, crop).train(), images.contiguous(), labels, best=False
        ),
        "(b) the same at its best": plain_step(plain_net(name, batch_norm, crop).train(), images, labels, best=True),
        "verydeep": our_step(net.train(), images, labels),
    }
    seconds: dict[str, list[float]] = {what: [] for what in steps}
    for step in steps.values():
        step()
    for _ in range(rounds):
        for what, step in steps.items():
            time.sleep(0.1)
            start = time.perf_counter()
            step()
            seconds[what].append(time.perf_counter() - start)
    return seconds


def main() -> None:
    """Measures every case and prints images per second and ratios."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--json", action="store_true", dest="as_json")
    arguments = parser.parse_args()
    rows = []
    for name, batch_norm, crop, batch in CASES:
        seconds = measure(name, batch_norm, crop, batch, arguments.rounds)
        best = statistics.median(seconds["(b) the same at its best"])
        for what, taken in seconds.items():
            median = statistics.median(taken)
            row = {
                "case": f"{name}{' bn' if batch_norm else ''} {crop} batch {batch}",
                "name": what,
                "images_per_second": batch / median,
                "slowest": batch / max(taken),
                "fastest": batch / min(taken),
                "ratio_to_best_loop": best / median,
            }
            rows.append(row)
            if not arguments.as_json:
                print(
                    f"{row['case']:18} {what:26} {row['images_per_second']:7.2f} images/s "
                    f"({row['slowest']:.2f} to {row['fastest']:.2f}), {row['ratio_to_best_loop']:.2f} of (b)",
                    flush=True,
                )
    if arguments.as_json:
        print(json.dumps({"machine": environment(), "rows": rows}, indent=2))


if __name__ == "__main__":
    main()
