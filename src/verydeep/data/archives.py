"""Archives of data sets: fetched only when asked, checked by their hash, unpacked completely or not at all.

torchvision has a downloader too. It is not used because it waits for ever where nothing answers, falls back from https
to http, writes under the final name, and takes a folder that was half unpacked for a complete one.
"""

import os
import tarfile
import tempfile
import zipfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from io import BufferedIOBase
from pathlib import Path
from typing import IO

from verydeep.download import Digest, check, download, report_bytes
from verydeep.errors import UserError
from verydeep.files import cache_folder
from verydeep.progress import Progress, ignore_progress

Unpack = Callable[[Path, Path, Progress], None]
"""Unpacks an archive into a folder, and reports its progress."""


@dataclass(frozen=True, kw_only=True)
class Archive:
    """A file that a data set is published as."""

    file: str
    md5: str
    size: int
    url: str | None = None
    "None where only its owner gives it, to those who ask."
    becomes: str | None = None
    "The folder that it is unpacked to, or that is made with its help; None where it is used as it is."
    unpack: Unpack | None = None
    "Makes that folder; None where nothing is to be unpacked."

    def is_done(self, folder: Path) -> bool:
        """Whether there is nothing left to do for it."""
        return (folder / (self.becomes or self.file)).exists()

    def is_missing(self, folder: Path) -> bool:
        """Whether it has to be had from somewhere."""
        return not self.is_done(folder) and not (folder / self.file).exists()

    def check(self, folder: Path, progress: Progress = ignore_progress) -> None:
        """Raises UserError unless the file is the one that was published."""
        check(folder / self.file, Digest("md5", self.md5), progress)


def data_folder() -> Path:
    """The folder of the data sets: $VERYDEEP_DATA, or data in the folder for what can be fetched again."""
    if own := os.environ.get("VERYDEEP_DATA"):
        return Path(own).expanduser()
    return cache_folder() / "data"


def obtain(archives: Sequence[Archive], folder: Path, progress: Progress = ignore_progress) -> None:
    """Downloads what is missing, checks it and unpacks it; what was downloaded and unpacked is removed again."""
    needed = [archive for archive in archives if not archive.is_done(folder)]
    missing = [archive for archive in needed if archive.is_missing(folder)]
    try:
        for archive in needed:
            if archive in missing:
                _download(archive, folder, progress)
            else:
                archive.check(folder, progress)
        for archive in needed:
            if archive.unpack:
                _unpack(archive, archive.unpack, folder, progress)
        for archive in missing:
            if archive.unpack:
                (folder / archive.file).unlink()
    except OSError as error:
        raise UserError(
            f"{folder} cannot be written ({error.strerror or error}): make room, or set VERYDEEP_DATA to another folder"
        ) from error
    finally:
        if folder.is_dir() and not any(folder.iterdir()):
            folder.rmdir()


def _download(archive: Archive, folder: Path, progress: Progress) -> None:
    assert archive.url is not None
    download(
        archive.url,
        folder / archive.file,
        digest=Digest("md5", archive.md5),
        size=archive.size,
        by_hand=f"put {archive.file} into {folder} by hand",
        progress=progress,
    )


def _unpack(archive: Archive, unpack: Unpack, folder: Path, progress: Progress) -> None:
    """Unpacks into a temporary folder and then renames, so that the folder is complete or not there."""
    assert archive.becomes is not None
    with tempfile.TemporaryDirectory(dir=folder, prefix=".unpacking-") as temporary:
        try:
            unpack(folder / archive.file, Path(temporary), progress)
        except (tarfile.TarError, zipfile.BadZipFile, EOFError, KeyError, ValueError) as error:
            raise UserError(f"{folder / archive.file} cannot be unpacked: {error}") from error
        made = Path(temporary) / archive.becomes
        if not made.is_dir():
            raise UserError(f"{folder / archive.file} cannot be unpacked: it has no folder {archive.becomes}/")
        made.rename(folder / archive.becomes)


def unpack_tar(archive: Path, into: Path, progress: Progress) -> None:
    """Unpacks a tar archive, compressed or not."""
    with archive.open("rb") as file:
        for tar, member in tar_members(file, archive.stat().st_size, archive.name, progress):
            tar.extract(member, into, filter="data")


def unpack_tar_into(name: str) -> Unpack:
    """Unpacks a tar archive into a folder of this name: for archives whose own folders have the same name."""

    def unpack(archive: Path, into: Path, progress: Progress) -> None:
        (into / name).mkdir()
        unpack_tar(archive, into / name, progress)

    return unpack


def unpack_tar_in_zip(archive: Path, into: Path, progress: Progress) -> None:
    """Unpacks the images of caltech101: a compressed tar archive inside a zip archive."""
    with zipfile.ZipFile(archive) as outer:
        name = next((name for name in outer.namelist() if name.endswith("/101_ObjectCategories.tar.gz")), None)
        if name is None:
            raise ValueError("it has no 101_ObjectCategories.tar.gz")
        with outer.open(name) as file:
            for tar, member in tar_members(file, outer.getinfo(name).file_size, archive.name, progress):
                tar.extract(member, into, filter="data")


def tar_members(
    file: IO[bytes] | BufferedIOBase, size: int, name: str, progress: Progress
) -> Iterator[tuple[tarfile.TarFile, tarfile.TarInfo]]:
    """Yields the members of a tar file of a number of bytes, compressed or not, and reports how much is read."""
    with tarfile.open(fileobj=file) as tar:
        for member in tar:
            yield tar, member
            report_bytes(progress, f"unpacking {name}", file.tell(), size)
