"""Where the encoded images of a data set are read from: a folder, or arrays in memory."""

import io
import os
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, TypeVar, runtime_checkable

from jaxtyping import UInt8
from numpy import ndarray
from PIL import Image

from verydeep.images.decode import read_file

_T = TypeVar("_T")
_Item = TypeVar("_Item")


@runtime_checkable  # the tests check the types of arguments
class ImageSource(Protocol):
    """Reads the encoded images of a data set by their names; can be pickled for worker processes."""

    @property
    def parallel_reads(self) -> int:
        """Reads to make at the same time: 1 where a read does not wait, more where it waits for a network."""

    def read(self, name: str) -> bytes:
        """Reads the bytes of an image as they were stored; raises UserError where that fails."""

    def size(self, name: str) -> int:
        """Number of bytes of an encoded image."""

    def where(self, name: str) -> str:
        """The path or address of an image, for messages."""


class PixelSource(ABC):
    """A source without files: its images come decoded. A base class, for isinstance asks for each image."""

    @abstractmethod
    def pixels(self, name: str) -> UInt8[ndarray, "h w 3"]:
        """Makes an image, RGB."""


@runtime_checkable
class MapStyle(Protocol):
    """What torch.utils.data calls a map-style data set, with pairs of an image and its class as items; a list is one.

    An image is one of Pillow, an array h,w,3 or h,w of uint8, or a tensor 3,h,w of uint8 or of floats in 0..1. A class
    is an int or a str. ``classes`` may name the classes and ``targets`` list the class of each item, as torchvision's
    data sets do.
    """

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> Any: ...  # noqa: ANN401 - checked when it is used


@dataclass(frozen=True)
class FolderSource:
    """Image files in a folder, by their names relative to it."""

    root: Path
    parallel_reads: int = field(default=1, init=False)

    def read(self, name: str) -> bytes:
        return read_file(self.root / name)

    def size(self, name: str) -> int:
        try:
            return (self.root / name).stat().st_size
        except ValueError:  # a null character in its name, which counts as damaged when it is read
            return 0
        except OSError:
            if not os.path.lexists(self.root / name):
                raise
            return 0  # a link to nothing, say, which counts as damaged then

    def where(self, name: str) -> str:
        return str(self.root / name)


@dataclass(frozen=True)
class ArraySource:
    """Images in memory that have no files, RGB, by name; their bytes are those of a PNG, which loses nothing."""

    title: str
    arrays: Mapping[str, UInt8[ndarray, "h w 3"]] = field(repr=False)
    parallel_reads: int = field(default=1, init=False)

    def read(self, name: str) -> bytes:
        encoded = io.BytesIO()
        Image.fromarray(self.arrays[name]).save(encoded, "PNG")
        return encoded.getvalue()

    def size(self, name: str) -> int:
        return len(self.read(name))

    def where(self, name: str) -> str:
        return f"{self.title}/{name}"


def read_ahead(read: Callable[[_Item], _T], items: Iterable[_Item], parallel_reads: int = 1) -> Iterator[_T]:
    """Reads items in threads, a little ahead of the consumer, in order; there are as many threads as cores or more."""
    cores = os.cpu_count() or 1
    threads = max(cores, parallel_reads)
    with ThreadPoolExecutor(threads) as pool:
        waiting: deque[Future[_T]] = deque()
        try:
            for item in items:
                waiting.append(pool.submit(read, item))
                if len(waiting) > max(8 * cores, 2 * threads):
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()
