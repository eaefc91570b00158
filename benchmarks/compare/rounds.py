"""Contenders in turn: each round times every one of them once, so that what disturbs the machine disturbs all."""

import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from benchmarks.compare.contender import Absent, Call, Case, Contender, LeftOutError, Row
from benchmarks.compare.environment import Ran

Progress = Callable[[str, int, int], None]
"""Told what is done, how far it is, and how far it goes."""


_LEAST_SECONDS = 0.1
"""A shorter call is repeated for as long: a single one would be timed with cold caches and threads that still wake."""


@dataclass(frozen=True)
class Timed:
    """What the rounds of a case gave.

    Attributes:
        seconds: of a call in each round, by the name of its contender.
        outputs: of the last call, likewise.
        absent: contenders that could not be prepared, or failed at a call.
    """

    seconds: Mapping[str, list[float]]
    outputs: Mapping[str, Any]
    absent: tuple[Absent, ...]


def time_rounds(case: Case, rounds: int, progress: Progress) -> Timed:
    """Prepares the contenders of a case and times them in turn.

    Args:
        case: the work.
        rounds: times that every contender is timed.
        progress: told how far it is.
    """
    calls: dict[str, Call] = {}
    absent: list[Absent] = []
    for number, contender in enumerate(case.contenders):
        progress(f"{case.name}: preparing", number, len(case.contenders))
        match prepared(contender):
            case Absent() as missing:
                absent.append(missing)
            case call:
                calls[contender.name] = call
    progress(f"{case.name}: preparing", len(case.contenders), len(case.contenders))
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    outputs: dict[str, Any] = {}
    turns = [contender for contender in case.contenders if contender.name in calls] * rounds
    for done, contender in enumerate(turns, start=1):
        name = contender.name
        if name not in calls:
            continue
        time.sleep(case.pause)
        try:
            taken, outputs[name] = _timed(calls[name], case.warm)
        except Exception as error:
            absent.append(_absence(contender, error))
            del calls[name], seconds[name]
            outputs.pop(name, None)
            continue
        seconds[name].append(taken)
        progress(f"{case.name}: timing", done, len(turns))
    _forget_compiled()
    return Timed(seconds, outputs, tuple(absent))


def _timed(call: Call, warm: bool) -> tuple[float, Any]:
    """Gives the seconds of a call, and its output."""
    repeats = max(1, round(_LEAST_SECONDS / _seconds_of(call))) if warm else 1
    start = time.perf_counter()
    for _ in range(repeats):
        output = call()
    taken = (time.perf_counter() - start) / repeats
    return (output.seconds if isinstance(output, Ran) else taken), output


def _seconds_of(call: Call) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def prepared(contender: Contender) -> Call | Absent:
    """Prepares a contender, or says why that is not possible: only ours must be."""
    try:
        return contender.make()
    except Exception as error:
        return _absence(contender, error)


def _absence(contender: Contender, error: Exception) -> Absent:
    """Says why a contender is not there: a library that breaks must not end the measurement of the others."""
    if isinstance(error, LeftOutError):
        return Absent(name=contender.name, package=contender.package, reason=str(error))
    if contender.is_ours:
        raise error
    if isinstance(error, ImportError):
        missing = (error.name or "").partition(".")[0]
        reason = f"not installed: pip install {contender.package}"
        if missing and missing.replace("_", "-") not in contender.package:
            reason += f" ({missing} is missing)"
        return Absent(name=contender.name, package=contender.package, reason=reason)
    first = (str(error).strip() or type(error).__name__).splitlines()[0]
    return Absent(name=contender.name, package=contender.package, reason=f"failed: {first[:160]}")


def _forget_compiled() -> None:
    """Lets torch.compile forget what it compiled: it holds the weights."""
    if "torch._dynamo" in sys.modules:
        torch.compiler.reset()


def rows_of(case: Case, timed: Timed, peaks: Mapping[str, float], memory: Mapping[str, int]) -> list[Row]:
    """Makes the rows of a case.

    Args:
        case: the work.
        timed: its rounds.
        peaks: of a matrix product by precision, thousands of millions of operations a second.
        memory: peak of memory by the name of the contender, bytes.
    """
    errors = case.errors(timed.outputs) if case.errors is not None else {}
    medians = {name: statistics.median(taken) for name, taken in timed.seconds.items()}
    contenders = [contender for contender in case.contenders if contender.name in medians]
    best = _best_peer(contenders, medians)
    rows = []
    for contender in contenders:
        name, taken = contender.name, timed.seconds[contender.name]
        precision = contender.precision if contender.precision_taken is None else contender.precision_taken()
        peak = peaks.get(precision)
        rate = case.images / medians[name]
        rows.append(
            Row(
                case=case.name,
                name=name,
                is_ours=contender.is_ours,
                compared=contender.compared,
                precision=precision,
                images_per_second=rate,
                slowest=case.images / max(taken),
                fastest=case.images / min(taken),
                seconds=medians[name],
                images=case.images,
                peak_memory_bytes=memory.get(name),
                share_of_product_peak=2e-9 * case.macs * rate / peak if case.macs and peak else None,
                ratio_to_best_peer=best / medians[name] if best is not None and contender.compared else None,
                computed_by=None if contender.computed_by is None else contender.computed_by(),
                **({case.error_name: errors[name]} if name in errors else {}),
            )
        )
    return rows


def _best_peer(contenders: Sequence[Contender], medians: Mapping[str, float]) -> float | None:
    peers = [medians[one.name] for one in contenders if one.compared and not one.is_ours]
    return min(peers, default=None)
