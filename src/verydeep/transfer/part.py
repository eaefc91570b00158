"""The unfinished part of a features file: chunks of descriptors on disk, from which a killed job is resumed.

A folder beside the file: what the job is (job.json), and for each process the rows that it has computed, as plain
float32, with an index of one JSON line for each chunk. A line is written after its rows are on the disk, and rows
without a line do not count, so that a job may be killed at any moment.
"""

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock, Timeout
from jaxtyping import Float32
from numpy import ndarray

from verydeep.errors import UserError
from verydeep.files import append_line, atomic_write, parse_json, read_lines
from verydeep.testing.descriptors import Chunk

_JOB = "job.json"
_NAMES = ("name", "path")
"""Fields of a job that may differ when it is resumed: what a person called the same model or data."""


@dataclass(frozen=True)
class _Stored:
    rows_file: Path
    first: int  # row in that file
    rows: int
    skipped: tuple[int, ...]


class Part:
    """The chunks that are done, of all processes.

    Args:
        folder: made by ``begin``.
        dimensions: of a descriptor.
        rank: of this process, which appends to files of its own.
    """

    def __init__(self, folder: Path, dimensions: int, rank: int) -> None:
        self.folder, self._dimensions = folder, dimensions
        self._rows, self._index = folder / f"{rank}.rows", folder / f"{rank}.jsonl"
        self._repair()
        self._stored = self._read()

    @property
    def chunks(self) -> set[int]:
        """Numbers of the chunks that are done."""
        return set(self._stored)

    @property
    def skipped(self) -> list[int]:
        """Indices of the images left out."""
        return sorted(index for stored in self._stored.values() for index in stored.skipped)

    def append(self, chunk: Chunk) -> None:
        """Keeps a chunk."""
        try:
            with self._rows.open("ab") as rows:
                first = rows.tell() // (4 * self._dimensions)
                rows.write(np.ascontiguousarray(chunk.rows, np.float32).tobytes())
                rows.flush()
                os.fsync(rows.fileno())
            line = {"chunk": chunk.number, "first": first, "rows": len(chunk.rows), "skipped": chunk.skipped}
            append_line(self._index, line)
        except OSError as error:
            raise UserError(
                f"{self.folder} cannot be written ({error.strerror or error}): make room, then resume with --resume"
            ) from error
        self._stored[chunk.number] = _Stored(self._rows, first, len(chunk.rows), chunk.skipped)

    def read_again(self) -> None:
        """Reads what all processes have kept."""
        self._stored = self._read()

    def rows(self) -> Iterator[Float32[ndarray, "n d"]]:
        """Yields the rows of all chunks in the order of the images."""
        size = 4 * self._dimensions
        for number in sorted(self._stored):
            stored = self._stored[number]
            with stored.rows_file.open("rb") as file:
                file.seek(stored.first * size)
                data = file.read(stored.rows * size)
            if len(data) != stored.rows * size:
                raise UserError(f"{stored.rows_file} was cut short while it was read: resume with --resume")
            yield np.frombuffer(data, np.float32).reshape(stored.rows, self._dimensions)

    def remove(self) -> None:
        """Removes the folder."""
        shutil.rmtree(self.folder)

    def _repair(self) -> None:
        """Forgets what a killed process had written of a chunk that it did not finish."""
        if not self._index.exists():
            self._rows.unlink(missing_ok=True)
            return
        lines = [line for line in read_lines(self._index) if self._is_whole(self._rows, line)]
        with atomic_write(self._index) as temporary:
            temporary.write_text("".join(json.dumps(line) + "\n" for line in lines))
        if self._rows.exists():
            end = max((line["first"] + line["rows"] for line in lines), default=0)
            os.truncate(self._rows, end * 4 * self._dimensions)

    def _read(self) -> dict[int, _Stored]:
        stored = {}
        for index in sorted(self.folder.glob("*.jsonl")):
            rows = index.with_suffix(".rows")
            for line in read_lines(index):
                if self._is_whole(rows, line):
                    stored[line["chunk"]] = _Stored(rows, line["first"], line["rows"], tuple(line["skipped"]))
        return stored

    def _is_whole(self, rows: Path, line: dict[str, Any]) -> bool:
        held = rows.stat().st_size if rows.exists() else 0
        return bool((line["first"] + line["rows"]) * 4 * self._dimensions <= held)


def part_folder(out: Path) -> Path:
    return out.with_name(f"{out.name}.part")


def begin(out: Path, job: dict[str, Any], *, resume: bool) -> dict[str, Any]:
    """Makes the folder of a part, or checks that the one that is there is of the same job.

    Returns:
        The job as it was begun.

    Raises:
        UserError: there is a part already and it is not to be resumed, or it is of another job.
    """
    folder = part_folder(out)
    has_rows = any(index.stat().st_size for index in folder.glob("*.jsonl"))
    if (folder / _JOB).exists() and (resume or has_rows):
        begun = _read_job(folder)
        if not resume:
            raise UserError(f"{folder} is an unfinished job: resume it with --resume, or remove it to begin anew")
        check_same(begun, job, folder)
        return begun
    try:
        folder.mkdir(exist_ok=True)
        with atomic_write(folder / _JOB) as temporary:
            temporary.write_text(json.dumps(job))
    except OSError as error:
        raise UserError(f"{folder} cannot be written: {error.strerror or error}") from error
    return job


def _read_job(folder: Path) -> dict[str, Any]:
    try:
        job = parse_json((folder / _JOB).read_bytes())
    except (OSError, ValueError) as error:
        raise UserError(f"{folder / _JOB} cannot be read ({error}): remove {folder} to begin anew") from error
    if not isinstance(job, dict):
        raise UserError(f"{folder / _JOB} is damaged: remove {folder} to begin anew")
    return job


def check_same(begun: dict[str, Any], job: dict[str, Any], where: Path) -> None:
    """Checks that two jobs give the same descriptors; raises UserError that names what differs."""
    for key in (*begun, *(key for key in job if key not in begun)):
        was, now = (_without_names(each.get(key)) for each in (begun, job))
        if was != now:
            shown = "" if isinstance(now, dict | list) and len(str(now)) > 60 else f": {was} there, {now} here"
            raise UserError(
                f"{where} is of another job: {key.replace('_', ' ')} differs{shown}; give the options it was begun "
                "with, another --out, or remove it"
            )


def _without_names(value: Any) -> Any:  # noqa: ANN401 - JSON
    if isinstance(value, list):
        return [_without_names(item) for item in value]
    if isinstance(value, dict):
        return {key: _without_names(item) for key, item in value.items() if key not in _NAMES}
    return value


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Keeps a second job from writing the same part."""
    try:
        with FileLock(folder / ".lock").acquire(timeout=0):
            yield
    except Timeout as error:
        raise UserError(f"another process is writing {folder}: wait for it, or give another --out") from error
