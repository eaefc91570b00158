"""Downloads of files over http and https: checked by their hash, complete or not at all, resumed where they ended."""

import hashlib
import os
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from verydeep.errors import UserError
from verydeep.files import atomic_write
from verydeep.progress import Progress, ignore_progress

if TYPE_CHECKING:
    from http.client import HTTPResponse

_CHUNK = 2**20
_TIMEOUT_SECONDS = 30.0
_RANGE_NOT_SATISFIABLE = 416
_LEAST_BYTES, _PER_SECONDS = 60_000, 60.0
"""A download that brings less in this time is given up: at 1 kB a second 500 MB would take six days."""

_TAG = re.compile(r'"[\x21\x23-\x7e\x80-\xff]{0,1000}"')
"""A strong entity tag, as HTTP has it: in a header nothing else may stand."""


@dataclass(frozen=True)
class Digest:
    """A hash that a publisher gives for a file.

    Attributes:
        algorithm: md5, sha1 or sha256.
        digits: hexadecimal, the first of them where the publisher gives no more.
    """

    algorithm: str
    digits: str

    def __str__(self) -> str:
        """Such as ``sha256 397923af``."""
        return f"{self.algorithm} {self.digits}"


def is_offline() -> bool:
    """Whether $VERYDEEP_OFFLINE forbids the network."""
    return os.environ.get("VERYDEEP_OFFLINE", "") not in ("", "0")


def download(
    url: str, file: Path, *, digest: Digest | None, size: int, by_hand: str, progress: Progress = ignore_progress
) -> None:
    """Downloads a file. Under its name there is the complete file or nothing.

    What came before an interruption is kept, and resumed where an entity tag shows that the file has not changed.

    Args:
        url: address of the file.
        file: where it is written; its folder is made when the first bytes come.
        digest: checked where there is one.
        size: bytes, about; what is a tenth larger is not the file.
        by_hand: what the user can do without a network, for the message.
        progress: called with megabytes.
    """
    if is_offline():
        raise UserError(f"{url} is not fetched, for VERYDEEP_OFFLINE is set: unset it, or {by_hand}")
    part = _Part(file)
    try:
        with _request(url, part) as response:
            part.begin(response)
            _receive(response, part, f"downloading {file.name}", size, progress)
    except _OtherFileError as error:
        part.discard()
        raise UserError(
            f"{url} did not give the file that was published: {error}; nothing was kept, try again later, or {by_hand}"
        ) from error
    except _NetworkError as error:
        again = "try again where there is a network" + (", it goes on where it ended" if part.tag else "")
        raise UserError(f"{url} cannot be fetched: {error}; {again}, or {by_hand}") from error
    finally:
        if part.tag is None and not part.is_complete:
            part.discard()
    if digest is not None:
        found = digest_of(part.file, digest.algorithm, f"checking {file.name}", progress)
        if not found.startswith(digest.digits):
            part.discard()
            raise UserError(
                f"{url} did not give the file that was published: its {digest.algorithm} is {found} instead of "
                f"{digest.digits}; nothing was kept, try again later"
            )
    with atomic_write(file) as temporary:
        part.file.replace(temporary)
    part.discard()


def check(file: Path, digest: Digest, progress: Progress = ignore_progress) -> None:
    """Raises UserError where a file is not the one that was published."""
    found = digest_of(file, digest.algorithm, f"checking {file.name}", progress)
    if not found.startswith(digest.digits):
        raise UserError(
            f"{file} is not the file that was published: its {digest.algorithm} is {found} instead of "
            f"{digest.digits}; remove it and fetch it again"
        )


def digest_of(file: Path, algorithm: str, what: str = "checking", progress: Progress = ignore_progress) -> str:
    """Computes the hash of a file, in hexadecimal digits."""
    digest, done, size = hashlib.new(algorithm, usedforsecurity=algorithm == "sha256"), 0, file.stat().st_size
    with file.open("rb") as opened:
        while chunk := opened.read(_CHUNK):
            digest.update(chunk)
            done += len(chunk)
            report_bytes(progress, what, done, size)
    return digest.hexdigest()


