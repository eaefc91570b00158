"""Writes files completely or not at all, checks output paths, and knows the cache folder."""

import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from glob import escape
from pathlib import Path
from typing import Any

from verydeep.errors import UsageError, UserError

_NEED_UTF8 = (".safetensors", ".parquet")
"""Endings of the files whose libraries take no other names."""


@contextmanager
def atomic_write(file: Path) -> Iterator[Path]:
    """A context with a temporary file that is renamed to ``file`` when the block ends without an error.

    The bytes are on the disk before the rename, and the rename before the block ends: a power cut leaves the old file
    or the new one. When the block raises, the temporary file is removed and the old file stays.
    """
    temporary = file.with_name(f".{file.name}.{os.getpid()}.tmp")
    try:
        temporary.touch()
        mode = temporary.stat().st_mode
        yield temporary
        with temporary.open("rb+") as written:
            os.fsync(written.fileno())
        temporary.chmod(mode)  # some writers make files that nobody else may read
        temporary.replace(file)
        _sync_folder(file.parent)
    except BaseException as error:
        temporary.unlink(missing_ok=True)
        if isinstance(error, OSError):
            error.filename = str(file)
        raise


def _sync_folder(folder: Path) -> None:
    if os.name == "posix":
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def is_leftover(file: Path) -> bool:
    """Whether a file is a temporary one, ours or safetensors', that a killed process has left."""
    return file.match(".*.tmp") or file.match(".tmp??????")


def remove_leftovers(folder: Path) -> None:
    """Removes the temporary files that a killed process has left."""
    for file in filter(is_leftover, folder.iterdir()):
        file.unlink(missing_ok=True)


def remove_leftovers_of(file: Path) -> None:
    """Removes what killed processes have left of writing a file; for whoever holds its lock."""
    for left in file.parent.glob(f".{escape(file.name)}.*.tmp"):
        left.unlink(missing_ok=True)


def parse_json(text: str | bytes) -> Any:  # noqa: ANN401 - checked where it is used
    """Reads JSON; ValueError whatever is wrong with it: bytes that are no text, nesting, numbers of 5,000 digits."""
    try:
        return json.loads(text)
    except RecursionError as error:
        raise ValueError("it is nested too deep") from error


def append_line(file: Path, record: dict[str, Any]) -> None:
    """Appends a record as one line of JSON; without a buffer, which would be written again after a failure."""
    with file.open("ab", buffering=0) as lines:
        lines.write(json.dumps(record).encode() + b"\n")


def read_lines(file: Path, errors: str = "strict") -> list[dict[str, Any]]:
    """Reads the records of a file of JSON lines, up to a line cut short by a crash or a full disk.

    ``errors`` is what is done about bytes that are no text, as ``open`` has it.
    """
    records = []
    for line in file.read_text(encoding="utf-8", errors=errors).splitlines(keepends=True):
        try:
            record = parse_json(line)
        except ValueError:
            break
        if not line.endswith("\n") or not isinstance(record, dict):
            break
        records.append(record)
    return records


def check_output_file(file: Path, option: str, example: str, *, any_ending: bool = False) -> None:
    """Checks, before the work for it begins, that a file can be written.

    With a fixed ending, a typing error replaces no image and no model.

    Args:
        file: to be written.
        option: that gave it, such as ``--csv``.
        example: a name with the ending that the file must have.
        any_ending: whether other endings are allowed.
    """
    if file.is_dir():
        raise UsageError(f"{option} {file} is a folder: give a file, such as {file / example}")
    if not any_ending and file.suffix.lower() != (ending := Path(example).suffix):
        raise UsageError(f"{option} {file}: give a name that ends in {ending}")
    if file.suffix.lower() in _NEED_UTF8:
        check_utf8(file, "give another")
    if not file.parent.is_dir():
        raise UsageError(f"{option} {file}: there is no folder {file.parent}: make it first")
    if not os.access(file.parent, os.W_OK | os.X_OK):
        raise UserError(f"{option} {file} cannot be written: {file.parent} is no folder you may write to")


def check_utf8(file: str | Path, remedy: str = "rename it") -> None:
    """Checks that a path is UTF-8, where a library takes no other: safetensors, parquet, PyTorch's own."""
    if as_text(str(file)) != str(file):
        raise UserError(f"{file}: the name is no UTF-8, which its format needs: {remedy}")


def check_outside(out: Path, option: str, data: str | Path | None) -> None:
    """Checks that an output folder does not lie in the folder of the data.

    Args:
        out: a folder to be written.
        option: that gave it, such as ``--out``.
        data: what is read; names of data sets and addresses cannot hold the output.
    """
    if data is not None and Path(data).is_dir() and out.resolve().is_relative_to(Path(data).resolve()):
        raise UsageError(f"{option} {out} lies in {data}, whose images are read: give a folder elsewhere")


def cache_folder() -> Path:
    """Folder of downloads: $VERYDEEP_CACHE, or verydeep in the user's cache."""
    if own := os.environ.get("VERYDEEP_CACHE"):
        return Path(own).expanduser()
    cache = Path(os.environ.get("XDG_CACHE_HOME", ""))
    return (cache if cache.is_absolute() else Path.home() / ".cache") / "verydeep"


def format_bytes(size: int) -> str:
    """Formats a number of bytes, such as 170 MB."""
    for unit, factor in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if size >= factor:
            return f"{format_number(size / factor)} {unit}"
    return f"{size} bytes"


def format_number(number: float) -> str:
    """Formats a number to three digits, those before the point in full: 1,420, 142, 14.2, 0.142."""
    return f"{number:,.0f}" if abs(number) >= 99.95 else f"{number:.3g}"


def as_text(name: str) -> str:
    """A name of a file as text that can be written, also where its bytes are no UTF-8: ``caf\ufffd``."""
    return name.encode(errors="surrogateescape").decode(errors="replace")


def free_name(base: str, taken: Callable[[str], bool]) -> str:
    """Returns a name that is not taken: the base, or the base with -2, -3 ..."""
    name, number = base, 1
    while taken(name):
        number += 1
        name = f"{base}-{number}"
    return name
