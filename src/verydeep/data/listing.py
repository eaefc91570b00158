"""Which files of a folder are images, for all verbs: by their names, by their content where the name says nothing.

Links are followed, hidden files and what systems leave behind are not listed. What cannot be read, such as a link to
nothing or a folder without permission, is listed where its name is that of an image, so that it counts as damaged.
"""

import os
import re
import unicodedata
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from verydeep.images.decode import can_read, is_image_file, kind_of

_IGNORED_FOLDERS = frozenset({"__MACOSX", "__pycache__"})
_NOT_READ = frozenset({
    ".heic", ".heif", ".jxl", ".svg", ".psd", ".dng", ".cr2", ".cr3", ".nef", ".arw", ".orf", ".rw2", ".raf",
})  # fmt: skip
_DOCUMENTS = frozenset({"README", "LICENSE", "LICENCE", "COPYING", "NOTICE", "CITATION"})
_ENDING = re.compile(r"\.[A-Za-z][A-Za-z0-9]*~?$")


@dataclass
class Listing:
    """The files found in folders; what is not an image is only counted."""

    images: list[Path] = field(default_factory=list)
    unread: list[Path] = field(default_factory=list)
    "Image files of formats that are not read."
    others: Counter[str] = field(default_factory=Counter)
    "Number of other files by their ending; those that tell of the images, such as README.md, do not count."

    @property
    def passed_over(self) -> str:
        """What was left out, in words; empty where nothing was."""
        parts = []
        if self.unread:
            parts.append(f"{_counted(len(self.unread), 'image')} of formats that are not read ({self.unread[0]})")
        if count := self.others.total():
            kinds = ", ".join(f"{kind or 'without ending'} {number:,}" for kind, number in self.others.most_common(3))
            parts.append(f"{_counted(count, 'other file')} ({kinds})")
        return " and ".join(parts)


def list_images(folder: Path, into: Listing | None = None) -> Listing:
    """Lists the files of a folder and of all folders in it, in natural order; linked folders too, if not around it."""
    found = Listing() if into is None else into
    around = {_identity(parent) for parent in folder.resolve().parents}
    for file in sorted(_files(folder, around), key=lambda file: natural_key(file.as_posix())):
        list_file(file, found)
    return found


def list_files(folder: Path, into: Listing | None = None) -> Listing:
    """Lists the files of a folder without those of the folders in it, in natural order."""
    found = Listing() if into is None else into
    files = [Path(entry.path) for entry in os.scandir(folder) if not entry.is_dir() and entry.name[0] != "."]
    for file in sorted(files, key=lambda file: natural_key(file.name)):
        list_file(file, found)
    return found


def image_files(folder: Path) -> list[Path]:
    """The image files of a folder and of the folders in it, in natural order."""
    return list_images(folder).images


def class_folders(folder: Path) -> list[str]:
    """Names of the folders that may be classes, in natural order: not hidden, nor left behind by a system."""
    names = (entry.name for entry in os.scandir(folder) if _is_listed(entry))
    return sorted(names, key=lambda name: natural_key(composed(name)))


_MOST_DIGITS = 4000
"""Of a number in a name: Python reads no more, for it would take long."""


def natural_key(name: str) -> tuple[tuple[int, int, str], ...]:
    """Sorts names as people do: 2 before 10."""
    parts = re.split(r"(\d+)", name)
    return tuple(
        (0, int(part), part) if part.isdecimal() and len(part) <= _MOST_DIGITS else (1, 0, part.casefold())
        for part in parts
        if part
    )


def composed(name: str) -> str:
    """A name in Unicode's composed form (NFC): some systems store it decomposed, and it looks the same."""
    return unicodedata.normalize("NFC", name)


def _is_listed(entry: os.DirEntry[str]) -> bool:
    return entry.is_dir() and entry.name[0] != "." and entry.name not in _IGNORED_FOLDERS


def _identity(folder: Path) -> tuple[int, int]:
    status = folder.stat()
    return status.st_dev, status.st_ino


def _files(folder: Path, above: set[tuple[int, int]]) -> Iterator[Path]:
    """Yields files, and folders that cannot be listed; a link to a folder above it is not followed."""
    try:
        identity = _identity(folder)
        entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
    except OSError:
        yield folder
        return
    if identity in above:
        return
    for entry in entries:
        if entry.is_dir():
            if _is_listed(entry):
                yield from _files(Path(entry.path), above | {identity})
        elif entry.name[0] != ".":
            yield Path(entry.path)


def list_file(file: Path, found: Listing) -> None:
    """Adds a file to what was found."""
    if is_image(file):
        found.images.append(file)
    elif _is_unread(file):
        found.unread.append(file)
    elif file.stem.upper() not in _DOCUMENTS:
        found.others[file.suffix.lower() if _ENDING.search(file.name) else ""] += 1


def is_image(file: Path) -> bool:
    """Whether a listed file is to be read as an image, or is a folder that cannot be listed."""
    if is_image_file(file) or file.is_dir():
        return True
    if _is_unread(file):  # a raw file is a TIFF by its first bytes, with a thumbnail in it
        return _kind(file) == "HEIF" and can_read("HEIF")
    if _ENDING.search(file.name) or not file.is_file():
        return False
    return can_read(_kind(file))


def _is_unread(file: Path) -> bool:
    return file.suffix.lower() in _NOT_READ


def _kind(file: Path) -> str | None:
    """What the first bytes of a regular file say that it is."""
    try:
        if not file.is_file():
            return None
        with file.open("rb") as opened:
            return kind_of(opened.read(32))
    except OSError:
        return None


def _counted(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"
