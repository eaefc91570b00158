"""A measurement from its options to its rows."""

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Protocol

import torch

from benchmarks.compare.contender import Absent, Bench, Case, Options, Row
from benchmarks.compare.dense import Dense
from benchmarks.compare.environment import Ran
from benchmarks.compare.features import Features
from benchmarks.compare.inference import Inference
from benchmarks.compare.memory import measure_memory
from benchmarks.compare.peak import product_peaks
from benchmarks.compare.perceptual import Perceptual
from benchmarks.compare.pipeline import Pipeline
from benchmarks.compare.predict import Predict
from benchmarks.compare.rounds import Progress, rows_of, time_rounds
from benchmarks.compare.training import Training
from verydeep.errors import UserError


class Workload(Protocol):
    """What is measured: its cases, and what there is to say of them."""

    @property
    def notes(self) -> Sequence[str]:
        """What a reader has to know."""

    @property
    def precisions(self) -> Sequence[str]:
        """Precisions of matrix products to measure the peak of."""

    def cases(self) -> Sequence[Case]:
        """The cases, each prepared when its contenders are."""

    def extra(self, rows: Sequence[Row]) -> Mapping[str, float]:
        """Further figures, by name."""


_WORKLOADS: Mapping[str, Callable[[Options], Workload]] = {
    "inference": Inference,
    "training": Training,
    "pipeline": Pipeline,
    "predict": Predict,
    "dense": Dense,
    "features": Features,
    "perceptual": Perceptual,
}


def find_workload(options: Options) -> Workload:
    """Finds what the options ask for.

    Raises:
        UsageError: an option that cannot be right.
    """
    options.check()
    return _WORKLOADS[options.what](options)


def measure(options: Options, progress: Progress) -> Bench:
    """Measures everything that the options ask for.

    Args:
        options: what, and how.
        progress: told how far it is.

    Raises:
        UserError: the data or the model cannot be used, or nothing of ours can do the work.
    """
    workload = find_workload(options)
    rows: list[Row] = []
    absent: dict[str, Absent] = {}
    with computing(options):
        peaks = product_peaks(workload.precisions)
        for case in workload.cases():
            timed = time_rounds(case, options.rounds or case.rounds, progress)
            absent |= {missing.name: missing for missing in timed.absent}
            _check_ours(case, timed.absent)
            for precision, peak in product_peaks(workload.precisions).items():
                peaks[precision] = max(peaks[precision], peak)  # one that was disturbed is no peak
            memory = _memory(options, case, timed.outputs, progress) if options.memory else {}
            rows += rows_of(case, timed, peaks, memory)
    return Bench(
        options=options,
        rows=tuple(rows),
        absent=tuple(absent.values()),
        product_peak_gflops=peaks,
        notes=tuple(workload.notes),
        extra=workload.extra(rows),
    )


@contextmanager
def computing(options: Options) -> Iterator[None]:
    """A context with the threads asked for; reading images has as many cores and no more."""
    before = torch.get_num_threads()
    torch.set_num_threads(options.threads)
    cores = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else set()
    if options.what == "pipeline" and cores:
        os.sched_setaffinity(0, sorted(cores)[: options.threads])
    try:
        with torch.inference_mode(options.what not in ("training", "predict", "perceptual")):
            yield
    finally:
        torch.set_num_threads(before)
        if cores:
            os.sched_setaffinity(0, cores)


def _check_ours(case: Case, absent: Sequence[Absent]) -> None:
    ours = [contender.name for contender in case.contenders if contender.is_ours]
    reasons = {missing.name: missing.reason for missing in absent}
    if all(name in reasons for name in ours):
        raise UserError(f"{case.name}: {reasons[ours[0]]}")


def _memory(options: Options, case: Case, outputs: Mapping[str, object], progress: Progress) -> dict[str, int]:
    found = {}
    for done, (name, output) in enumerate(outputs.items(), start=1):
        peak = output.peak_memory_bytes if isinstance(output, Ran) else measure_memory(options, case.name, name)
        if peak is not None:
            found[name] = peak
        progress(f"{case.name}: memory", done, len(outputs))
    return found
