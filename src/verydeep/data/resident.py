"""Images that stay on a device: training crops cut there, a whole batch at once.

A GPU that trains on small images waits for a processor that cuts crops one by one. A set that fits the device's memory
can be decoded once; from then on an epoch is a few tensor operations a batch.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Int64, UInt8
from torch import Generator, Tensor

from verydeep.data.augment import TrainingView
from verydeep.data.image_set import ImageSet, Progress, ignore_progress, read_ahead
from verydeep.data.images import rescaled
from verydeep.errors import UsageError, UserError

ResidentBatch = tuple[UInt8[Tensor, "n 3 c c"], Int64[Tensor, "n"], Int64[Tensor, "n"]]
"""Images, RGB in 0..255 and channels last in memory; the indices of their classes; which images they are."""

MOST_BYTES = 16 * 2**30
"""Bytes of pixels held at most, unless said otherwise."""


@dataclass(frozen=True, kw_only=True)
class ResidentImages:
    """The images of a set as one table of pixels on a device, each image rescaled to every training scale.

    The pixels are those of ``rescale``: no image is squashed, and images of any sizes lie in one table.

    Attributes:
        pixels: RGB, row after row, image after image.
        first: place of the first pixel of an image at a scale.
        heights: of an image at a scale, pixels.
        widths: of an image at a scale, pixels.
        labels: index of the class of each image.
        scales: smallest and largest training scale S, pixels.
    """

    pixels: UInt8[Tensor, "p 3"]
    first: Int64[Tensor, "n s"]
    heights: Int64[Tensor, "n s"]
    widths: Int64[Tensor, "n s"]
    labels: Int64[Tensor, "n"]
    scales: tuple[int, int]

    def __len__(self) -> int:
        """Number of images."""
        return len(self.labels)

    def crops(
        self, indices: Int64[Tensor, "b"], view: TrainingView, generator: Generator, *, margin: int = 0
    ) -> UInt8[Tensor, "b 3 c c"]:
        """Cuts the training crops of some images: for each a scale, a place, a mirroring and a colour shift.

        Choice: they are drawn by the law of ``TrainingView`` but from a generator of the device, so they are other
        crops than those of ``training_batches``; and the image is rescaled before the crop is cut, not with it.

        Args:
            indices: of the images.
            view: the law; its training scales are those of the images held.
            generator: of the device of the images.
            margin: pixels by which a crop may reach over an edge; what lies there is the image reflected.

        Returns:
            RGB in 0..255, channels last in memory.

        Raises:
            UsageError: other training scales than those held, or a crop or margin too large for them.

        Paper: section 3.1.
        """
        if view.train_scale != self.scales:
            raise UsageError(f"the images are held at the scales {self.scales}, not {view.train_scale}")
        if not 0 <= margin < self.scales[0] or view.crop > self.scales[0] + 2 * margin:
            raise UsageError(f"crop {view.crop} with margin {margin} does not fit images of scale {self.scales[0]}")
        count, device = len(indices), self.pixels.device
        draws = torch.rand(4, count, generator=generator, device=device)
        scale = (draws[0] * self.first.shape[1]).long()
        height, width = self.heights[indices, scale], self.widths[indices, scale]
        rows = _places(height, view.crop, draws[1], margin)
        columns = _places(width, view.crop, draws[2], margin)
        if view.mirror:
            columns = torch.where((draws[3] < 0.5)[:, None], columns.flip(1), columns)
        places = self.first[indices, scale][:, None, None] + rows[:, :, None] * width[:, None, None]
        crops = self.pixels[places + columns[:, None, :]].permute(0, 3, 1, 2)
        if view.colour_shift is not None:
            directions = torch.as_tensor(view.colour_shift, dtype=torch.float32, device=device)
            factors = torch.randn(count, 3, generator=generator, device=device)
            shift = (factors @ directions.T).round().short()
            crops = (crops + shift[:, :, None, None]).clamp(0, 255).byte()
        return crops


def _places(lengths: Int64[Tensor, "b"], crop: int, draws: Tensor, margin: int) -> Int64[Tensor, "b c"]:
    """Draws where crops begin along one side, and gives the rows or columns that they take."""
    begin = (draws * (lengths + (2 * margin - crop + 1))).long()
    places = begin[:, None] + torch.arange(-margin, crop - margin, device=lengths.device)
    last = lengths[:, None] - 1
    return last - (last - places.abs()).abs()


def hold_on_device(
    images: ImageSet,
    device: str,
    *,
    scales: tuple[int, int],
    most_bytes: int = MOST_BYTES,
    progress: Progress = ignore_progress,
) -> ResidentImages:
    """Decodes every image once, rescales it to every training scale, and moves the pixels to a device.

    Args:
        images: of any sizes.
        device: cpu, cuda or mps.
        scales: smallest and largest training scale S, pixels; every integer between costs a copy of the set.
        most_bytes: bytes of pixels at most.
        progress: told how far it is.

    Raises:
        DamagedImageError: a file cannot be decoded.
        UserError: the pixels are more than ``most_bytes``.
    """
    sides = range(scales[0], scales[1] + 1)
    tables: list[np.ndarray] = []
    sizes: list[list[tuple[int, int]]] = []
    used = 0
    copies = read_ahead(lambda index: _copies(images, index, sides), range(len(images)))
    for index, arrays in enumerate(copies):
        sizes.append([array.shape[:2] for array in arrays])
        tables += [array.reshape(-1, 3) for array in arrays]
        used += sum(array.nbytes for array in arrays)
        if used > most_bytes:
            raise UserError(
                f"the {images.split} images at the scales {scales[0]} to {scales[1]} take more than "
                f"{most_bytes / 2**30:.3g} GiB of pixels: hold fewer scales, or make batches with training_batches"
            )
        progress(f"reading {images.split}", index + 1, len(images))
    heights, widths = torch.tensor(sizes, dtype=torch.int64).unbind(2)
    counts = (heights * widths).flatten()
    return ResidentImages(
        pixels=torch.from_numpy(np.concatenate(tables)).to(device),
        first=(counts.cumsum(0) - counts).view(heights.shape).to(device),
        heights=heights.to(device),
        widths=widths.to(device),
        labels=torch.from_numpy(images.labels).to(device),
        scales=scales,
    )


def _copies(images: ImageSet, index: int, sides: range) -> list[np.ndarray]:
    pixels = images.pixels(index)
    return [rescaled(pixels, side) for side in sides]


def resident_batches(
    held: ResidentImages,
    view: TrainingView,
    *,
    batch_size: int,
    seed: int,
    epoch: int,
    first: int = 0,
    margin: int = 0,
    drop_last: bool = False,
) -> Iterator[ResidentBatch]:
    """Gives the batches of one epoch, cut on the device: every image once, in an order drawn from (seed, epoch).

    Args:
        held: the training images.
        view: the law of the crops.
        batch_size: images per batch; the last one may be smaller.
        seed: of the whole training.
        epoch: counted from 0.
        first: number of batches to leave out at the beginning, to go on in the middle of an epoch.
        margin: as for ``ResidentImages.crops``.
        drop_last: leave a smaller last batch out.
    """
    device = held.pixels.device
    order = torch.randperm(len(held), generator=_generator(device, seed, epoch), device=device)
    end = len(held) // batch_size * batch_size if drop_last else len(held)
    for number, start in enumerate(range(0, end, batch_size)):
        if number >= first:
            indices = order[start : start + batch_size]
            generator = _generator(device, seed, epoch, number)
            yield held.crops(indices, view, generator, margin=margin), held.labels[indices], indices


def _generator(device: torch.device, *numbers: int) -> Generator:
    mixed = int(np.random.SeedSequence(numbers).generate_state(1, np.uint64)[0])
    return Generator(device).manual_seed(mixed >> 1)
