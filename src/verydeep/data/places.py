"""Where shards lie: files of which a part can be read without the rest."""

import os
import posixpath
import re
from functools import lru_cache
from io import BufferedReader
from pathlib import Path
from typing import Protocol, runtime_checkable
from urllib.parse import urlsplit, urlunsplit

from verydeep.errors import UserError

_MOST_OPEN = 512
"""Files kept open: half of the usual limit of a process."""

_SCHEME = re.compile(r"([a-z][a-z0-9+-]+):", re.IGNORECASE)


@runtime_checkable  # the tests check the types of arguments
class Place(Protocol):
    """Files named by a path or an address. It can be sent to another process and used by many threads."""

    @property
    def parallel_reads(self) -> int:
        """Reads to make at the same time so that none waits for another."""

    def look(self, file: str) -> tuple[int, str]:
        """Number of bytes of a file, and what changes when the file does; that is empty where nothing tells.

        Raises:
            UserError: there is no such file, or no part of it can be read.
        """

    def read(self, file: str, offset: int, size: int) -> bytes:
        """Reads a part of a file; less of it only where the file ends.

        Raises:
            UserError: it cannot be read.
        """

    def whole(self, file: str) -> bytes | None:
        """Reads a small file; None where there is none.

        Raises:
            UserError: it cannot be read.
        """

    def opened(self, file: str) -> BufferedReader:
        """Opens a file to go through it, mostly forwards."""


class _OpenFile:
    """A file descriptor that is closed when nobody reads from it any more."""

    descriptor = -1

    def __init__(self, file: str) -> None:
        self.descriptor = os.open(file, os.O_RDONLY)

    def __del__(self) -> None:
        if self.descriptor >= 0:
            os.close(self.descriptor)


class Disk:
    """Files on the disks of this machine. Reads share no position: threads and forked processes do not meet."""

    parallel_reads = 1

    def __init__(self) -> None:
        self._opened = lru_cache(maxsize=_MOST_OPEN)(_OpenFile)

    def __reduce__(self) -> tuple[type["Disk"], tuple[()]]:
        return Disk, ()

    def look(self, file: str) -> tuple[int, str]:
        """Number of bytes of a file, and its time of modification.

        Raises:
            UserError: there is no such file.
        """
        try:
            found = Path(file).stat()
        except OSError as error:
            raise _unreadable(file, error) from error
        return found.st_size, str(found.st_mtime_ns)

    def read(self, file: str, offset: int, size: int) -> bytes:
        """Reads a part of a file.

        Raises:
            UserError: it cannot be read.
        """
        try:
            opened = self._opened(file)  # held while it is read, so that it stays open
            return os.pread(opened.descriptor, size, offset)
        except OSError as error:
            raise _unreadable(file, error) from error

    def whole(self, file: str) -> bytes | None:
        """Reads a small file; None where there is none.

        Raises:
            UserError: it cannot be read.
        """
        try:
            return Path(file).read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise _unreadable(file, error) from error

    def opened(self, file: str) -> BufferedReader:
        """Opens a file.

        Raises:
            UserError: it cannot be opened.
        """
        try:
            return Path(file).open("rb")
        except OSError as error:
            raise _unreadable(file, error) from error


def _unreadable(file: str, error: OSError) -> UserError:
    if isinstance(error, FileNotFoundError):
        return UserError(f"{file} is missing: copy it there, or leave it out of the pattern")
    return UserError(f"{file} cannot be read: {error.strerror or error}")


def is_address(file: str) -> bool:
    """Whether a file is named by an address, such as http://..., and not by a path."""
    return _SCHEME.match(file) is not None and not os.path.exists(file)  # noqa: PTH110 - False for any text


def find_place(file: str) -> Place:
    """Finds what reads a file.

    Raises:
        UserError: it is an address, but not one of http or https.
    """
    scheme = _SCHEME.match(file)
    if scheme is None or not is_address(file):
        return Disk()
    if scheme[1].lower() in ("http", "https"):
        try:
            urlsplit(file)
        except ValueError as error:
            raise UserError(f"{file} is no address: {error}") from error
        from verydeep.data.web import Web

        return Web()
    raise UserError(
        f"no data {file!r}: there is no such path, and {scheme[1]}: is refused: shards are read from disk, http and "
        "https only"
    )


def path_part(file: str) -> str:
    """The part of a path or an address that names folders and a file: no host, no query."""
    return urlsplit(file).path if is_address(file) else file


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
