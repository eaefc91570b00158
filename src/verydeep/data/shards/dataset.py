"""WebDataset shards as a data set: a folder or an address with an index, or a pattern of tar files of any program.

Any image can be read without the others, so that a data set of shards is used like a folder: in the same order, with
the same crops and the same images held out.
"""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import islice
from pathlib import Path

from verydeep.data.dataset import DataSet, hold_out_test, make_data_set
from verydeep.data.folder import SPLIT_NAMES
from verydeep.data.listing import natural_key
from verydeep.data.shards.index import INDEX_FILE, UNFINISHED_FILE, IndexedShard, ShardIndex, is_index, read_index
from verydeep.data.shards.source import ListedShard, make_image_set
from verydeep.data.shards.storage import (
    DiskStorage,
    Storage,
    file_name,
    find_storage,
    folder_of,
    inside,
    is_address,
    path_part,
)
from verydeep.data.shards.tar import TarListing, list_shard
from verydeep.data.sources import read_ahead
from verydeep.errors import UserError
from verydeep.progress import Progress, ignore_progress

CLASSES_FILE = "classes.txt"
"""Beside shards of other programs: names of the classes, one a line; the number of a class is its line, from 0."""

_COMPRESSED = (".tar.gz", ".tgz", ".tar.bz2", ".tar.xz", ".tar.zst")
_MOST_SHARDS = 100_000


def is_shards(data: str) -> bool:
    """Whether a text names shards: an address, tar files, an index, or a folder with one of these."""
    path = Path(data)
    if is_address(data) or _names_tar_files(data) or data.lower().endswith(_COMPRESSED):
        return not path.is_dir()
    if path.name == INDEX_FILE:
        return path.is_file()
    return path.is_dir() and ((path / UNFINISHED_FILE).exists() or _has_index(path) or bool(_tar_files(path)))


def _names_tar_files(path: str) -> bool:
    return path.endswith(".tar") or (".tar" in path and path.endswith("}"))


def _has_index(folder: Path) -> bool:
    if not (folder / INDEX_FILE).is_file():  # a pipe might never end
        return False
    try:
        with (folder / INDEX_FILE).open("rb") as index:
            return is_index(index.read(200))
    except OSError:
        return False


def _tar_files(folder: Path) -> list[str]:
    """Lists the tar files of a folder, in natural order; none where there are folders too."""
    entries = [entry for entry in folder.iterdir() if not entry.name.startswith(".")]
    if any(entry.is_dir() for entry in entries):
        return []
    return sorted((str(entry) for entry in entries if entry.suffix == ".tar"), key=natural_key)


def open_shards(data: str, progress: Progress = ignore_progress) -> DataSet:
    """Opens shards: those of an index, tar files as ``x-{000..009}.tar``, or the tar files of a folder."""
    storage, path = find_storage(data), path_part(data)
    if path.lower().endswith(_COMPRESSED):
        raise UserError(f"{data} is compressed: unpack it to .tar, images are read out of its middle")
    if _names_tar_files(path):
        files = _expand(data)
        return _open_files(_one_storage(files, data), files, _short_name(path), data, progress)
    folder = folder_of(data) if file_name(data) == INDEX_FILE else data
    index = read_index(storage, inside(folder, INDEX_FILE))
    if index is not None:
        return _open_index(storage, index, folder, index.shards, data)
    _refuse_unfinished(storage, folder)
    if is_address(data) or folder != data:
        raise UserError(
            f"{inside(folder, INDEX_FILE)} is no index that verydeep shards wrote: name the tar files instead, "
            "as in x-{000..009}.tar"
        )
    return _open_files(storage, _tar_files(Path(data)), Path(data).resolve().name, data, progress)


def _refuse_unfinished(storage: Storage, folder: str) -> None:
    if isinstance(storage, DiskStorage) and (Path(folder) / UNFINISHED_FILE).exists():
        raise UserError(f"{folder} was not written to its end: remove it and let verydeep shards write it anew")


def _expand(pattern: str) -> list[str]:
    """Expands the braces of a pattern."""
    from braceexpand import braceexpand  # a folder needs it not, and gpu.sh runs where it may be missing

    try:
        files = list(islice(braceexpand(pattern, escape=False), _MOST_SHARDS + 1))
    except ValueError as error:
        raise UserError(f"the braces of {pattern} do not match: give a pattern as x-{{000..009}}.tar") from error
    if len(files) > _MOST_SHARDS:
        raise UserError(f"{pattern} names more than {_MOST_SHARDS:,} shards: is one of its numbers too long?")
    for file in files:
        if not path_part(file).endswith(".tar"):
            raise UserError(f"{pattern} names {file}, which is no .tar: give a pattern as x-{{000..009}}.tar")
    name, times = Counter(map(file_name, files)).most_common(1)[0]
    if times > 1:
        raise UserError(f"{pattern} names {name} twice: name each shard once")
    return files


def _one_storage(files: Sequence[str], pattern: str) -> Storage:
    storages = [find_storage(file) for file in files]
    if len({type(storage) for storage in storages}) > 1:
        raise UserError(f"{pattern} names addresses and paths: give one or the other")
    return storages[0]


def _short_name(path: str) -> str:
    """A short name for the files of a pattern: what stands before its braces, or else the name of the folder."""
    name = file_name(path).removesuffix(".tar").partition("{")[0].strip("-_.")
    return name if name and _split_of(name) is None else folder_of(path).rpartition("/")[2].strip(".") or "shards"