def report_bytes(progress: Progress, what: str, done: int, size: int) -> None:
    """Reports a number of bytes in megabytes."""
    total = max(1, size // 10**6)
    progress(f"{what}, MB", min(done // 10**6, total), total)


class _Part:
    """The part of a file that has come, with the entity tag of the file."""

    def __init__(self, file: Path) -> None:
        self.is_complete = False
        self.file = file.with_name(f".{file.name}.part")
        self._tag_file = file.with_name(f".{file.name}.tag")

    @property
    def tag(self) -> str | None:
        """The entity tag; None where the part cannot be resumed."""
        if not self.file.is_file() or not self._tag_file.is_file():
            return None
        tag = self._tag_file.read_text(encoding="latin-1")
        return tag if _TAG.fullmatch(tag) else None

    def begin(self, response: "HTTPResponse") -> None:
        self.file.parent.mkdir(parents=True, exist_ok=True)
        if response.status == 206:  # the rest of the file
            return
        self.discard()
        self.file.touch()
        tag = response.headers.get("ETag", "")
        if _TAG.fullmatch(tag):  # a weak tag (W/) does not promise the same bytes
            self._tag_file.write_text(tag, encoding="latin-1")

    def discard(self) -> None:
        self.file.unlink(missing_ok=True)
        self._tag_file.unlink(missing_ok=True)


class _OtherFileError(Exception):
    """What comes is not the file that was asked for."""


class _NetworkError(Exception):
    """The network failed, and not the disk."""


@contextmanager
def _network() -> Iterator[None]:
    from http.client import HTTPException

    try:
        yield
    except (OSError, HTTPException) as error:
        raise _NetworkError(_reason(error)) from error


def _reason(error: Exception) -> str:
    from urllib.error import URLError

    if isinstance(error, URLError) and isinstance(error.reason, Exception):
        return _reason(error.reason)
    return getattr(error, "strerror", None) or str(error) or type(error).__name__


def _request(url: str, part: _Part) -> "HTTPResponse":
    """Requests a file, or the rest of it where a part has come."""
    from urllib.error import HTTPError  # which take a tenth of a second with what they need, ssl for one
    from urllib.request import Request, urlopen

    headers = {"User-Agent": "verydeep"}  # some servers refuse Python's own
    if tag := part.tag:
        headers |= {"Range": f"bytes={part.file.stat().st_size}-", "If-Range": tag}
    with _network():
        try:
            response: HTTPResponse = urlopen(Request(url, headers=headers), timeout=_TIMEOUT_SECONDS)
        except HTTPError as error:
            error.close()
            if not tag or error.code != _RANGE_NOT_SATISFIABLE:
                raise
            part.discard()
            return _request(url, part)
    return response


def _receive(response: "HTTPResponse", part: _Part, what: str, size: int, progress: Progress) -> None:
    most = size + size // 10 + _CHUNK  # sizes are published rounded
    with part.file.open("ab") as written:
        done = written.tell()
        if response.length is not None and done + response.length > most:
            raise _OtherFileError(f"it has {done + response.length:,} bytes instead of {size:,}")
        began, before = time.monotonic(), done
        while chunk := _read(response):
            written.write(chunk)
            done += len(chunk)
            if done > most:
                raise _OtherFileError(f"it has more than {most:,} bytes instead of {size:,}")
            if (now := time.monotonic()) - began > _PER_SECONDS:
                if done - before < _LEAST_BYTES:
                    raise _NetworkError(f"{done - before:,} bytes came in {_PER_SECONDS:.0f} seconds")
                began, before = now, done
            report_bytes(progress, what, done, size)
    if response.length:
        raise _NetworkError(f"the connection ended {response.length:,} bytes too early")
    part.is_complete = True


def _read(response: "HTTPResponse") -> bytes:
    """Reads what has come, and waits for no more."""
    with _network():
        return response.read1(_CHUNK)
