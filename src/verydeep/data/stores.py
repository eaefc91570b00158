"""Where the encoded images of a data set lie."""

import io
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol, runtime_checkable

from jaxtyping import UInt8
from numpy import ndarray
from PIL import Image

from verydeep.data.images import read_file


@runtime_checkable  # the tests check the types of arguments
class Store(Protocol):
    """Gives the encoded images of a data set by their names. It can be sent to another process."""

    @property
    def parallel_reads(self) -> int:
        """Reads to make at the same time: 1 where a read does not wait, more where it waits for a network."""

    def read(self, name: str) -> bytes:
        """The bytes of an image as they were stored.

        Raises:
            UserError: they cannot be had.
        """

    def size(self, name: str) -> int:
        """Number of bytes of an image."""

    def where(self, name: str) -> str:
        """What a person calls the place of an image."""


@dataclass(frozen=True)
class FolderStore:
    """Image files in a folder.

    Attributes:
        root: the folder that names are relative to.
    """

    root: Path
    parallel_reads: int = field(default=1, init=False)

    def read(self, name: str) -> bytes:
        """The bytes of a file.

        Raises:
            UserError: there is no such file, or it cannot be read.
        """
        return read_file(self.root / name)

    def size(self, name: str) -> int:
        """Number of bytes of a file."""
        return (self.root / name).stat().st_size

    def where(self, name: str) -> str:
        """The path of a file."""
        return str(self.root / name)


@dataclass(frozen=True)
class PictureStore:
    """Pictures that are held in memory and have no files; their bytes are those of a PNG.

    Attributes:
        title: what a person calls them.
        pictures: the pictures by name, RGB.
    """

    title: str
    pictures: Mapping[str, UInt8[ndarray, "h w 3"]] = field(repr=False)
    parallel_reads: int = field(default=1, init=False)

    def read(self, name: str) -> bytes:
        """A picture as PNG, which loses nothing."""
        encoded = io.BytesIO()
        Image.fromarray(self.pictures[name]).save(encoded, "PNG")
        return encoded.getvalue()

    def size(self, name: str) -> int:
        """Number of bytes of the PNG."""
        return len(self.read(name))

    def where(self, name: str) -> str:
        """The name after the title."""
        return f"{self.title}/{name}"
