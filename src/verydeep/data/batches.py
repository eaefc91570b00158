"""Images become batches: seeded crops for training, whole images of one shape for testing."""

from collections.abc import Callable, Iterable, Iterator
from itertools import chain, islice
from typing import Any

import numpy as np
import torch
from jaxtyping import Int64, UInt8
from numpy import ndarray
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from verydeep.data.augment import TrainingView
from verydeep.data.image_set import ImageSet, read_ahead
from verydeep.mistakes import MistakeError

Batch = tuple[UInt8[Tensor, "n 3 h w"], Int64[Tensor, "n"]]
"""Images, RGB in 0..255 and channels last in memory, and the indices of their classes."""


def _stack(arrays: list[np.ndarray]) -> Tensor:
    return torch.from_numpy(np.stack(arrays)).permute(0, 3, 1, 2)


class _Views(Dataset[Batch | MistakeError]):
    """Training crops, each drawn from (seed, epoch, index): the same for any number of workers."""

    def __init__(self, images: ImageSet, view: TrainingView, seed: int, epoch: int) -> None:
        self.images, self.view, self.seed, self.epoch = images, view, seed, epoch

    def crop(self, index: int) -> UInt8[ndarray, "c c 3"]:
        generator = np.random.Generator(np.random.PCG64([self.seed, self.epoch, index]))
        return self.view(self.images.read(index), generator)

    def crops(self, indices: Iterable[int]) -> Iterator[UInt8[ndarray, "c c 3"]]:
        """Makes crops one after the other, or ahead in threads where reading waits for a network."""
        ahead = self.images.parallel_reads
        return map(self.crop, indices) if ahead == 1 else read_ahead(self.crop, indices, ahead)

    def batch(self, indices: list[int], crops: Iterator[UInt8[ndarray, "c c 3"]]) -> Batch:
        return _stack(list(islice(crops, len(indices)))), torch.from_numpy(self.images.labels[indices])

    def __getitems__(self, indices: list[int]) -> Batch | MistakeError:
        try:
            return self.batch(indices, self.crops(indices))
        except MistakeError as error:  # raised in the main process: torch would add the worker's traceback to its line
            return error


def _same(batch: Any) -> Any:  # noqa: ANN401 - __getitems__ has made the batch already
    return batch


def _whole(batches: Iterable[Batch | MistakeError]) -> Iterator[Batch]:
    for batch in batches:
        if isinstance(batch, MistakeError):
            raise batch
        yield batch


def training_batches(
    images: ImageSet,
    view: TrainingView,
    *,
    batch_size: int,
    seed: int,
    epoch: int,
    first: int = 0,
    workers: int = 0,
) -> Iterator[Batch]:
    """Gives the batches of one epoch: every image once, in an order drawn from (seed, epoch).

    Args:
        images: the training images.
        view: makes the crop of an image.
        batch_size: images per batch; the last one may be smaller.
        seed: of the whole training.
        epoch: counted from 0.
        first: number of batches to leave out at the beginning, to go on in the middle of an epoch.
        workers: processes that make crops; 0 makes them in this one.
    """
    order = np.random.Generator(np.random.PCG64([seed, epoch])).permutation(len(images)).tolist()
    batches = [order[start : start + batch_size] for start in range(0, len(order), batch_size)][first:]
    views = _Views(images, view, seed, epoch)
    if workers == 0:
        crops = views.crops(chain.from_iterable(batches))
        return (views.batch(indices, crops) for indices in batches)
    loader = DataLoader(views, batch_sampler=batches, num_workers=workers, collate_fn=_same, prefetch_factor=4)
    return _whole(loader)


def batches_by_shape(
    images: ImageSet, view: Callable[[Image.Image], Image.Image], *, most_pixels: int
) -> Iterator[tuple[list[int], UInt8[Tensor, "n 3 h w"]]]:
    """Gives images in batches of one shape, never padded; the order follows the shapes.

    Args:
        images: the images to test on.
        view: what is made of an image, such as its rescaled whole.
        most_pixels: pixels of a batch at most, but at least one image.

    Yields:
        The indices of the images, and the images.
    """
    waiting: dict[tuple[int, ...], tuple[list[int], list[np.ndarray]]] = {}
    arrays = read_ahead(lambda index: np.asarray(view(images.read(index))), range(len(images)), images.parallel_reads)
    for index, array in enumerate(arrays):
        indices, same_shape = waiting.setdefault(array.shape, ([], []))
        indices.append(index)
        same_shape.append(array)
        if (len(indices) + 1) * array.shape[0] * array.shape[1] > most_pixels:
            yield indices, _stack(same_shape)
            del waiting[array.shape]
    for indices, same_shape in waiting.values():
        yield indices, _stack(same_shape)
