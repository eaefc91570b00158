"""Where shards lie: files on disk, http(s) and object stores, of which a part can be read without the rest."""

import io
import os
import posixpath
import re
import stat
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeVar, runtime_checkable
from urllib.parse import urlsplit, urlunsplit

from verydeep.errors import UserError

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

_T = TypeVar("_T")
_SCHEME = re.compile(r"([a-z][a-z0-9+-]+):", re.IGNORECASE)

OBJECT_STORES = {"s3": "s3fs", "gs": "gcsfs", "az": "adlfs", "hf": "huggingface-hub"}
"""Object stores by the scheme of their addresses, each with the package by which fsspec reads it."""


@runtime_checkable  # the tests check the types of arguments
class Storage(Protocol):
    """Reads files by a path or an address, in threads and processes; raises UserError where a file cannot be read."""

    parallel_reads: int
    "Reads to make at the same time so that none waits for another."

    block_size: int
    "Bytes to read at least when a whole file is gone through."

    def stat(self, file: str) -> tuple[int, str]:
        """Returns the number of bytes, and what changes when the file does; empty where nothing says it."""

    def read(self, file: str, offset: int, size: int) -> bytes:
        """Reads a part of a file; less of it only where the file ends."""

    def read_whole(self, file: str) -> bytes | None:
        """Reads a small file; None where there is none."""


class DiskStorage:
    """Files on the disks of this machine, opened for each read: threads and forked processes share no position."""

    parallel_reads = 1
    block_size = io.DEFAULT_BUFFER_SIZE

    def stat(self, file: str) -> tuple[int, str]:
        try:
            found = Path(file).stat()
        except OSError as error:
            raise _unreadable(file, error) from error
        if not stat.S_ISREG(found.st_mode):  # a pipe or a device might never end
            raise UserError(f"{file} is no regular file: copy what it gives into a file")
        return found.st_size, str(found.st_mtime_ns)

    def read(self, file: str, offset: int, size: int) -> bytes:
        try:
            with Path(file).open("rb", buffering=0) as opened:
                return os.pread(opened.fileno(), size, offset)
        except OSError as error:
            raise _unreadable(file, error) from error

    def read_whole(self, file: str) -> bytes | None:
        try:
            if not Path(file).exists():
                return None
            self.stat(file)
            return Path(file).read_bytes()
        except OSError as error:
            raise _unreadable(file, error) from error


class ObjectStorage:
    """Files in an object store, read through fsspec, whose packages retry what fails in passing."""

    parallel_reads = 32
    block_size = 4 * 2**20

    def stat(self, file: str) -> tuple[int, str]:
        found = self._ask(file, lambda store: store.info(file))
        stamps = (found.get(key) for key in ("ETag", "etag", "LastModified", "last_modified", "updated", "created"))
        return int(found["size"]), str(next(filter(None, stamps), ""))

    def read(self, file: str, offset: int, size: int) -> bytes:
        return self._ask(file, lambda store: bytes(store.cat_file(file, start=offset, end=offset + size)))

    def read_whole(self, file: str) -> bytes | None:
        def read(store: Any) -> bytes | None:  # noqa: ANN401 - fsspec has no types
            try:
                return bytes(store.cat_file(file))
            except (FileNotFoundError, PermissionError):  # stores that list nothing forbid what is not there
                return None

        return self._ask(file, read)

    def _ask(self, file: str, action: Callable[[Any], _T]) -> _T:
        try:
            return action(_object_store(urlsplit(file).scheme, os.getpid()))
        except OSError as error:
            raise _unreadable(file, error) from error
        except Exception as error:  # each package has its own
            raise UserError(f"{file} cannot be read: {_one_line(error)}") from error


@cache
def _object_store(scheme: str, process: int) -> Any:  # noqa: ANN401 - fsspec has no types
    """Opens the connections of a process: those of the process it was forked from are not for it."""
    import fsspec

    return fsspec.filesystem(scheme, skip_instance_cache=True)


def _unreadable(file: str, error: OSError) -> UserError:
    if isinstance(error, FileNotFoundError):
        return UserError(f"{file} is missing: copy it there, or leave it out of the pattern")
    return UserError(f"{file} cannot be read: {error.strerror or _one_line(error)}")


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__


def is_address(file: str) -> bool:
    """Whether a file is named by an address, such as http://..., and not by a path."""
    return _SCHEME.match(file) is not None and not os.path.exists(file)  # noqa: PTH110 - False for any text


def find_storage(file: str) -> Storage:
    """Returns what reads a file; raises UserError where it is an address that is not read, or a package is missing."""
    found = _SCHEME.match(file)
    if found is None or not is_address(file):
        return DiskStorage()
    try:
        urlsplit(file)
    except ValueError as error:
        raise UserError(f"{file} is no address: {error}") from error
    scheme = found[1].lower()
    if scheme in ("http", "https"):
        from verydeep.data.shards.http import HttpStorage

        return HttpStorage()
    if scheme not in OBJECT_STORES:
        raise UserError(
            f"no data {file!r}: there is no such path, and {scheme}: is refused: shards are read from disk, http, "
            f"https, {', '.join(OBJECT_STORES)} only"
        )
    import fsspec

    try:
        fsspec.get_filesystem_class(scheme)
    except ImportError as error:
        raise UserError(f"{file} needs a package: pip install {OBJECT_STORES[scheme]}") from error
    return ObjectStorage()


class _Stream(io.RawIOBase):
    def __init__(self, storage: Storage, file: str, size: int) -> None:
        super().__init__()
        self._storage, self._file, self._size, self._position = storage, file, size, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self._position = offset + {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._size}[whence]
        return self._position

    def readinto(self, into: "WriteableBuffer") -> int:
        view = memoryview(into)
        size = max(0, min(len(view), self._size - self._position))
        part = self._storage.read(self._file, self._position, size)
        view[: len(part)] = part
        self._position += len(part)
        return len(part)


def open_stream(storage: Storage, file: str, size: int) -> io.BufferedReader:
    """Opens a file of a number of bytes to go through it, mostly forwards."""
    return io.BufferedReader(_Stream(storage, file, size), storage.block_size)


def path_part(file: str) -> str:
    """The part of a path or an address that names folders and a file: no host, no query."""
    return urlsplit(file).path if is_address(file) else file


def file_name(file: str) -> str:
    return path_part(file).rpartition("/")[2]


def folder_of(file: str) -> str:
    """The folder of a file; an address keeps its query, in which some hosts want a key."""
    if is_address(file):
        parts = urlsplit(file)
        return urlunsplit(parts._replace(path=posixpath.dirname(parts.path), fragment=""))
    return str(Path(file).parent)


def inside(folder: str, name: str) -> str:
    """A file in a folder."""
    if is_address(folder):
        parts = urlsplit(folder)
        return urlunsplit(parts._replace(path=posixpath.join(parts.path, name), fragment=""))
    return str(Path(folder) / name)
