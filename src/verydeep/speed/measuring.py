"""How fast and how exactly each backend of this machine computes a net."""

import copy
import statistics
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from verydeep.nets.net import VeryDeep
from verydeep.speed.accelerate import Accelerated
from verydeep.speed.backend import choose_backend, every_kind

BATCHES = (1, 8)
"""Crops of a call."""

_ROUNDS, _SECONDS = 5, 4.0
"""Rounds of a measurement at most, and after how many seconds no further one begins."""

_REST = 0.02
"""Seconds before a call: threads of the last backend may still wait for more work."""

Report = Callable[[str, int, int], None]
"""Told what is done, how far it is, and how far it goes."""


@dataclass(frozen=True, kw_only=True)
class BackendSpeed:
    """What a backend does with a net.

    Attributes:
        backend: what computes, with its version.
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


def measure_backends(net: VeryDeep, report: Report) -> list[BackendSpeed]:
    """Measures every backend for the processor, each round in turn, on crops of noise.

    int8 is left out: it needs images such as the net will see.

    Args:
        net: in float32, on the processor.
        report: told how far it is.
    """
    taken = _taken_for()
    side = net.geometry.crop
    generator = torch.Generator().manual_seed(0)
    noise = torch.randint(0, 256, (max(BATCHES), side, side, 3), dtype=torch.uint8, generator=generator)
    images = noise.permute(0, 3, 1, 2)
    exact = _exact(net, images[:1])
    calls: dict[str, Callable[[Tensor], Tensor]] = {}
    errors: dict[str, float] = {}
    failures: dict[str, str] = {}
    backends = every_kind()
    for number, backend in enumerate(backends):
        report("preparing backends", number, len(backends))
        try:
            fast = Accelerated(net, backend)
            call = fast.features if net.features_only else fast.score_map
            errors[backend.name] = float((call(images[:1]).double() - exact).norm() / exact.norm())
            calls[backend.name] = call
        except (RuntimeError, ImportError, OSError, ValueError) as error:  # a library that breaks ends no other
            failures[backend.name] = " ".join(str(error).split())
    report("preparing backends", len(backends), len(backends))
    rates: dict[str, dict[int, float]] = {name: {} for name in calls}
    for batch in BATCHES:
        for name, seconds in _time(calls, images[:batch], report).items():
            rates[name][batch] = batch / statistics.median(seconds)
    return [
        BackendSpeed(
            backend=backend.name,
            precision=backend.precision,
            taken_for=tuple(precision for precision, name in taken.items() if name == backend.name),
            images_per_second=rates.get(backend.name, {}),
            relative_error=errors.get(backend.name),
            failure=failures.get(backend.name),
        )
        for backend in backends
    ]


def _taken_for() -> dict[str, str]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a missing kernel, or bf16 that is slow: the table shows it
        return {precision: choose_backend(precision).name for precision in ("fp32", "bf16", "auto")}


@torch.inference_mode()
def _exact(net: VeryDeep, images: Tensor) -> Tensor:
    double = copy.deepcopy(net).double().eval()
    return double.features(images) if net.features_only else double.score_map(images)


def _time(calls: dict[str, Callable[[Tensor], Tensor]], images: Tensor, report: Report) -> dict[str, list[float]]:
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
        report(f"timing batches of {len(images)}", _ROUNDS if last else number, _ROUNDS)
        if last:
            break
    return seconds
