"""Which of several ways to compute a net is the fastest on this machine: measured once, then remembered."""

import hashlib
import json
import statistics
import time
import warnings
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from verydeep.errors import UserError
from verydeep.files import atomic_write, cache_folder
from verydeep.machine import environment
from verydeep.nets.graph import Backend
from verydeep.nets.net import VeryDeep

BATCH = 8
"""Images of a measurement, crops of the net."""

_ROUNDS, _SECONDS = 5, 3.0
"""Rounds of a measurement; fewer where they take longer than this."""

_REST = 0.02
"""Seconds before a timed call: threads that wait for more work would hold up those of the next."""


@dataclass(frozen=True)
class Candidate:
    """A way to compute a net.

    Attributes:
        name: what computes, with its version and precision.
        make: prepares it for a net.
        precision: fp32, bf16 or int8.
    """

    name: str
    make: Callable[[VeryDeep], Backend]
    precision: str = "fp32"


@dataclass(frozen=True, eq=False)
class Chosen:
    """The fastest way to compute a net.

    Attributes:
        candidate: the way.
        computes: what it made for the net.
        seconds: of a batch of 8 crops by each candidate; empty where there was no choice.
    """

    candidate: Candidate
    computes: Backend
    seconds: dict[str, float]


_UNUSABLE = (RuntimeError, ImportError, OSError, ValueError)
"""What a candidate raises that cannot be used here."""


def choose(net: VeryDeep, candidates: Sequence[Candidate]) -> Chosen:
    """Chooses the fastest way to compute a net: by what is remembered of this machine, else by a measurement.

    Args:
        net: in float32, on the processor.
        candidates: what to choose among, at least one.

    Raises:
        UserError: none of them can be used.
    """
    if len(candidates) == 1:
        return Chosen(candidates[0], candidates[0].make(net), {})
    named = {candidate.name: candidate for candidate in candidates}
    facts = _facts(net, candidates)
    if seconds := _read(facts, named):
        best = named[_fastest(seconds)]
        with suppress(*_UNUSABLE):  # it could be made when it was measured: where not now, all are measured anew
            return Chosen(best, best.make(net), seconds)
    seconds, made = measure(net, candidates)
    _write(facts, seconds)
    best = named[_fastest(seconds)]
    return Chosen(best, made[best.name], seconds)


def _fastest(seconds: dict[str, float]) -> str:
    return min(seconds, key=seconds.__getitem__)


def measure(net: VeryDeep, candidates: Sequence[Candidate]) -> tuple[dict[str, float], dict[str, Backend]]:
    """Measures ways to compute a net by turns, on noise: the median seconds of a batch of 8 crops by each.

    One that cannot be used is left out, with a warning.

    Args:
        net: in float32, on the processor.
        candidates: what to measure.

    Returns:
        The seconds, and what was made and measured, both by the candidates' names.

    Raises:
        UserError: none of them can be used.
    """
    shape = (BATCH, 3, net.geometry.crop, net.geometry.crop)
    images = torch.randint(256, shape, dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    ready: dict[str, Backend] = {}
    reasons: list[str] = []
    for candidate in candidates:
        try:
            ready[candidate.name] = candidate.make(net)
            _time(net, ready[candidate.name], images)  # the first call lays out weights and takes memory
        except _UNUSABLE as error:
            ready.pop(candidate.name, None)
            reasons.append(f"{candidate.name} cannot be used: {' '.join(str(error).split())}")
            warnings.warn(reasons[-1], stacklevel=5)
    if not ready:
        raise UserError("; ".join(reasons))
    taken: dict[str, list[float]] = {name: [] for name in ready}
    began = time.perf_counter()
    for _ in range(_ROUNDS):
        for name, computes in ready.items():
            time.sleep(_REST)
            taken[name].append(_time(net, computes, images))
        if time.perf_counter() - began > _SECONDS:
            break
    return {name: statistics.median(times) for name, times in taken.items()}, ready


def _time(net: VeryDeep, computes: Backend, images: Tensor) -> float:
    began = time.perf_counter()
    (computes.features if net.features_only else computes.score_map)(images)
    return time.perf_counter() - began


def _facts(net: VeryDeep, candidates: Sequence[Candidate]) -> dict[str, object]:
    """What a measurement depends on."""
    machine = environment()
    return {
        "versions": [machine["verydeep"], machine["torch"]],
        "processor": machine["processor"],
        "threads": torch.get_num_threads(),
        "net": net.geometry.title,
        "scores": not net.features_only,
        "candidates": [candidate.name for candidate in candidates],
    }


def _file(facts: dict[str, object]) -> Path:
    return cache_folder() / "speed" / f"{hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:16]}.json"


def _read(facts: dict[str, object], known: dict[str, Candidate]) -> dict[str, float]:
    """What was measured; nothing where the file is not there, is damaged, or is of other candidates."""
    with suppress(OSError, RuntimeError, ValueError, KeyError, TypeError, AttributeError):
        seconds = json.loads(_file(facts).read_bytes())["seconds"]
        if seconds and all(name in known and float(taken) > 0 for name, taken in seconds.items()):
            return {name: float(taken) for name, taken in seconds.items()}
    return {}


def _write(facts: dict[str, object], seconds: dict[str, float]) -> None:
    with suppress(OSError, RuntimeError):  # without a cache the next start measures again, which is all
        file = _file(facts)
        file.parent.mkdir(parents=True, exist_ok=True)
        with atomic_write(file) as temporary:
            temporary.write_text(json.dumps(facts | {"seconds": seconds}, indent=1), encoding="utf-8")
