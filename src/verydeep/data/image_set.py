"""The labelled images of one split."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial

import numpy as np
from jaxtyping import Int64, UInt8
from numpy import ndarray
from PIL import Image

from verydeep.data.sources import ArraySource, ImageSource, PixelSource, read_ahead
from verydeep.errors import UserError
from verydeep.images.decode import DamagedImageError, decode_pixels
from verydeep.images.geometry import size_of, too_long
from verydeep.machine import free_memory
from verydeep.progress import Progress, ignore_progress


@dataclass(frozen=True, kw_only=True)
class ImageSet:
    """The labelled images of one split; each is read from its source when it is needed, or held decoded in memory."""

    split: str
    "train, val or test."
    classes: tuple[str, ...]
    "Names of the classes, of the training split."
    names: Sequence[str]
    "Name of each image, relative to the data set."
    labels: Int64[ndarray, "n"]
    "Index of the class of each image."
    source: ImageSource
    decoded: Mapping[int, UInt8[ndarray, "h w 3"]] = field(default_factory=dict, repr=False)
    "Pixels of the images held in memory, RGB, by index."

    def __len__(self) -> int:
        return len(self.names)

    @property
    def parallel_reads(self) -> int:
        """Number of concurrent reads: 1 if all images are in memory, else that of the source."""
        return 1 if len(self.decoded) == len(self) else self.source.parallel_reads

    def where(self, index: int) -> str:
        """The path or address of an image, for messages."""
        return self.source.where(self.names[index])

    def read(self, index: int) -> Image.Image:
        """Decodes an image to upright RGB."""
        return Image.fromarray(self.pixels(index))

    def pixels(self, index: int) -> UInt8[ndarray, "h w 3"]:
        """Decodes an image to the pixels of upright RGB; raises DamagedImageError where that fails."""
        if index in self.decoded:
            return self.decoded[index]
        name = self.names[index]
        if isinstance(self.source, PixelSource):
            return self.source.pixels(name)
        return decode_pixels(self.source.read(name), self.source.where(name))

    def subset(self, indices: Sequence[int], split: str | None = None) -> "ImageSet":
        """Selects images by their indices, in the order given."""
        return ImageSet(
            split=split or self.split,
            classes=self.classes,
            names=[self.names[index] for index in indices],
            labels=self.labels[list(indices)],
            source=self.source,
            decoded={new: self.decoded[old] for new, old in enumerate(indices) if old in self.decoded},
        )

    def without(self, names: Sequence[str]) -> "ImageSet":
        """Returns the set without the images of these names."""
        left_out = set(names)
        if not left_out:
            return self
        return self.subset([index for index, name in enumerate(self.names) if name not in left_out])

    def some_pixels(self, count: int = 16) -> list[UInt8[ndarray, "h w 3"]]:
        """Decodes a few images spread over the set, without those that are damaged.

        Raises:
            DamagedImageError: all of them are.
        """
        some = np.linspace(0, len(self) - 1, min(count, len(self))).astype(int).tolist()
        found = [self._pixels_or_error(index, None) for index in some]
        whole = [pixels for pixels in found if not isinstance(pixels, DamagedImageError)]
        if not whole and isinstance(found[0], DamagedImageError):
            raise found[0]
        return whole

    def decoded_bytes(self) -> int:
        """Estimates how many bytes all images take when decoded, from the sizes of a few."""
        return int(np.mean([pixels.nbytes for pixels in self.some_pixels()]) * len(self))

    def usual_side(self) -> int | None:
        """Median of the shorter sides of a few images, pixels; None where these are damaged."""
        try:
            return int(np.median([min(size_of(pixels)) for pixels in self.some_pixels()]))
        except DamagedImageError:
            return None

    def checked(
        self,
        *,
        skip_damaged: bool = False,
        memory: int = 0,
        scale: int | None = None,
        progress: Progress = ignore_progress,
    ) -> tuple["ImageSet", list[str]]:
        """Decodes every image once, so that damaged files are found before training starts.

        Args:
            skip_damaged: leave damaged files out instead of raising.
            memory: limit on the decoded images kept in memory, bytes.
            scale: largest training scale S, pixels; an image that rescaling would make too large counts as damaged.
            progress: called with the number done and their total.

        Returns:
            The images that can be decoded, and the names of those left out.
        """
        damaged: dict[int, DamagedImageError] = {}
        held = dict(self.decoded)  # already decoded: kept, and not counted against the limit
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
        checked = replace(self, decoded=held)
        if not damaged:
            return checked, []
        first, more = next(iter(damaged.values())), len(damaged) - 1
        if not skip_damaged:
            others = f" (and {more} more)" if more else ""
            raise first.in_a_set(others)
        if len(damaged) == len(self):
            raise UserError(f"every one of the {len(self)} images of {self.split} is damaged: {first}")
        undamaged = [index for index in range(len(self)) if index not in damaged]
        return checked.subset(undamaged), [self.names[index] for index in damaged]

    def _pixels_or_error(self, index: int, scale: int | None) -> UInt8[ndarray, "h w 3"] | DamagedImageError:
        try:
            pixels = self.pixels(index)
        except DamagedImageError as error:
            return error
        reason = None if scale is None else too_long(size_of(pixels), scale)
        return DamagedImageError(f"{self.where(index)}: an image of {reason}") if reason else pixels


def array_images(
    split: str, classes: tuple[str, ...], labels: ndarray, title: str, arrays: Mapping[str, UInt8[ndarray, "h w 3"]]
) -> ImageSet:
    """Makes an ImageSet of arrays in memory; the keys of ``arrays`` are the names of the images."""
    source, decoded = ArraySource(title, arrays), dict(enumerate(arrays.values()))
    return ImageSet(split=split, classes=classes, names=list(arrays), labels=labels, source=source, decoded=decoded)


def count_per_class(images: ImageSet) -> list[int]:
    counts: list[int] = np.bincount(images.labels, minlength=len(images.classes)).tolist()
    return counts


def describe_skipped(names: Sequence[str]) -> str:
    """Describes in one line which damaged images were left out."""
    more = " ..." if len(names) > 5 else ""
    return f"left out {len(names)} damaged image{'s' if len(names) > 1 else ''}: {', '.join(names[:5])}{more}"


def memory_for_images() -> int:
    """Bytes of decoded images to hold at most: a quarter of the memory that is free."""
    return free_memory() // 4
