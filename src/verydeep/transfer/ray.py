"""``features`` and ``predict`` on a Ray cluster: Ray Data hands batches of a table of images to workers.

It schedules, retries what a lost worker had, and brings the results; what is written is written here.

Paper: appendix B.
"""

import logging
import os
import re
import socket
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy import ndarray

from verydeep.errors import UsageError, UserError
from verydeep.files import atomic_write
from verydeep.progress import Progress
from verydeep.testing.chunks import CHUNK, chunk_range
from verydeep.testing.descriptors import Chunk
from verydeep.transfer.features import Work
from verydeep.transfer.workers import PATH, DescribeBatch, PredictBatch

_ENVIRONMENT = {
    "RAY_USAGE_STATS_ENABLED": "0",  # a local cluster would report to Ray's authors
    "RAY_DATA_LOG_LEVEL": "CRITICAL",
    "RAY_BACKEND_LOG_LEVEL": "fatal",
}
_REASON = re.compile(r"^verydeep\.[\w.]+: (.+)$", re.MULTILINE)
"""Of a user's error, in the traceback of a worker."""

_SECONDS_TO_ANSWER = 10.0

INSTALL = "pip install 'verydeep[ray]'"


@dataclass(frozen=True, kw_only=True)
class RayOptions:
    """Where workers run."""

    address: str
    "``local`` for a cluster on this machine, ``auto`` for the one it belongs to, or an address."
    workers: int | None = None
    "One for each machine, or for each GPU, where none is given."


