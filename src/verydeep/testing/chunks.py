"""Images read in chunks of a fixed number: the order comes back in bounded memory, and work can stop between two.

Batches of one shape are made within a chunk. So which images are computed together does not depend on where a job was
resumed, nor on how many processes share it: its result is the same to the last bit.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Protocol, runtime_checkable

from jaxtyping import UInt8
from numpy import ndarray

from verydeep.data.sources import read_ahead
from verydeep.images.decode import DamagedImageError
from verydeep.images.geometry import size_of, too_long
from verydeep.progress import Progress

CHUNK = 512
"""Images of a chunk."""

Parts = list[tuple[int, UInt8[ndarray, "_ _ 3"]]]
"""Views of one image, each with its number in the plan."""


@runtime_checkable
class Images(Protocol):
    """Images that are decoded one by one: an ImageSet, or several in a row."""

    @property
    def parallel_reads(self) -> int:
        """Number of reads to make at the same time."""

    def __len__(self) -> int: ...

    def pixels(self, index: int) -> UInt8[ndarray, "_ _ 3"]:
        """Decodes an image; raises DamagedImageError where that fails."""

    def where(self, index: int) -> str:
        """Path or address, for messages."""


def chunk_range(number: int, count: int) -> range:
    """Indices of the images of a chunk."""
    return range(number * CHUNK, min((number + 1) * CHUNK, count))


def num_chunks(count: int) -> int:
    return -(-count // CHUNK)


@dataclass(frozen=True)
class ReadChunk:
    number: int
    indices: range
    views: Iterator[Parts]  # of each image, to be consumed before the next chunk; none of a damaged one
    skipped: list[int]  # indices of damaged images, found while views are consumed


def read_chunks(
    images: Images,
    numbers: Iterable[int],
    cut: Callable[[UInt8[ndarray, "_ _ 3"]], Parts],
    *,
    largest_scale: int,
    skip_damaged: bool = False,
) -> Iterator[ReadChunk]:
    """Reads chunks of images ahead in threads, over the borders of chunks too.

    Args:
        images: all of them.
        numbers: of the chunks wanted.
        cut: makes the views of an image; called in threads.
        largest_scale: of a view, pixels: an image too long to be held at it counts as damaged.
        skip_damaged: leave damaged images out, instead of raising DamagedImageError.
    """
    wanted = [(number, chunk_range(number, len(images))) for number in numbers]

    def read(index: int) -> Parts | None:
        try:
            pixels = images.pixels(index)
            if reason := too_long(size_of(pixels), largest_scale):
                raise DamagedImageError(f"{images.where(index)}: an image of {reason}")
        except DamagedImageError as error:
            if skip_damaged:
                return None
            raise error.in_a_set() from error
        return cut(pixels)

    def undamaged(indices: range, skipped: list[int]) -> Iterator[Parts]:
        for index, parts in zip(indices, islice(views, len(indices)), strict=True):
            if parts is None:
                skipped.append(index)
            yield parts or []

    views = read_ahead(read, (index for _, indices in wanted for index in indices), images.parallel_reads)
    for number, indices in wanted:
        skipped: list[int] = []
        yield ReadChunk(number, indices, undamaged(indices, skipped), skipped)


class Counter:
    """Counts fractions of images, and reports whole ones."""

    def __init__(self, progress: Progress, what: str, total: int) -> None:
        self._progress, self._what, self._total, self._done = progress, what, total, 0.0

    def advance(self, images: float) -> None:
        self._done += images
        self._progress(self._what, min(self._total, int(self._done + 1e-6)), self._total)
