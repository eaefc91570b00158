"""Batches of training crops, seeded and resumable.

Paper: section 3.1.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from itertools import chain, islice
from typing import Any, Final

import numpy as np
import torch
from jaxtyping import Float32, Int64, UInt8
from numpy import ndarray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from verydeep.data.image_set import ImageSet
from verydeep.data.sources import read_ahead
from verydeep.distributed import Processes
from verydeep.errors import UserError
from verydeep.images.augment import CropPlace, TrainingView
from verydeep.images.decode import naming

Batch = tuple[UInt8[Tensor, "n 3 h w"], Int64[Tensor, "n"] | Float32[Tensor, "n t"], Int64[Tensor, "n"]]
"""Images, RGB in 0..255 and channels last in memory; their targets, the indices of their classes where nothing else is
learnt; their sample ids."""

Targets = Callable[[int, CropPlace], tuple[Float32[ndarray, "t"], float]]
"""Gives the target of a crop of an image, and the share of what it is about that the crop shows."""

LEAST_SHOWN: Final = 0.5
"""Share of what a target is about that a crop shows at least; where it shows less another crop is drawn.

Choice: OverFeat leaves such crops out; here every image serves once an epoch.
"""

MOST_DRAWS: Final = 10
"""Crops drawn of an image at most; where none shows enough, the one that shows most is taken."""


def draw_shown(draw: Callable[[], CropPlace], targets: Targets, index: int) -> tuple[CropPlace, Float32[ndarray, "t"]]:
    """Draws the place of a crop until it shows enough of what its target is about."""
    best: tuple[float, CropPlace, ndarray] | None = None
    for _ in range(MOST_DRAWS):
        place = draw()
        target, share = targets(index, place)
        if best is None or share > best[0]:
            best = share, place, target
        if share >= LEAST_SHOWN:
            break
    assert best is not None
    return best[1], best[2]


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

    def __init__(
        self, images: ImageSet, view: TrainingView, seed: int, epoch: int, targets: Targets | None = None
    ) -> None:
        self.images, self.view, self.seed, self.epoch, self.targets = images, view, seed, epoch, targets

    def crop(self, sample_id: int) -> "_Crop":
        generator = np.random.Generator(np.random.PCG64([self.seed, self.epoch, sample_id]))
        index = sample_id % len(self.images)
        with naming(self.images.where(index)):
            pixels = self.images.pixels(index)
            if self.targets is None:
                return self.view(pixels, generator), self.images.labels[index]
            place, target = draw_shown(lambda: self.view.draw(pixels, generator), self.targets, index)
            return place.cut(pixels), target

    def crops(self, sample_ids: Iterable[int]) -> Iterator["_Crop"]:
        """Makes crops one after the other, or ahead in threads where reads wait for a network."""
        ahead = self.images.parallel_reads
        return map(self.crop, sample_ids) if ahead == 1 else read_ahead(self.crop, sample_ids, ahead)

    def batch(self, sample_ids: list[int], crops: Iterator["_Crop"]) -> Batch:
        images, targets = (
            torch.from_numpy(np.stack(rows)) for rows in zip(*islice(crops, len(sample_ids)), strict=True)
        )
        return images.permute(0, 3, 1, 2), targets, torch.tensor(sample_ids)

    def __getitem__(self, sample_ids: list[int]) -> Batch | UserError:
        try:
            return self.batch(sample_ids, self.crops(sample_ids))
        except UserError as error:  # raised in the main process: torch would add the worker's traceback to its line
            return error


_Crop = tuple[UInt8[ndarray, "c c 3"], Any]
"""Pixels, and the target."""


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
    targets: Targets | None = None,
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
        targets: gives the target of each crop; None where that is the class of its image. Crops are then drawn until
            they show enough of it.
    """
    members = members or Processes()
    order = training_order(images, seed=seed, epoch=epoch, balanced=balanced)
    batches = [order[start : start + batch_size] for start in range(0, len(order), batch_size)][first:]
    shares = [[batch[index] for index in members.share(len(batch))] or batch[:1] for batch in batches]
    crops = _TrainingCrops(images, view, seed, epoch, targets)
    if workers == 0:
        made = crops.crops(chain.from_iterable(shares))
        return (crops.batch(sample_ids, made) for sample_ids in shares)
    return _raise_errors(
        DataLoader(crops, batch_size=None, sampler=shares, num_workers=workers, collate_fn=_collate, prefetch_factor=4)
    )
