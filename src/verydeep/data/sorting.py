"""Sorts images into a folder for each class; the images themselves stay where and as they are."""

import filecmp
import os
import shutil
from collections.abc import Sequence
from pathlib import Path

from verydeep.errors import UserError
from verydeep.files import free_name

UNSURE = "unsure"
"""Folder of the images whose most likely class is not likely enough."""


class SortedFolder:
    """A folder with a folder for each class.

    An image is linked to (a hard link takes no space), or copied where the file system has no links. Nothing that is
    there is overwritten: of images with one name the second becomes ``name-2``, and so on. An image that lies there
    already is left as it is, so that the same command does nothing twice.

    Args:
        folder: made when the first image comes.
        classes: names of the classes; what a folder cannot be called becomes ``_``.
        unsure: an image whose posterior is below goes into the folder ``unsure``.
    """

    def __init__(self, folder: Path, classes: Sequence[str], unsure: float | None = None) -> None:
        self.folder, self.unsure = folder, unsure
        taken = {UNSURE} if unsure is not None else set()
        self._names = []
        for name in classes:
            free = free_name(_as_folder(name), lambda name: name.casefold() in taken)
            taken.add(free.casefold())
            self._names.append(free)

    def put(self, file: Path, index: int, posterior: float) -> Path:
        """Puts an image into the folder of its class, and returns where it lies there.

        Raises:
            UserError: it cannot be written.
        """
        is_unsure = self.unsure is not None and posterior < self.unsure
        folder = self.folder / (UNSURE if is_unsure else self._names[index])
        try:
            folder.mkdir(parents=True, exist_ok=True)
            return _link_or_copy(file.resolve(), folder / file.name)
        except OSError as error:
            raise UserError(f"{file} cannot be sorted into {folder}: {error.strerror or error}") from error


def _as_folder(name: str) -> str:
    safe = "".join("_" if letter in '/\\:*?"<>|' or not letter.isprintable() else letter for letter in name).strip(" .")
    return safe or "_"


def _link_or_copy(source: Path, wanted: Path) -> Path:
    """Makes ``wanted``, or the same with -2, -3 ...; what lies there with the same content is taken for it."""
    number = 1
    while True:
        target = wanted if number == 1 else wanted.with_name(f"{wanted.stem}-{number}{wanted.suffix}")
        if not os.path.lexists(target):
            try:
                os.link(source, target)
            except FileExistsError:  # somebody else made it just now
                continue
            except OSError:  # another disk, or a file system without links
                _copy_new(source, target)
            return target
        if target.is_file() and not target.is_symlink() and filecmp.cmp(source, target, shallow=False):
            return target
        number += 1


def _copy_new(source: Path, target: Path) -> None:
    """Copies to a file that is not there yet; half a copy is removed."""
    with source.open("rb") as read, target.open("xb") as written:
        try:
            shutil.copyfileobj(read, written)
        except BaseException:
            target.unlink()
            raise
