"""Files that are written whole or not at all, and checks of where they are to be written."""

import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from verydeep.errors import UsageError, UserError


@contextmanager
def atomic_write(file: Path) -> Iterator[Path]:
    """Gives a temporary name beside a file, and renames it to the file when the block ends well.

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
    """Whether a file is the temporary one of a process that was killed while it wrote: ours, or that of safetensors."""
    return file.match(".*.tmp") or file.match(".tmp??????")


def remove_leftovers(folder: Path) -> None:
    """Removes the temporary files of a process that was killed while it wrote."""
    for file in filter(is_leftover, folder.iterdir()):
        file.unlink(missing_ok=True)


def append_line(file: Path, record: dict[str, Any]) -> None:
    """Appends a record as one line of JSON, in one piece: a buffer would be written again after a failure."""
    with file.open("ab", buffering=0) as lines:
        lines.write(json.dumps(record).encode() + b"\n")


def read_lines(file: Path) -> list[dict[str, Any]]:
    """Reads the records of a file of JSON lines, up to a line cut short by a crash or a full disk."""
    records = []
    for line in file.read_text(encoding="utf-8").splitlines(keepends=True):
        try:
            record = json.loads(line)
        except json.JSONDecodeError:
            break
        if not line.endswith("\n"):
            break
        records.append(record)
    return records


def check_output_file(file: Path, option: str, example: str, *, any_ending: bool = False) -> None:
    """Checks, before the work for it begins, that a file has a place.

    With a fixed ending, no slip of the hand replaces an image or a model.

    Args:
        file: to be written.
        option: that gave it, such as ``--csv``.
        example: of a name, with the ending that is wanted.
        any_ending: another will do too.

    Raises:
        UserError: its folder may not be written.
        UsageError: it is a folder, lies in none, or has another ending.
    """
    if file.is_dir():
        raise UsageError(f"{option} {file} is a folder: give a file, such as {file / example}")
    if not any_ending and file.suffix.lower() != (ending := Path(example).suffix):
        raise UsageError(f"{option} {file}: give a name that ends in {ending}")
    if not file.parent.is_dir():
        raise UsageError(f"{option} {file}: there is no folder {file.parent}: make it first")
    if not os.access(file.parent, os.W_OK | os.X_OK):
        raise UserError(f"{option} {file} cannot be written: {file.parent} is no folder you may write to")


def check_outside(out: Path, option: str, data: str | Path | None) -> None:
    """Checks that what is to be written does not become a part of the data that are read.

    Args:
        out: a folder to be written.
        option: that gave it, such as ``--out``.
        data: what is read: only a folder of files can be spoilt.

    Raises:
        UsageError: it is that folder, or lies in it.
    """
    if data is not None and Path(data).is_dir() and out.resolve().is_relative_to(Path(data).resolve()):
        raise UsageError(f"{option} {out} lies in {data}, whose images are read: give a folder elsewhere")


def cache_folder() -> Path:
    """The folder for what can be fetched again: $VERYDEEP_CACHE, or verydeep in the user's cache."""
    if own := os.environ.get("VERYDEEP_CACHE"):
        return Path(own).expanduser()
    cache = Path(os.environ.get("XDG_CACHE_HOME", ""))
    return (cache if cache.is_absolute() else Path.home() / ".cache") / "verydeep"


def format_bytes(size: int) -> str:
    """Writes bytes as a person would, such as 170 MB."""
    for unit, factor in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if size >= factor:
            return f"{size / factor:.3g} {unit}"
    return f"{size} bytes"


def free_name(base: str, taken: Callable[[str], bool]) -> str:
    """Gives a name that is not taken: the base itself, or with -2, -3 ... after it."""
    name, number = base, 1
    while taken(name):
        number += 1
        name = f"{base}-{number}"
    return name
