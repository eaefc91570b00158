"""Files behind http and https, read in parts by requests with a Range."""

import os
import re
from functools import cache
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

import urllib3
from urllib3.exceptions import HTTPError, MaxRetryError, NewConnectionError, TimeoutError

from verydeep.errors import UserError

_CONNECT_SECONDS, _READ_SECONDS = 10.0, 30.0

_PASSING = (408, 429, 500, 502, 503, 504)
_AT_FIRST = urllib3.Retry(2, backoff_factor=0.25, status_forcelist=_PASSING, raise_on_status=False, retry_after_max=5)
"""For the first request to a file: a server that is not there is reported at once."""

_PATIENT = urllib3.Retry(
    8, backoff_factor=0.5, backoff_max=30, status_forcelist=_PASSING, raise_on_status=False, retry_after_max=60
)
"""For all others: a training outlasts a network that is away for a minute and a half."""

_TOTAL = re.compile(r"bytes \d+-\d+/(\d+)")


class HttpStorage:
    """Files behind http and https, over connections that stay open, with retries."""

    parallel_reads = 32
    block_size = 4 * 2**20

    def stat(self, file: str) -> tuple[int, str]:
        """Returns the number of bytes, and the entity tag or time of modification, by a request for the first byte."""
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
        if size == 0:
            return b""
        response = self._ask(file, {"Range": f"bytes={offset}-{offset + size - 1}"}, _PATIENT)
        if response.status == 416:
            return b""
        _check_status(file, response.status, 206)
        return response.data

    def read_whole(self, file: str) -> bytes | None:
        response = self._ask(file, {}, _AT_FIRST)
        if response.status in (403, 404, 410):  # object stores that list nothing answer 403 for what is not there
            return None
        _check_status(file, response.status, 200)
        return response.data

    def _ask(
        self, file: str, headers: dict[str, str], retries: urllib3.Retry, *, preload_content: bool = True
    ) -> urllib3.BaseHTTPResponse:
        scheme, host = urlsplit(file)[:2]
        proxy = None if proxy_bypass(host) else getproxies().get(scheme)
        try:
            return _connections(proxy, os.getpid()).request(
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


@cache
def _connections(proxy: str | None, process: int) -> urllib3.PoolManager:
    """Opens the connections of a process: those of the process it was forked from carry that one's answers."""
    size = 2 * HttpStorage.parallel_reads
    return urllib3.ProxyManager(proxy, maxsize=size) if proxy else urllib3.PoolManager(maxsize=size)


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
