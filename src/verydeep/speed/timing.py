"""How fast and how exactly each backend of this machine computes a net."""

import copy
import statistics
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
from jaxtyping import UInt8
from numpy import ndarray

from verydeep.device import fp32_choice
from verydeep.nets.net import VeryDeep
from verydeep.progress import Progress
from verydeep.speed.backend import choose_backend, every_kind
from verydeep.speed.torch_backend import TorchBackend

BATCHES = (1, 8)
"""Crops of a call."""

_ROUNDS, _SECONDS = 5, 4.0
"""Rounds of a measurement at most, and after how many seconds no further one begins."""

_REST = 0.02
"""Seconds before a call: threads of the last backend may still wait for more work."""

Call = Callable[[UInt8[ndarray, "n h w 3"]], ndarray]


@dataclass(frozen=True, kw_only=True)
class BackendSpeed:
    """What a backend does with a net.

    Attributes:
        backend: its name and version.
        precision: fp32 or bf16.
        taken_for: of the precisions fp32, bf16 and auto, those for which ``accelerate`` takes this backend.
        images_per_second: by the crops of a call, medians; empty where it failed.
        relative_error: norm of the difference to float64 over the norm, scores of one crop; None where it failed.
        failure: why it cannot be used here; None where it can.
    """

    backend: str
    precision: str
    taken_for: tuple[str, ...]
    images_per_second: dict[int, float]
    relative_error: float | None
    failure: str | None = None


def measure_backends(net: VeryDeep, progress: Progress) -> list[BackendSpeed]:
    """Measures every backend for the CPU, interleaved, on crops of noise.

    int8 is left out: it needs images such as the net will see.

    Args:
        net: in float32, on the CPU.
        progress: called with each step.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a missing kernel, or bf16 that is slow: the table shows it
        taken = {precision: choose_backend(precision).name for precision in ("fp32", "bf16", "auto")}
    side, layer = net.geometry.crop, "pool5" if net.features_only else "fc8"
    images = np.random.default_rng(0).integers(0, 256, (max(BATCHES), side, side, 3), dtype=np.uint8)
    exact = TorchBackend(copy.deepcopy(net).double(), fp32_choice("cpu")).maps(images[:1], layer)
    calls: dict[str, Call] = {}
    errors: dict[str, float] = {}
    failures: dict[str, str] = {}
    kinds = every_kind()
    for number, kind in enumerate(kinds):
        progress("preparing backends", number, len(kinds))
        try:
            call = partial(kind.make(net).maps, layer=layer)
            errors[kind.name] = float(np.linalg.norm(call(images[:1]) - exact) / np.linalg.norm(exact))
            calls[kind.name] = call
        except (RuntimeError, ImportError, OSError, ValueError) as error:  # a library that breaks ends no other
            failures[kind.name] = " ".join(str(error).split())
    progress("preparing backends", len(kinds), len(kinds))
    seconds = {batch: _time(calls, images[:batch], progress) for batch in BATCHES}
    return [
        BackendSpeed(
            backend=kind.name,
            precision=kind.precision,
            taken_for=tuple(precision for precision, name in taken.items() if name == kind.name),
            images_per_second={batch: batch / seconds[batch][kind.name] for batch in BATCHES if kind.name in calls},
            relative_error=errors.get(kind.name),
            failure=failures.get(kind.name),
        )
        for kind in kinds
    ]


def _time(calls: dict[str, Call], images: UInt8[ndarray, "n h w 3"], progress: Progress) -> dict[str, float]:
    """Median seconds of each call."""
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    for call in calls.values():
        call(images)  # the first takes memory
    began = time.perf_counter()
    for number in range(1, _ROUNDS + 1):
        for name, call in calls.items():
            time.sleep(_REST)
            start = time.perf_counter()
            call(images)
            seconds[name].append(time.perf_counter() - start)
        last = number == _ROUNDS or time.perf_counter() - began > _SECONDS
        progress(f"timing batches of {len(images)}", _ROUNDS if last else number, _ROUNDS)
        if last:
            break
    return {name: statistics.median(times) for name, times in seconds.items()}