def compute_on_ray(
    options: RayOptions, work: Work, numbers: Sequence[int], done: Callable[[float], None]
) -> Iterator[Chunk]:
    """Describes chunks of images on a Ray cluster; each chunk is one batch, so that the result is that of one process.

    Raises:
        UserError: Ray is not installed, the cluster cannot be reached, or a worker failed.
    """
    images, count = work.images, len(work.images)
    make = partial(
        DescribeBatch,
        [_absolute(model) for model in work.models],
        work.options,
        sources=[one.source for one in images.sets],
        compute=work.compute,
        skip_damaged=work.skip_damaged,
    )
    tables: list[Mapping[str, Sequence[Any]]] = []
    for number in numbers:
        indices = list(chunk_range(number, count))
        places = [images.at(index) for index in indices]
        names = [os.fsencode(images.sets[number].names[inside]) for number, inside in places]
        tables.append({"index": indices, "set": [number for number, _ in places], PATH: names})
    gathered: dict[int, _Gathered] = {}
    for batch in _mapped(options, tables, make, gpu=work.compute.device == "cuda"):
        done(len(batch["index"]))
        for number in np.unique(batch["index"] // CHUNK).tolist():
            indices_of = chunk_range(number, count)
            gathered.setdefault(number, _Gathered(indices_of)).add(batch, batch["index"] // CHUNK == number)
            if gathered[number].is_whole:
                yield gathered.pop(number).chunk(number)


class _Gathered:
    """The rows of a chunk, which Ray may hand over in several blocks."""

    def __init__(self, indices: range) -> None:
        self._indices = indices
        self._rows: list[ndarray | None] = [None] * len(indices)
        self._skipped: list[int] = []

    def add(self, batch: dict[str, ndarray], rows: ndarray) -> None:
        damaged = batch.get("damaged", np.zeros(len(rows), bool))
        for row in np.flatnonzero(rows).tolist():
            index = int(batch["index"][row])
            assert self._rows[index - self._indices.start] is None, f"image {index} came twice"
            self._rows[index - self._indices.start] = batch["descriptor"][row]
            if damaged[row]:
                self._skipped.append(index)

    @property
    def is_whole(self) -> bool:
        return all(row is not None for row in self._rows)

    def chunk(self, number: int) -> Chunk:
        skipped = {index - self._indices.start for index in self._skipped}
        kept = [row for place, row in enumerate(self._rows) if row is not None and place not in skipped]
        width = len(self._rows[0]) if self._rows[0] is not None else 0
        rows = np.stack(kept) if kept else np.zeros((0, width), np.float32)
        return Chunk(number, rows.astype(np.float32), tuple(sorted(self._skipped)))


def predict_on_ray(
    options: RayOptions,
    model: str,
    files: Sequence[Path],
    out: Path,
    *,
    progress: Progress,
    top: int = 5,
    device: str | None = None,
    **others: Any,  # noqa: ANN401 - of Classifier
) -> int:
    """Writes the most likely classes of images to a parquet file, in their order.

    Returns:
        Number of images that could not be read; their row has the error.

    Raises:
        UserError: Ray is not installed, the cluster cannot be reached, or a worker failed.
    """
    import pyarrow
    import pyarrow.parquet

    make = partial(PredictBatch, _absolute(model), top=top, device=device, **others)
    parts = [files[start : start + CHUNK] for start in range(0, len(files), CHUNK)]
    tables = [{PATH: [os.fsencode(file.resolve()) for file in part]} for part in parts]
    kinds = [("classes", pyarrow.list_(pyarrow.string())), ("posteriors", pyarrow.list_(pyarrow.float64()))]
    schema = pyarrow.schema([("file", pyarrow.string()), *kinds, ("error", pyarrow.string())])
    done = failed = 0
    with atomic_write(out) as temporary, pyarrow.parquet.ParquetWriter(temporary, schema) as writer:
        for batch in _mapped(options, tables, make, gpu=device == "cuda", in_order=True):
            count = len(batch["error"])
            named = [str(file).encode(errors="backslashreplace").decode() for file in files[done : done + count]]
            errors = [error or None for error in batch["error"].tolist()]
            columns = [named, *(list(map(list, batch[name])) for name, _ in kinds), errors]
            arrays = [pyarrow.array(column, one.type) for column, one in zip(columns, schema, strict=True)]
            writer.write_table(pyarrow.Table.from_arrays(arrays, schema=schema))
            done, failed = done + count, failed + sum(error is not None for error in errors)
            progress("predicting", done, len(files))
    return failed


class _Worker:
    """Makes what maps batches in the folder that the command was called in, where the worker has it."""

    def __init__(self, make: Callable[[], Callable[[dict[str, Any]], dict[str, Any]]], folder: str) -> None:
        if Path(folder).is_dir():
            os.chdir(folder)
        self._map = make()

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        return self._map(batch)


def _mapped(
    options: RayOptions,
    tables: Sequence[Mapping[str, Sequence[Any]]],
    make: Callable[[], Any],
    *,
    gpu: bool,
    in_order: bool = False,
) -> Iterator[dict[str, ndarray]]:
    """Maps tables by workers, each as one batch."""
    if not tables:
        return
    import pyarrow

    with _cluster(options) as ray:
        context = ray.data.DataContext.get_current()
        context.enable_progress_bars = False
        context.execution_options.preserve_order = in_order
        workers, cpus = _share(ray, options.workers, len(tables), gpu)
        mapped = ray.data.from_arrow([pyarrow.table(table) for table in tables]).map_batches(
            _Worker,
            batch_size=None,  # a block is a batch
            batch_format="numpy",
            compute=ray.data.ActorPoolStrategy(size=workers),
            fn_constructor_args=(make, str(Path.cwd())),
            num_cpus=cpus,
            num_gpus=1 if gpu else None,
        )
        try:
            yield from mapped.iter_batches(batch_size=None, batch_format="numpy")
        except ray.exceptions.RayError as error:
            raise UserError(f"on the Ray cluster: {_reason(error)}") from error


@contextmanager
def _cluster(options: RayOptions) -> Iterator[Any]:
    """Joins or starts a cluster, and leaves it; one that this process has joined already is used."""
    for name, value in _ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    try:
        import ray
        import ray.data
    except ImportError as error:
        raise UserError(f"--ray needs Ray: {INSTALL}") from error
    if ray.is_initialized():
        yield ray
        return
    _check_answers(options.address)
    local: dict[str, Any] = {"include_dashboard": False} if options.address == "local" else {}
    try:
        ray.init(address=options.address, log_to_driver=False, logging_level=logging.ERROR, **local)
    except (ConnectionError, OSError, RuntimeError, ValueError) as error:
        raise UserError(f"--ray {options.address}: no cluster answers ({str(error).splitlines()[0]})") from error
    try:
        yield ray
    finally:
        ray.shutdown()


def _check_answers(address: str) -> None:
    """Raises UserError where nobody listens at an address: Ray would try for many minutes."""
    host, colon, port = address.removeprefix("ray://").rpartition(":")
    if not colon and address in ("local", "auto"):
        return
    try:
        socket.create_connection((host.strip("[]"), int(port)), _SECONDS_TO_ANSWER).close()
    except ValueError as error:
        raise UsageError(f"--ray {address}: give local, auto, HOST:PORT or ray://HOST:PORT") from error
    except OSError as error:
        raise UserError(f"--ray {address}: no cluster answers ({error.strerror or error}): ray start --head") from error


def _share(ray: Any, workers: int | None, most: int, gpu: bool) -> tuple[int, int]:  # noqa: ANN401 - the module
    """Number of workers, ``most`` of them at most, and CPUs of each."""
    if workers is not None and workers < 1:
        raise UsageError(f"--ray-workers {workers}: give 1 or more")
    machines = [node["Resources"] for node in ray.nodes() if node["Alive"] and node["Resources"].get("CPU")]
    if not machines:
        raise UserError("the Ray cluster has no machine with a CPU to compute on")
    gpus = int(sum(machine.get("GPU", 0) for machine in machines))
    count = min(most, workers or (max(1, gpus) if gpu else len(machines)))
    cpus = int(min(machine["CPU"] for machine in machines))
    return count, max(1, cpus // -(-count // len(machines)))


def _reason(error: BaseException) -> str:
    """The error of a worker in one line: a user's, or the last line of another."""
    if found := _REASON.findall(str(error)):
        return str(found[-1])
    said = [line for line in str(error).splitlines() if re.match(r"[\w.]+(Error|Exception)\b", line)]
    return (said or str(error).strip().splitlines() or [type(error).__name__])[-1]


def _absolute(model: str) -> str:
    return str(Path(model).resolve()) if Path(model).exists() else model
