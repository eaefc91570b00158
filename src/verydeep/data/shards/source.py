"""Images inside of tar files, each read by itself."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain

import numpy as np
from numpy import ndarray

from verydeep.data.image_set import ImageSet
from verydeep.data.shards.storage import Storage, file_name
from verydeep.errors import UserError


class ShardSource:
    """Gives the images of tar files; the arrays have the index of the tar file, the offset and the size of each."""

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
        return f"{file}:{name.removeprefix(file_name(file) + '/')}"


@dataclass(frozen=True, kw_only=True)
class ShardPart:
    """The images of one shard; positions in the split are None for the order of the shards."""

    file: str
    names: Sequence[str]
    labels: Sequence[int]
    offsets: Sequence[int]
    sizes: Sequence[int]
    positions: Sequence[int] | None = None


def make_image_set(storage: Storage, split: str, classes: tuple[str, ...], parts: Sequence[ShardPart]) -> ImageSet:
    """Puts the images of the shards of a split into the order of the split."""

    def column(values: Sequence[Sequence[int]]) -> ndarray:
        joined: ndarray = np.fromiter(chain.from_iterable(values), dtype=np.int64)[order]
        return joined

    names = list(chain.from_iterable(part.names for part in parts))
    order: ndarray = np.arange(len(names))
    if parts[0].positions is not None:
        order = np.argsort(np.fromiter(chain.from_iterable(part.positions or () for part in parts), dtype=np.int64))
    names = [names[row] for row in order]
    source = ShardSource(
        storage,
        [part.file for part in parts],
        names,
        np.repeat(np.arange(len(parts)), [len(part.names) for part in parts])[order],
        column([part.offsets for part in parts]),
        column([part.sizes for part in parts]),
    )
    return ImageSet(
        split=split, classes=classes, names=names, labels=column([part.labels for part in parts]), source=source
    )
