"""Files that are written whole or not at all."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


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