def _open_index(
    storage: Storage, index: ShardIndex, folder: str, shards: Sequence[IndexedShard], where: str
) -> DataSet:
    """Opens the shards of an index, or some of them."""
    files = [inside(folder, shard.file) for shard in shards]
    stats = read_ahead(storage.stat, files, storage.parallel_reads)
    splits: dict[str, dict[str, IndexedShard]] = {}
    for file, shard, (size, _) in zip(files, shards, stats, strict=True):
        if size != shard.bytes:
            raise UserError(
                f"{file} has {size:,} bytes and its index says {shard.bytes:,}: it was changed or cut short: "
                "copy it again, or write the shards anew"
            )
        splits.setdefault(shard.split, {})[file] = shard
    if "train" not in splits:
        raise UserError(f"{where} has shards of {' and '.join(splits)} but none of train: name them all")
    return make_data_set(
        index.name,
        where,
        {split: make_image_set(storage, split, index.classes, of_split) for split, of_split in splits.items()},
        index.validation,
        mirror=index.mirror,
        known_fingerprint=index.fingerprint if len(shards) == len(index.shards) else None,
    )


def _open_files(storage: Storage, files: Sequence[str], name: str, where: str, progress: Progress) -> DataSet:
    """Opens tar files by the index beside them, or as shards of another program."""
    folder = folder_of(files[0])
    index = read_index(storage, inside(folder, INDEX_FILE))
    if index is None:
        _refuse_unfinished(storage, folder)
    elif all(folder_of(file) == folder for file in files):
        indexed = {shard.file: shard for shard in index.shards}
        wanted = [file_name(file) for file in files]
        if indexed.keys() >= set(wanted):
            return _open_index(storage, index, folder, [indexed[name] for name in wanted], where)
    listings = {}
    listed = read_ahead(lambda file: list_shard(storage, file), files, storage.parallel_reads)
    for file, listing in zip(files, listed, strict=True):
        listings[file] = listing
        progress("listing shards", len(listings), len(files))
    return _join_listings(storage, listings, folder, name, where)


def _join_listings(storage: Storage, listings: Mapping[str, TarListing], folder: str, name: str, where: str) -> DataSet:
    """Makes a data set of shards of other programs: splits from the names of the files, classes from their labels."""
    shards: dict[str | None, list[str]] = {}
    for file in listings:
        shards.setdefault(_split_of(file), []).append(file)
    has_splits = list(shards) != [None]
    if has_splits and None in shards:
        raise UserError(f"{shards[None][0]} is named after no split and others are: name all of them or none")
    if has_splits and "train" not in shards:
        raise UserError(
            f"{where} has shards of {' and '.join(map(str, shards))} but none of train: "
            "the classes come from the training split"
        )
    training = {label for file in shards["train" if has_splits else None] for label in listings[file].labels}
    classes, indices = _number_classes(training, _read_classes(storage, folder), where)
    splits = {}
    for split, files in shards.items():
        labelled = {file: _labelled(file, listings[file], indices, len(classes)) for file in files}
        splits[split or "train"] = make_image_set(storage, split or "train", classes, labelled)
    held_out = () if has_splits else ("test",)
    splits = splits if has_splits else hold_out_test(splits["train"])
    return make_data_set(name, where, splits, "the shards of val", held_out=held_out)


def _split_of(file: str) -> str | None:
    """Finds the split that a file is named after: ``imagenet-train-0000.tar`` is of train."""
    words = set(re.split(r"[^a-z]+", file_name(file).lower()))
    found = [split for split, names in SPLIT_NAMES.items() if words.intersection(names)]
    if len(found) > 1:
        raise UserError(f"{file} is named after {' and '.join(found)}: name it after one split")
    return found[0] if found else None


def _read_classes(storage: Storage, folder: str) -> tuple[str, ...] | None:
    file = inside(folder, CLASSES_FILE)
    data = storage.read_whole(file)
    if data is None:
        return None
    try:
        classes = tuple(line.strip() for line in data.decode("utf-8").rstrip().splitlines())
    except UnicodeDecodeError as error:
        raise UserError(f"{file} is no text: write the names of the classes, one a line") from error
    for name in classes:
        if not name or classes.count(name) > 1:
            raise UserError(f"{file} has {repr(name) + ' twice' if name else 'an empty line'}: name each class once")
    return classes


def _number_classes(
    labels: set[str], listed: tuple[str, ...] | None, where: str
) -> tuple[tuple[str, ...], dict[str, int]]:
    """Returns the classes, and the class index of each label; labels that are numbers count the listed classes."""
    classes = listed or tuple(sorted(labels, key=natural_key))
    if len(classes) < 2:
        raise UserError(f"{where} has one class, {classes[0]!r}: a classifier needs at least two")
    if listed and all(label.isdecimal() for label in labels):
        return classes, {str(index): index for index in range(len(classes))}
    return classes, {name: index for index, name in enumerate(classes)}


def _labelled(file: str, listing: TarListing, indices: Mapping[str, int], num_classes: int) -> ListedShard:
    for name, label in zip(listing.names, listing.labels, strict=True):
        if label not in indices:
            raise UserError(
                f"label {label!r} of {file}:{name} is none of the {num_classes} classes, which come from "
                f"{CLASSES_FILE} beside the shards or else from the labels of the training split"
            )
    return ListedShard(
        names=[f"{file_name(file)}/{name}" for name in listing.names],
        labels=[indices[label] for label in listing.labels],
        offsets=listing.offsets,
        sizes=listing.sizes,
    )
