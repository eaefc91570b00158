"""Files behind http and https, read in parts by requests with a Range."""

import io
import os
import re
from typing import TYPE_CHECKING
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

import urllib3
from urllib3.exceptions import HTTPError, MaxRetryError, NewConnectionError, TimeoutError

from verydeep.errors import UserError

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

_CONNECT_SECONDS, _READ_SECONDS = 10.0, 30.0
_BLOCK = 4 * 2**20
"""Bytes of a request when a whole file is gone through."""

_PASSING = (408, 429, 500, 502, 503, 504)
_AT_FIRST = urllib3.Retry(2, backoff_factor=0.25, status_forcelist=_PASSING, raise_on_status=False, retry_after_max=5)
"""For the first request to a file: a server that is not there is told at once."""

_PATIENT = urllib3.Retry(
    8, backoff_factor=0.5, backoff_max=30, status_forcelist=_PASSING, raise_on_status=False, retry_after_max=60
)
"""For all others: a training outlasts a network that is away for a minute and a half."""

_TOTAL = re.compile(r"bytes \d+-\d+/(\d+)")


class Web:
    """Files behind http and https, over connections that stay open, with retries."""

    parallel_reads = 32

    def __init__(self) -> None:
        self._pools: dict[tuple[int, str], urllib3.PoolManager] = {}

    def __reduce__(self) -> tuple[type["Web"], tuple[()]]:
        return Web, ()

    def look(self, file: str) -> tuple[int, str]:
        """Number of bytes of a file, and its entity tag or time of modification, by a request for its first byte.

        Raises:
            UserError: there is no such file, or its server gives no parts of files.
        """
        response = self._ask(file, {"Range": "bytes=0-0"}, _AT_FIRST, preload_content=False)
        try:
            if response.status == 200:
                raise UserError(
                    f"the server of {file} sends no parts of files (it ignores Range): "
                    "serve the shards with one that does, or copy them to a disk"
                )
            if response.status == 416:
                raise UserError(f"{file} is empty: copy it again")
            _check_status(file, response.status, 206)
            total = _TOTAL.fullmatch(response.headers.get("Content-Range", ""))
            if total is None:
                raise UserError(f"the server of {file} does not say how large it is: copy the shards to a disk")
            response.drain_conn()  # so that the connection can be used again
            return int(total[1]), response.headers.get("ETag") or response.headers.get("Last-Modified") or ""
        finally:
            response.close()

    def read(self, file: str, offset: int, size: int) -> bytes:
        """Reads a part of a file.

        Raises:
            UserError: it cannot be read, also after several attempts.
        """
        if size == 0:
            return b""
        response = self._ask(file, {"Range": f"bytes={offset}-{offset + size - 1}"}, _PATIENT)
        if response.status == 416:
            return b""
        _check_status(file, response.status, 206)
        return response.data

    def whole(self, file: str) -> bytes | None:
        """Reads a small file; None where there is none.

        Raises:
            UserError: it cannot be read.
        """
        response = self._ask(file, {}, _AT_FIRST)
        if response.status in (403, 404, 410):  # object stores that list nothing answer 403 for what is not there
            return None
        _check_status(file, response.status, 200)
        return response.data

    def opened(self, file: str) -> io.BufferedReader:
        """Opens a file to go through it in blocks of 4 MiB.

        Raises:
            UserError: there is no such file.
        """
        return io.BufferedReader(_Blocks(self, file), _BLOCK)

    def _ask(
        self, file: str, headers: dict[str, str], retries: urllib3.Retry, *, preload_content: bool = True
    ) -> urllib3.BaseHTTPResponse:
        try:
            return self._pool(file).request(
                "GET",
                file,
                headers=headers,
                retries=retries,
                timeout=urllib3.Timeout(connect=_CONNECT_SECONDS, read=_READ_SECONDS),
                preload_content=preload_content,
                decode_content=False,
            )
        except HTTPError as error:
            raise UserError(f"{file} cannot be read: {_reason(error)}: is its server up?") from error

    def _pool(self, file: str) -> urllib3.PoolManager:
        """Gives connections of this process: those of the process it was forked from carry that one's answers."""
        scheme, host = urlsplit(file)[:2]
        pool = self._pools.get((os.getpid(), scheme))
        if pool is None:
            proxy = getproxies().get(scheme)
            size = 2 * self.parallel_reads
            if proxy and not proxy_bypass(host):
                pool = urllib3.ProxyManager(proxy, maxsize=size)
            else:
                pool = urllib3.PoolManager(maxsize=size)
            pool = self._pools.setdefault((os.getpid(), scheme), pool)
        return pool


def _check_status(file: str, status: int, wanted: int) -> None:
    if status in (404, 410):
        raise UserError(f"{file} is missing ({status}): copy it there, or leave it out of the pattern")
    if status != wanted:
        raise UserError(f"{file} cannot be read: the server answers {status}")


def _reason(error: HTTPError) -> str:
    if isinstance(error, MaxRetryError) and error.reason is not None:
        return _reason(error.reason) if isinstance(error.reason, HTTPError) else str(error.reason)
    if isinstance(error, NewConnectionError):
        return f"no connection ({str(error).rpartition(': ')[2]})"
    if isinstance(error, TimeoutError):
        return "no answer in time"
    return str(error)


class _Blocks(io.RawIOBase):
    """A file of a server that is read in large requests."""

    def __init__(self, web: Web, file: str) -> None:
        super().__init__()
        self._web, self._file, self._place = web, file, 0
        self._size, _ = web.look(file)

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self._place = offset + {io.SEEK_SET: 0, io.SEEK_CUR: self._place, io.SEEK_END: self._size}[whence]
        return self._place

    def readinto(self, into: "WriteableBuffer") -> int:
        view = memoryview(into)
        size = max(0, min(len(view), self._size - self._place))
        part = self._web.read(self._file, self._place, size)
        view[: len(part)] = part
        self._place += len(part)
        return len(part)
