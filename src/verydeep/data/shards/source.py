"""Images inside of tar files, each read by itself."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import chain

import numpy as np
from numpy import ndarray

from verydeep.data.image_set import ImageSet
from verydeep.data.shards.storage import Storage, file_name
from verydeep.errors import UserError


@dataclass(frozen=True, kw_only=True)
class ShardImages:
    """The images of one shard; positions are those in their split, None where shards and images are in order."""

    file: str
    names: Sequence[str]
    labels: Sequence[int]
    offsets: Sequence[int]
    sizes: Sequence[int]
    positions: Sequence[int] | None = None


class ShardSource:
    """The images of one split in tar files; ``shards`` has the index of the tar file of each name."""

    def __init__(
        self,
        storage: Storage,
        files: Sequence[str],
        names: Sequence[str],
        shards: ndarray,
        offsets: ndarray,
        sizes: ndarray,
    ) -> None:
        self.storage, self.files = storage, files
        self._rows = {name: row for row, name in enumerate(names)}
        self._shards, self._offsets, self._sizes = shards, offsets, sizes
        assert len(self._rows) == len(names) == len(shards) == len(offsets) == len(sizes)

    @property
    def parallel_reads(self) -> int:
        return self.storage.parallel_reads

    def read(self, name: str) -> bytes:
        row = self._rows[name]
        size = int(self._sizes[row])
        part = self.storage.read(self.files[self._shards[row]], int(self._offsets[row]), size)
        if len(part) != size:
            raise UserError(f"{self.where(name)} is not there any more: the shard was changed while it was read")
        return part

    def size(self, name: str) -> int:
        return int(self._sizes[self._rows[name]])

    def where(self, name: str) -> str:
        file = self.files[self._shards[self._rows[name]]]
        return f"{file}:{name.removeprefix(f'{file_name(file)}/')}"


def make_image_set(storage: Storage, split: str, classes: tuple[str, ...], shards: Sequence[ShardImages]) -> ImageSet:
    """Puts the images of the shards of a split into the order of the split."""

    def join(columns: Iterable[Sequence[int]]) -> ndarray:
        return np.fromiter(chain.from_iterable(columns), dtype=np.int64)

    names = list(chain.from_iterable(shard.names for shard in shards))
    positions = join(shard.positions or () for shard in shards)
    order = positions.argsort() if len(positions) else np.arange(len(names))
    names = [names[row] for row in order]
    source = ShardSource(
        storage,
        [shard.file for shard in shards],
        names,
        np.repeat(np.arange(len(shards)), [len(shard.names) for shard in shards])[order],
        join(shard.offsets for shard in shards)[order],
        join(shard.sizes for shard in shards)[order],
    )
    labels = join(shard.labels for shard in shards)[order]
    return ImageSet(split=split, classes=classes, names=names, labels=labels, source=source)
