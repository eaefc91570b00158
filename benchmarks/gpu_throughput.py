"""Training and inference of verydeep's nets on a GPU beside torchvision's and timm's, in one run.

Usage: python -m benchmarks.gpu_throughput [--nets A,D] [--budget 500] [--cells training/bf16] [--device cpu --tiny]

A cell is a task, a precision and a memory layout. In a cell every net takes its turn in every round, on the same
images, in the same step: only the net differs. Images are uint8 on the device; each net normalises them itself. Work is
counted from the layers of Table 1, three times the forward pass for an update, less the gradient of the image.
"""

import argparse
import gc
import math
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.gpu_measure import Results, matrix_peak, seconds_per_step, set_precision, spread
from benchmarks.gpu_nets import CLASSES, LIBRARIES, make_net, work
from verydeep.device import Compute, find_device, synchronise


@dataclass(frozen=True)
class Cell:
    """What is compared: a task, a precision, a layout, and the modes in which each net runs."""

    task: str
    precision: str
    layout: str
    modes: tuple[str, ...]

    def __str__(self) -> str:
        """Such as training/bf16/channels_last."""
        return f"{self.task}/{self.precision}/{self.layout}"


CELLS = tuple(
    Cell(task, precision, layout, modes)
    for precision, layout, modes in (
        ("bf16", "channels_last", ("eager", "compiled")),
        ("fp32", "channels_last", ("eager",)),
        ("tf32", "channels_last", ("eager", "compiled")),
        ("bf16", "channels_first", ("eager",)),
        ("fp32", "channels_last", ("compiled",)),
        ("fp32", "channels_first", ("eager",)),
    )
    for task in ("training", "inference")
)
"""In the order of their weight: what the budget does not reach is left out and said to be."""


@dataclass
class Contender:
    """A net in a mode, ready to step."""

    library: str
    net: str
    mode: str
    step: Callable[[], object]
    first_step_seconds: float
    steps: int
    peak_memory_bytes: int | None
    seconds: list[float] = field(default_factory=list)


def make_step(
    cell: Cell, net: nn.Module, mode: str, images: Tensor, choice: Compute, backend: str
) -> Callable[[], object]:
    """Makes the step that is timed: an update, or the scores of a batch."""
    training = cell.task == "training"
    net.train(training)
    if not training and cell.precision == "bf16":
        net.bfloat16()  # weights converted once, not at every call as autocast would
    called = torch.compile(net, backend=backend) if mode == "compiled" else net
    if not training:

        def infer() -> Tensor:
            with torch.inference_mode():
                scores: Tensor = called(images)
            return scores

        return infer
    labels = torch.arange(len(images), device=images.device) % CLASSES
    optimiser = torch.optim.SGD(net.parameters(), lr=1e-4, momentum=0.9, weight_decay=5e-4, fused=True)

    def update() -> Tensor:
        with choice.autocast():
            scores = called(images)
        loss = F.cross_entropy(scores.float(), labels)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        return loss

    return update


def prepare(cell: Cell, library: str, name: str, mode: str, images: Tensor, options: argparse.Namespace) -> Contender:
    """Makes a contender, compiles and warms it, and measures the memory it needs beyond what lies there."""
    device = options.device
    choice = Compute(
        device=device,
        precision="bf16" if cell.precision == "bf16" else "fp32",
        channels_last=cell.layout == "channels_last",
        threads=torch.get_num_threads(),
    )
    before = torch.cuda.memory_allocated() if device == "cuda" else 0
    step = make_step(cell, make_net(library, name, options.crop, choice), mode, images, choice, options.backend)
    start = time.perf_counter()
    step()
    synchronise(device)
    first_step = time.perf_counter() - start
    for _ in range(2):
        step()
    each = seconds_per_step(step, 1, device)
    peak = None
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
        step()
        synchronise(device)
        peak = torch.cuda.max_memory_allocated() - before
    steps = max(1, min(50, math.ceil(options.round_seconds / each)))
    return Contender(library, name, mode, step, first_step, steps, peak)


def contenders(cell: Cell, images: Tensor, options: argparse.Namespace, results: Results) -> Iterator[Contender]:
    """Prepares every net of a cell; what cannot run is recorded and left out."""
    for name in options.nets.split(","):
        for mode in cell.modes:
            for library in LIBRARIES:
                about = {"cell": str(cell), "name": f"{library} {name}", "mode": mode}
                if time.perf_counter() > options.deadline:
                    results.add(about | {"left_out": "no time left"})
                    continue
                try:
                    yield prepare(cell, library, name, mode, images, options)
                except ImportError as error:
                    results.add(about | {"left_out": f"{library} is not on this machine: {error}"})
                    print(f"{cell} {library} {name} {mode}: not on this machine", flush=True)
                except Exception as error:  # memory, a compiler: the other nets go on
                    results.add(about | {"left_out": f"{type(error).__name__}: {error}"[:500]})
                    print(f"{cell} {library} {name} {mode}: {type(error).__name__}: {error}"[:300], flush=True)


