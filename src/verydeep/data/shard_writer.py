"""Writes a data set as WebDataset shards with an index."""

import hashlib
import io
import re
import tarfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np

from verydeep.data.dataset import DataSet, fingerprint
from verydeep.data.image_set import ImageSet
from verydeep.data.open import note_passed_over, open_data
from verydeep.data.shards.index import INDEX_FILE, UNFINISHED_FILE, IndexedShard, ShardIndex, write_index
from verydeep.data.sources import read_ahead
from verydeep.errors import UsageError, UserError
from verydeep.files import as_text, atomic_write, check_outside, check_utf8
from verydeep.images.decode import is_image_file
from verydeep.progress import Progress, ignore_progress

DEFAULT_SIZE = "512M"
"""Largest shard: 290 of them hold ILSVRC-2012."""

_SHORT = {"jpeg": "jpg", "jpe": "jpg", "tiff": "tif"}
_SEED = 0


@dataclass(frozen=True, kw_only=True)
class Written:
    """The shards that were written.

    Attributes:
        out: the folder.
        index: the index in it.
        shards: number of shards of each split.
        images: number of images of each split.
        num_images: of all splits.
        bytes: of all shards.
        skipped: names of damaged images left out.
    """

    out: str
    index: str
    shards: dict[str, int]
    images: dict[str, int]
    num_images: int
    bytes: int
    skipped: list[str]

    def as_record(self) -> dict[str, Any]:
        """The figures, for JSON."""
        return asdict(self)


def read_size(text: str) -> int:
    """Reads a number of bytes: 1000000, or 256M, with K, M, G and T for powers of 1,024."""
    found = re.fullmatch(r"(\d+)([KMGT]?)B?", text.strip(), re.IGNORECASE)
    if found is None or int(found[1]) == 0:
        raise UsageError(f"--size {text}: give bytes, such as 256M or 1G")
    return int(found[1]) << 10 * " KMGT".index(found[2].upper() or " ")


def write_shards(
    data: str | Path | DataSet,
    out: str | Path,
    *,
    size: int | str = DEFAULT_SIZE,
    skip_damaged: bool = False,
    progress: Progress = ignore_progress,
    note: Callable[[str], None] | None = None,
) -> Written:
    """Writes the splits of a data set as tar files with an index.

    The bytes of the images are those of their files. Within a split their order is shuffled, so that programs that
    read one after the other get the classes mixed. The same data give the same bytes.

    Args:
        data: a built-in name, a folder, shards, or a data set.
        out: a new folder.
        size: bytes of a shard at most, but at least one image; also as text, such as ``256M``.
        skip_damaged: leave damaged images out and name them, instead of failing.
        progress: receives the number done and their total.
        note: called with what a folder holds besides.

    Returns:
        What was written.

    Raises:
        UserError: the data cannot be read or the folder cannot be written.
        UsageError: the folder is not empty, or the size is none.
    """
    folder = Path(out)
    most = size if isinstance(size, int) else read_size(size)
    _check_free(folder)
    check_outside(folder, "OUT", None if isinstance(data, DataSet) else data)
    opened = data if isinstance(data, DataSet) else open_data(data, progress)
    note_passed_over(opened, note)
    checked: dict[str, ImageSet] = {}
    skipped: list[str] = []
    for split, images in opened.splits.items():
        checked[split], damaged = images.checked(skip_damaged=skip_damaged, progress=progress)
        skipped += damaged
    for images in checked.values():
        for name in images.names:
            check_utf8(name)
    with _new_folder(folder):
        shards = [shard for images in checked.values() for shard in _write_split(images, folder, most, progress)]
        index = ShardIndex(
            name=as_text(opened.name),
            classes=opened.classes,
            mirror=opened.mirror,
            validation=opened.validation,
            fingerprint=fingerprint(*checked.values()) if skipped else opened.fingerprint,
            shards=shards,
        )
        write_index(index, folder / INDEX_FILE)
    return Written(
        out=str(folder),
        index=str(folder / INDEX_FILE),
        shards={split: sum(shard.split == split for shard in shards) for split in checked},
        images={split: len(images) for split, images in checked.items()},
        num_images=sum(map(len, checked.values())),
        bytes=sum(shard.bytes for shard in shards),
        skipped=skipped,
    )


