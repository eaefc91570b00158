"""Archives of data sets: fetched only when asked, checked by their hash, unpacked whole or not at all.

torchvision has a downloader too. It is not used because it waits for ever where nothing answers, falls back from https
to http, writes under the final name, and takes a folder that was half unpacked for a whole one.
"""

import hashlib
import os
import tarfile
import tempfile
import zipfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path
from urllib.error import URLError
from urllib.request import Request, urlopen

from verydeep.atomic import written_whole
from verydeep.data.image_set import Progress, ignore_progress
from verydeep.mistakes import MistakeError

_CHUNK = 2**20
_SECONDS_WITHOUT_AN_ANSWER = 30.0

Unpack = Callable[[Path, Path, Progress], None]
"""Unpacks an archive into a folder, and tells how far it is."""


@dataclass(frozen=True, kw_only=True)
class Archive:
    """A file that a data set is published as.

    Attributes:
        file: its name.
        md5: of its bytes, as published.
        size: bytes.
        url: where it can be had; None where only its owner gives it, to those who ask.
        becomes: the folder that it is unpacked to, or that is made with its help; None where it is used as it is.
        unpack: makes that folder; None where nothing is to be unpacked.
    """

    file: str
    md5: str
    size: int
    url: str | None = None
    becomes: str | None = None
    unpack: Unpack | None = None

    def is_done(self, folder: Path) -> bool:
        """Whether there is nothing left to do for it."""
        return (folder / (self.becomes or self.file)).exists()

    def is_missing(self, folder: Path) -> bool:
        """Whether it has to be had from somewhere."""
        return not self.is_done(folder) and not (folder / self.file).exists()


def data_folder() -> Path:
    """The folder of the data sets: $VERYDEEP_DATA, or verydeep/data in the user's cache."""
    if own := os.environ.get("VERYDEEP_DATA"):
        return Path(own).expanduser()
    cache = Path(os.environ.get("XDG_CACHE_HOME", ""))
    return (cache if cache.is_absolute() else Path.home() / ".cache") / "verydeep" / "data"


def shown_size(size: int) -> str:
    """Writes bytes as a person would, such as 170 MB."""
    for unit, factor in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if size >= factor:
            return f"{size / factor:.3g} {unit}"
    return f"{size} bytes"


def obtain(archives: Sequence[Archive], folder: Path, progress: Progress = ignore_progress) -> None:
    """Downloads what is missing, checks it and unpacks it. What was downloaded and unpacked is removed again.

    Args:
        archives: of one data set; every one that is missing has an address.
        folder: of the data set.
        progress: told how far it is, in megabytes.

    Raises:
        MistakeError: no network, a file that is not what was published, or a folder that cannot be written.
    """
    needed = [archive for archive in archives if not archive.is_done(folder)]
    missing = [archive for archive in needed if archive.is_missing(folder)]
    try:
        for archive in needed:
            if archive in missing:
                download(archive, folder, progress)
            else:
                check_md5(archive, folder, progress)
        for archive in needed:
            if archive.unpack:
                _unpack_whole(archive, folder, progress)
        for archive in missing:
            if archive.unpack:
                (folder / archive.file).unlink()
    except OSError as error:
        raise MistakeError(
            f"{folder} cannot be written ({error.strerror or error}): make room, or set VERYDEEP_DATA to another folder"
        ) from error
    finally:
        if folder.is_dir() and not any(folder.iterdir()):
            folder.rmdir()


def download(archive: Archive, folder: Path, progress: Progress = ignore_progress) -> None:
    """Downloads an archive. Under its name there is the whole file or nothing.

    Raises:
        MistakeError: it cannot be had, or is not what was published.
        OSError: the folder cannot be written.
    """
    assert archive.url is not None
    chunks = _chunks(archive, archive.url, folder)
    first = next(chunks, b"")  # without a network not even the folder is made
    folder.mkdir(parents=True, exist_ok=True)
    digest, done = hashlib.md5(usedforsecurity=False), 0
    with written_whole(folder / archive.file) as temporary:
        with temporary.open("wb") as file:
            chunk = first
            while chunk:
                file.write(chunk)
                digest.update(chunk)
                done += len(chunk)
                _tell(progress, f"downloading {archive.file}", done, archive.size)
                chunk = next(chunks, b"")
        if digest.hexdigest() != archive.md5:
            raise MistakeError(
                f"{archive.url} did not give the file that was published: its md5 is {digest.hexdigest()} instead of "
                f"{archive.md5}; nothing was kept, try again later"
            )


