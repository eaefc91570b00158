"""Images inside of tar files, each read by itself."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain

import numpy as np
from numpy import ndarray

from verydeep.data.image_set import ImageSet
from verydeep.data.shards.index import IndexedShard
from verydeep.data.shards.storage import Storage, file_name
from verydeep.errors import UserError


@dataclass(frozen=True, kw_only=True)
class ListedShard:
    """The images of a shard that has no index, in the order of the tar file; offsets and sizes in bytes."""

    names: Sequence[str]
    labels: Sequence[int]
    offsets: Sequence[int]
    sizes: Sequence[int]


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


def make_image_set(
    storage: Storage, split: str, classes: tuple[str, ...], shards: Mapping[str, IndexedShard | ListedShard]
) -> ImageSet:
    """Joins the shards of a split, by their files; without an index its order is that of the shards."""

    def join(columns: Iterable[Sequence[int]]) -> ndarray:
        return np.fromiter(chain.from_iterable(columns), dtype=np.int64)

    parts = list(shards.values())
    names = list(chain.from_iterable(part.names for part in parts))
    order = np.arange(len(names))
    if indexed := [part for part in parts if isinstance(part, IndexedShard)]:
        order = join(part.positions for part in indexed).argsort()
    names = [names[row] for row in order]
    source = ShardSource(
        storage,
        list(shards),
        names,
        np.repeat(np.arange(len(parts)), [len(part.names) for part in parts])[order],
        join(part.offsets for part in parts)[order],
        join(part.sizes for part in parts)[order],
    )
    labels = join(part.labels for part in parts)[order]
    return ImageSet(split=split, classes=classes, names=names, labels=labels, source=source)