def _check_free(folder: Path) -> None:
    if folder.is_dir() and (folder / UNFINISHED_FILE).exists():
        raise UsageError(f"{folder} holds shards that were not written to their end: remove it, or give a new folder")
    if folder.is_dir() and any(folder.iterdir()):
        raise UsageError(f"{folder} is not empty: give a new folder for the shards")
    if folder.exists() and not folder.is_dir():
        raise UsageError(f"{folder} is a file: give a new folder for the shards")


@contextmanager
def _new_folder(folder: Path) -> Iterator[None]:
    """A context with a new folder: marked as unfinished until the block ends, emptied where it raises."""
    new, unfinished = not folder.exists(), folder / UNFINISHED_FILE
    try:
        folder.mkdir(parents=True, exist_ok=True)
        unfinished.write_text("The shards here are not whole: remove this folder.\n", encoding="utf-8")
        yield
        unfinished.unlink()
    except BaseException as error:
        if folder.is_dir():
            for file in (*folder.glob("*.tar"), folder / INDEX_FILE, unfinished):
                file.unlink(missing_ok=True)
            if new:
                folder.rmdir()
        if isinstance(error, OSError):
            raise UserError(f"{folder} cannot be written: {error.strerror or error}") from error
        raise


def _write_split(images: ImageSet, folder: Path, most: int, progress: Progress) -> Iterator[IndexedShard]:
    shuffled = np.random.Generator(np.random.PCG64(_SEED)).permutation(len(images)).tolist()
    done = count(1)
    for number, group in enumerate(_groups(images, shuffled, most)):
        file = folder / f"{images.split}-{number:06d}.tar"
        yield _write_shard(images, group, file, lambda: progress(f"writing {images.split}", next(done), len(images)))


def _groups(images: ImageSet, order: Sequence[int], most: int) -> Iterator[list[int]]:
    """Cuts an order into the images of each shard."""
    group: list[int] = []
    filled = 0
    for index in order:
        size = images.source.size(images.names[index])
        needed = 3 * tarfile.BLOCKSIZE + _padded(size, tarfile.BLOCKSIZE)  # two headers and a label
        if group and _padded(filled + needed + 2 * tarfile.BLOCKSIZE, tarfile.RECORDSIZE) > most:
            yield group
            group, filled = [], 0
        group.append(index)
        filled += needed
    yield group


def _padded(size: int, block: int) -> int:
    return -(-size // block) * block


def _write_shard(images: ImageSet, group: Sequence[int], file: Path, report: Callable[[], None]) -> IndexedShard:
    names = [images.names[index] for index in group]
    offsets, sizes = [], []
    encoded = read_ahead(images.source.read, names, images.source.parallel_reads)
    with atomic_write(file) as temporary:
        with tarfile.open(temporary, "w", format=tarfile.USTAR_FORMAT) as tar:
            for position, name, data in zip(group, names, encoded, strict=True):
                offsets.append(tar.offset + tarfile.BLOCKSIZE)
                sizes.append(len(data))
                _add(tar, f"{position:09d}.{_kind(name)}", data)
                _add(tar, f"{position:09d}.cls", str(images.labels[position]).encode())
                report()
        with temporary.open("rb") as written:
            digest = hashlib.file_digest(written, "sha256").hexdigest()
        size = temporary.stat().st_size
    return IndexedShard.model_validate(
        {
            "file": file.name,
            "split": images.split,
            "bytes": size,
            "sha256": digest,
            "names": names,
            "positions": list(group),
            "offsets": offsets,
            "sizes": sizes,
            "labels": images.labels[list(group)].tolist(),
        }
    )


def _add(tar: tarfile.TarFile, name: str, data: bytes) -> None:
    member = tarfile.TarInfo(name)
    member.size = len(data)
    tar.addfile(member, io.BytesIO(data))


def _kind(name: str) -> str:
    """The ending of a member: that of the file, in its usual short form."""
    if not is_image_file(Path(name)):
        return "png"  # a picture that had no file
    suffix = Path(name).suffix[1:].lower()
    return _SHORT.get(suffix, suffix)
