"""The labelled images of one split."""

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TypeVar

import numpy as np
from jaxtyping import UInt8
from numpy import ndarray
from PIL import Image

from verydeep.data.images import DAMAGED_REMEDY, DamagedImageError, decode_pixels, size_of, too_long
from verydeep.data.stores import Store
from verydeep.mistakes import MistakeError
from verydeep.progress import Progress as Progress
from verydeep.progress import ignore_progress as ignore_progress
from verydeep.records import free_memory

_T = TypeVar("_T")


@dataclass(frozen=True, kw_only=True)
class ImageSet:
    """The labelled images of one split.

    Attributes:
        split: train, val or test.
        classes: names of the classes, of the training split.
        names: name of each image, relative to the data set.
        labels: index of the class of each image, int64.
        store: where the encoded images lie, by their names.
        decoded: pixels of the images held in memory, RGB, by index.
    """

    split: str
    classes: tuple[str, ...]
    names: Sequence[str]
    labels: ndarray
    store: Store
    decoded: Mapping[int, UInt8[ndarray, "h w 3"]] = field(default_factory=dict, repr=False)

    def __len__(self) -> int:
        """Number of images."""
        return len(self.names)

    @property
    def parallel_reads(self) -> int:
        """Reads to make at the same time so that none waits for another."""
        return 1 if len(self.decoded) == len(self) else self.store.parallel_reads

    def where(self, index: int) -> str:
        """What a person calls the file of an image."""
        return self.store.where(self.names[index])

    def read(self, index: int) -> Image.Image:
        """Decodes an image to upright RGB.

        Raises:
            MistakeError: it cannot be had.
            DamagedImageError: it cannot be decoded.
        """
        return Image.fromarray(self.pixels(index))

    def pixels(self, index: int) -> UInt8[ndarray, "h w 3"]:
        """Decodes an image to the pixels of upright RGB.

        Raises:
            MistakeError: it cannot be had.
            DamagedImageError: it cannot be decoded.
        """
        held = self.decoded.get(index)
        name = self.names[index]
        return decode_pixels(self.store.read(name), self.store.where(name)) if held is None else held

    def subset(self, indices: Sequence[int], split: str | None = None) -> "ImageSet":
        """Takes some of the images, in the order given."""
        return ImageSet(
            split=split or self.split,
            classes=self.classes,
            names=[self.names[index] for index in indices],
            labels=self.labels[list(indices)],
            store=self.store,
            decoded={new: self.decoded[old] for new, old in enumerate(indices) if old in self.decoded},
        )

    def without(self, names: Sequence[str]) -> "ImageSet":
        """Leaves images out by their names."""
        left_out = set(names)
        if not left_out:
            return self
        return self.subset([index for index, name in enumerate(self.names) if name not in left_out])

    def decoded_bytes(self) -> int:
        """Estimates the memory of all images decoded, from the sizes of a few.

        Raises:
            DamagedImageError: one of the few cannot be decoded.
        """
        some = np.linspace(0, len(self) - 1, min(16, len(self))).astype(int).tolist()
        sizes = [pixels.nbytes for pixels in map(self.pixels, some)]
        return int(np.mean(sizes) * len(self))

    def checked(
        self,
        *,
        skip_damaged: bool = False,
        memory: int = 0,
        scale: int | None = None,
        progress: Progress = ignore_progress,
    ) -> tuple["ImageSet", list[str]]:
        """Decodes every image once, so that a damaged file is known before it costs a night.

        Args:
            skip_damaged: leave damaged files out instead of raising.
            memory: decoded images are held up to this many bytes.
            scale: largest that they will be rescaled to, pixels; an image too long for it counts as damaged.
            progress: told how far it is.

        Returns:
            The images that can be decoded, and the names of those left out.

        Raises:
            DamagedImageError: a file cannot be decoded, or is too long.
        """
        damaged: dict[int, DamagedImageError] = {}
        held = dict(self.decoded)  # images without a file have nowhere else to be
        used = 0
        read = partial(self._pixels_or_error, scale=scale)
        for index, pixels in enumerate(read_ahead(read, range(len(self)), self.parallel_reads)):
            if isinstance(pixels, DamagedImageError):
                damaged[index] = pixels
                continue
            if index not in held and used + pixels.nbytes <= memory:
                held[index] = pixels
                used += pixels.nbytes
            progress(f"reading {self.split}", index + 1, len(self))
        if damaged and not skip_damaged:
            first, more = next(iter(damaged.values())), len(damaged) - 1
            others = f" (and {more} more)" if more else ""
            raise DamagedImageError(f"{first}{others}; {DAMAGED_REMEDY}")
        whole = replace(self, decoded=held)
        if not damaged:
            return whole, []
        kept = whole.subset([index for index in range(len(self)) if index not in damaged])
        if not len(kept):
            raise MistakeError(f"every one of the {len(self)} images of {self.split} is damaged: {damaged[0]}")
        return kept, [self.names[index] for index in damaged]

    def _pixels_or_error(self, index: int, scale: int | None) -> UInt8[ndarray, "h w 3"] | DamagedImageError:
        try:
            pixels = self.pixels(index)
        except DamagedImageError as error:
            return error
        reason = None if scale is None else too_long(size_of(pixels), scale)
        return DamagedImageError(f"{self.where(index)}: an image of {reason}") if reason else pixels


def read_ahead(read: Callable[[int], _T], indices: Iterable[int], parallel_reads: int = 1) -> Iterator[_T]:
    """Reads in threads, a little ahead of the consumer, in order.

    Args:
        read: reads one of them.
        indices: which, in order.
        parallel_reads: threads at least; there are never fewer than cores.
    """
    cores = os.cpu_count() or 1
    threads = max(cores, parallel_reads)
    with ThreadPoolExecutor(threads) as pool:
        waiting: deque[Future[_T]] = deque()
        try:
            for index in indices:
                waiting.append(pool.submit(read, index))
                if len(waiting) > max(8 * cores, 2 * threads):
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()


def describe_skipped(names: Sequence[str]) -> str:
    """Says in one line which damaged images were left out."""
    more = " ..." if len(names) > 5 else ""
    return f"left out {len(names)} damaged image{'s' if len(names) > 1 else ''}: {', '.join(names[:5])}{more}"


def memory_for_images() -> int:
    """Bytes of decoded images worth holding: a quarter of the memory that is free."""
    return free_memory() // 4


def count_per_class(images: ImageSet) -> list[int]:
    """Counts the images of each class."""
    counts: list[int] = np.bincount(images.labels, minlength=len(images.classes)).tolist()
    return counts