def _chunks(archive: Archive, url: str, folder: Path) -> Iterator[bytes]:
    try:
        request = Request(url, headers={"User-Agent": "verydeep"})  # some servers refuse Python's own
        with urlopen(request, timeout=_SECONDS_WITHOUT_AN_ANSWER) as response:
            while chunk := response.read(_CHUNK):
                yield chunk
            if response.length:
                raise ConnectionError(f"the connection ended {response.length:,} bytes too early")
    except (OSError, HTTPException) as error:
        raise MistakeError(
            f"{url} cannot be fetched: {_reason(error)}; try again where there is a network, "
            f"or put {archive.file} into {folder} by hand"
        ) from error


def _reason(error: Exception) -> str:
    if isinstance(error, URLError) and isinstance(error.reason, Exception):
        return _reason(error.reason)
    return getattr(error, "strerror", None) or str(error) or type(error).__name__


def check_md5(archive: Archive, folder: Path, progress: Progress = ignore_progress) -> None:
    """Checks that a file is the archive that was published.

    Raises:
        MistakeError: it is not.
    """
    digest, done = hashlib.md5(usedforsecurity=False), 0
    with (folder / archive.file).open("rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
            done += len(chunk)
            _tell(progress, f"checking {archive.file}", done, archive.size)
    if digest.hexdigest() != archive.md5:
        raise MistakeError(
            f"{folder / archive.file} is not the file that was published: its md5 is {digest.hexdigest()} instead of "
            f"{archive.md5}; remove it and fetch it again"
        )


def _tell(progress: Progress, what: str, done: int, size: int) -> None:
    total = max(1, size // 10**6)
    progress(f"{what}, MB", min(done // 10**6, total), total)


def _unpack_whole(archive: Archive, folder: Path, progress: Progress) -> None:
    """Unpacks beside the final place and then renames, so that the folder is there whole or not at all."""
    assert archive.unpack is not None
    assert archive.becomes is not None
    with tempfile.TemporaryDirectory(dir=folder, prefix=".unpacking-") as temporary:
        try:
            archive.unpack(folder / archive.file, Path(temporary), progress)
        except (tarfile.TarError, zipfile.BadZipFile, EOFError, KeyError, ValueError) as error:
            raise MistakeError(f"{folder / archive.file} cannot be unpacked: {error}") from error
        made = Path(temporary) / archive.becomes
        if not made.is_dir():
            raise MistakeError(f"{folder / archive.file} cannot be unpacked: it has no folder {archive.becomes}/")
        made.rename(folder / archive.becomes)


def unpack_tar(archive: Path, into: Path, progress: Progress) -> None:
    """Unpacks a tar archive, compressed or not."""
    with archive.open("rb") as file, tarfile.open(fileobj=file) as tar:
        extract_members(tar, into, progress, f"unpacking {archive.name}", file.tell, archive.stat().st_size)


def unpack_tar_in_zip(archive: Path, into: Path, progress: Progress) -> None:
    """Unpacks the images of caltech101: a compressed tar archive inside a zip archive."""
    with zipfile.ZipFile(archive) as outer:
        name = next(name for name in outer.namelist() if name.endswith("/101_ObjectCategories.tar.gz"))
        with outer.open(name) as file, tarfile.open(fileobj=file, mode="r|gz") as tar:
            size = outer.getinfo(name).file_size
            extract_members(tar, into, progress, f"unpacking {archive.name}", file.tell, size)


def extract_members(
    tar: tarfile.TarFile, into: Path, progress: Progress, what: str, position: Callable[[], int], size: int
) -> None:
    """Extracts every member of an archive, and none to a place outside the folder.

    Args:
        tar: the archive.
        into: a folder.
        progress: told how far it is.
        what: is being done.
        position: gives how much was read, bytes.
        size: of all there is to read, bytes.
    """
    for member in tar:
        tar.extract(member, into, filter="data")
        _tell(progress, what, position(), size)
