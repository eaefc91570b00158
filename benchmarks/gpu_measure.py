"""What the GPU benchmarks share: the machine, the precisions, time on a device, the peak, and where results go."""

import os
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from verydeep.device import synchronise
from verydeep.files import append_line
from verydeep.machine import environment, now

PRECISIONS = ("fp32", "tf32", "bf16")
"""fp32 is float32 throughout; tf32 lets products drop mantissa bits, as PyTorch does in convolutions by default."""


class Results:
    """Adds records to a file of JSON lines, the first of which describes the machine and the run.

    Args:
        part: name of the file, such as throughput.
        device: what is measured.
        settings: of this run.
    """

    def __init__(self, part: str, device: str, settings: dict[str, Any]) -> None:
        folder = Path(os.environ.get("OUT") or "results/gpu")
        folder.mkdir(parents=True, exist_ok=True)
        self.file = folder / f"{part}.jsonl"
        self.add({"part": part, "began": now(), "settings": settings, "machine": machine(device)})

    def add(self, record: dict[str, Any]) -> None:
        """Writes a record at once, so that a run that is cut short keeps what it has."""
        append_line(self.file, record)


def machine(device: str) -> dict[str, Any]:
    """Describes the machine, its GPU and the libraries that compute on it."""
    described: dict[str, Any] = dict(environment())
    if device == "cuda":
        properties = torch.cuda.get_device_properties(0)
        described |= {
            "gpu": properties.name,
            "gpu_memory_bytes": properties.total_memory,
            "multiprocessors": properties.multi_processor_count,
            "cuda": torch.version.cuda,
            "cudnn": torch.backends.cudnn.version(),
        }
    return described


def set_precision(precision: str) -> None:
    """Sets whether float32 products may be computed in TF32; changes the whole process."""
    allowed = precision != "fp32"
    torch.backends.cuda.matmul.allow_tf32 = allowed
    torch.backends.cudnn.allow_tf32 = allowed


def seconds_per_step(step: Callable[[], object], steps: int, device: str) -> float:
    """Times steps in a row: by events of the device on a GPU, by the clock elsewhere."""
    synchronise(device)
    if device == "cuda":
        begin, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        begin.record()
        for _ in range(steps):
            step()
        end.record()
        end.synchronize()
        return float(begin.elapsed_time(end)) / 1000 / steps
    start = time.perf_counter()
    for _ in range(steps):
        step()
    synchronise(device)
    return (time.perf_counter() - start) / steps


def matrix_peak(precision: str, device: str, side: int, rounds: int = 7) -> dict[str, float]:
    """Measures the rate of large square matrix products on random numbers, in operations per second."""
    set_precision(precision)
    dtype = torch.bfloat16 if precision == "bf16" else torch.float32
    left, right = (torch.randn(side, side, device=device).to(dtype) for _ in range(2))
    out = torch.empty_like(left)

    def product() -> None:
        torch.mm(left, right, out=out)

    seconds_per_step(product, 3, device)
    rates = sorted(2 * side**3 / seconds_per_step(product, 8, device) for _ in range(rounds))
    return {"median": statistics.median(rates), "min": rates[0], "max": rates[-1]}


def spread(values: list[float]) -> dict[str, float | int]:
    """Median, smallest, largest and number."""
    return {"median": statistics.median(values), "min": min(values), "max": max(values), "n": len(values)}