def measure(cell: Cell, options: argparse.Namespace, results: Results) -> None:
    """Measures a cell and records a row for each contender."""
    peak = matrix_peak(cell.precision, options.device, options.peak_side)
    results.add({"cell": str(cell), "matrix_peak_flops": peak, "side": options.peak_side})
    batch = options.batch_training if cell.task == "training" else options.batch_inference
    shape = (batch, options.crop, options.crop, 3)
    images = torch.randint(0, 256, shape, dtype=torch.uint8, device=options.device).permute(0, 3, 1, 2)
    images = images if cell.layout == "channels_last" else images.contiguous()
    ready = list(contenders(cell, images, options, results))
    for _ in range(options.rounds):
        for contender in ready:
            contender.seconds.append(seconds_per_step(contender.step, contender.steps, options.device))
    for contender in ready:
        rates = spread([batch / seconds for seconds in contender.seconds])
        share = rates["median"] * work(contender.net, cell.task, options.crop) / peak["median"]
        row = {
            "name": f"{contender.library} {contender.net}",
            "task": cell.task,
            "precision": cell.precision,
            "mode": contender.mode,
            "layout": cell.layout,
            "crop": options.crop,
            "batch": batch,
            "images_per_second": rates,
            "steps_per_round": contender.steps,
            "peak_memory_bytes": contender.peak_memory_bytes,
            "share_of_peak": share,
            "first_step_seconds": contender.first_step_seconds,
        }
        results.add(row)
        print(
            f"{cell!s:32} {row['name']:16} {contender.mode:8} {rates['median']:9.1f} images/s "
            f"({rates['min']:.1f} to {rates['max']:.1f}), {share:6.1%} of peak, "
            f"first step {contender.first_step_seconds:.1f} s",
            flush=True,
        )
    results.add({"cell": str(cell), "ratios": ratios(ready)})


def ratios(ready: list[Contender]) -> dict[str, float]:
    """How much faster verydeep's net is than the best peer of the same mode, by net and mode."""
    found = {}
    for contender in ready:
        if contender.library == "verydeep":
            peers = [
                statistics.median(peer.seconds)
                for peer in ready
                if (peer.net, peer.mode) == (contender.net, contender.mode) and peer.library != "verydeep"
            ]
            if peers:
                found[f"{contender.net} {contender.mode}"] = min(peers) / statistics.median(contender.seconds)
    return found


def read_options() -> argparse.Namespace:
    """Reads the command line; --tiny makes everything small, to see on a processor that it runs."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--nets", default="A,D", help="architectures, such as A,D,D-bn")
    parser.add_argument("--cells", default="", help="only cells whose name contains this, such as training/bf16")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--batch-training", type=int, default=128)
    parser.add_argument("--batch-inference", type=int, default=256)
    parser.add_argument("--budget", type=float, default=500, help="seconds after which no net is begun")
    parser.add_argument("--device", default=None)
    parser.add_argument("--tiny", action="store_true")
    options = parser.parse_args()
    options.device = find_device(options.device)
    options.crop, options.peak_side, options.round_seconds, options.backend = 224, 8192, 0.3, "inductor"
    if options.tiny:
        options.crop, options.peak_side, options.round_seconds, options.backend = 32, 256, 0.0, "aot_eager"
        options.batch_training = options.batch_inference = 4
        options.rounds = min(options.rounds, 5)
    options.deadline = time.perf_counter() + options.budget
    return options


def main() -> None:
    """Measures the cells in turn."""
    options = read_options()
    torch.backends.cudnn.benchmark = True
    results = Results("throughput", options.device, dict(vars(options)))
    for cell in CELLS:
        if options.cells not in str(cell):
            continue
        if time.perf_counter() > options.deadline:
            results.add({"cell": str(cell), "left_out": "no time left"})
            print(f"{cell}: left out, no time left", flush=True)
            continue
        set_precision(cell.precision)
        measure(cell, options, results)
        gc.collect()
        torch.compiler.reset()
        if options.device == "cuda":
            torch.cuda.empty_cache()


if __name__ == "__main__":
    main()
