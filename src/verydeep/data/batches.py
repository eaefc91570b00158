"""Batches of training crops, seeded and resumable.

Paper: section 3.1.
"""

from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import chain, islice
from typing import Any

import numpy as np
import torch
from jaxtyping import Int64, UInt8
from numpy import ndarray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from verydeep.data.image_set import ImageSet
from verydeep.data.sources import read_ahead
from verydeep.distributed import Processes
from verydeep.errors import UserError
from verydeep.images.augment import TrainingView
from verydeep.images.decode import naming

Batch = tuple[UInt8[Tensor, "n 3 h w"], Int64[Tensor, "n"], Int64[Tensor, "n"]]
"""Images, RGB in 0..255 and channels last in memory; the indices of their classes; their sample ids."""


def training_order(images: ImageSet, *, seed: int, epoch: int, balanced: bool = False) -> list[int]:
    """Draws the order of one epoch from (seed, epoch), as sample ids: as many as there are images.

    A sample id is the index of an image, plus the number of images for each time that it came before in the epoch.
    Balanced order draws with replacement, every class equally often, instead of using every image once.
    """
    generator = np.random.Generator(np.random.PCG64([seed, epoch]))
    if not balanced:
        order: list[int] = generator.permutation(len(images)).tolist()
        return order
    counts = np.bincount(images.labels, minlength=len(images.classes))
    chance = 1 / (np.count_nonzero(counts) * counts[images.labels])
    earlier: Counter[int] = Counter()
    sample_ids = []
    for index in generator.choice(len(images), len(images), p=chance / chance.sum()).tolist():
        sample_ids.append(index + earlier[index] * len(images))
        earlier[index] += 1
    return sample_ids


class _TrainingCrops(Dataset[Batch | UserError]):
    """Batches of crops, indexed by lists of sample ids.

    Each crop is drawn from (seed, epoch, sample id): the same for any number of workers and processes.
    """

    def __init__(self, images: ImageSet, view: TrainingView, seed: int, epoch: int) -> None:
        self.images, self.view, self.seed, self.epoch = images, view, seed, epoch

    def crop(self, sample_id: int) -> UInt8[ndarray, "c c 3"]:
        generator = np.random.Generator(np.random.PCG64([self.seed, self.epoch, sample_id]))
        index = sample_id % len(self.images)
        with naming(self.images.where(index)):
            return self.view(self.images.pixels(index), generator)

    def crops(self, sample_ids: Iterable[int]) -> Iterator[UInt8[ndarray, "c c 3"]]:
        """Makes crops one after the other, or ahead in threads where reads wait for a network."""
        ahead = self.images.parallel_reads
        return map(self.crop, sample_ids) if ahead == 1 else read_ahead(self.crop, sample_ids, ahead)

    def batch(self, sample_ids: list[int], crops: Iterator[UInt8[ndarray, "c c 3"]]) -> Batch:
        images = torch.from_numpy(np.stack(list(islice(crops, len(sample_ids)))))
        labels = torch.from_numpy(self.images.labels[np.array(sample_ids) % len(self.images)])
        return images.permute(0, 3, 1, 2), labels, torch.tensor(sample_ids)

    def __getitem__(self, sample_ids: list[int]) -> Batch | UserError:
        try:
            return self.batch(sample_ids, self.crops(sample_ids))
        except UserError as error:  # raised in the main process: torch would add the worker's traceback to its line
            return error


def _collate(batch: Any) -> Any:  # noqa: ANN401 - the data set has made a batch already
    return batch


def _raise_errors(batches: Iterable[Batch | UserError]) -> Iterator[Batch]:
    for batch in batches:
        if isinstance(batch, UserError):
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
    balanced: bool = False,
    members: Processes | None = None,
) -> Iterator[Batch]:
    """Returns an iterator over this process's share of the batches of one epoch.

    Args:
        images: the training images.
        view: makes the crop of an image.
        batch_size: images per batch over all processes; the last one may be smaller.
        seed: of the training.
        epoch: counted from 0.
        first: number of batches to leave out at the beginning, to resume in the middle of an epoch.
        workers: processes that make crops; 0 makes them in this one.
        balanced: draw every class equally often.
        members: the processes that share a batch; where its last one has fewer images than there are processes, those
            without a share get its first image, which must not count.
    """
    members = members or Processes()
    order = training_order(images, seed=seed, epoch=epoch, balanced=balanced)
    batches = [order[start : start + batch_size] for start in range(0, len(order), batch_size)][first:]
    shares = [[batch[index] for index in members.share(len(batch))] or batch[:1] for batch in batches]
    crops = _TrainingCrops(images, view, seed, epoch)
    if workers == 0:
        made = crops.crops(chain.from_iterable(shares))
        return (crops.batch(sample_ids, made) for sample_ids in shares)
    return _raise_errors(
        DataLoader(crops, batch_size=None, sampler=shares, num_workers=workers, collate_fn=_collate, prefetch_factor=4)
    )
