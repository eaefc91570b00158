"""WebDataset shards as a data set: a folder or an address with an index, or a pattern of tar files of any program.

Any image can be read without the others, so that a data set of shards is used like a folder: in the same order, with
the same crops and the same images held out.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path

from verydeep.data.datasets import DataSet, make_data_set, natural_key
from verydeep.data.foreign_shards import join_listings, split_of
from verydeep.data.image_set import Progress, ignore_progress, read_ahead
from verydeep.data.places import Disk, Place, find_place, folder_of, inside, is_address, path_part
from verydeep.data.shard_index import INDEX_FILE, UNFINISHED_FILE, IndexedShard, ShardIndex, is_index, read_index
from verydeep.data.shard_store import ShardPart, file_name, make_image_set
from verydeep.data.tar_listing import list_shard
from verydeep.errors import UserError

_COMPRESSED = (".tar.gz", ".tgz", ".tar.bz2", ".tar.xz", ".tar.zst")
_MOST_SHARDS = 100_000


def is_shards(data: str) -> bool:
    """Whether a text names shards: an address, tar files, an index, or a folder with one of these."""
    path = Path(data)
    if is_address(data) or _names_tar_files(data) or data.lower().endswith(_COMPRESSED):
        return not path.is_dir()
    if path.name == INDEX_FILE:
        return path.is_file()
    if not path.is_dir():
        return False
    return (path / UNFINISHED_FILE).exists() or _has_index(path) or bool(_tar_files(path))


def _names_tar_files(path: str) -> bool:
    return path.endswith(".tar") or (".tar" in path and path.endswith("}"))


def _has_index(folder: Path) -> bool:
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
    """Opens shards.

    Args:
        data: the folder or address of an index or the index itself, tar files as ``x-{000..009}.tar``, or a folder of
            tar files.
        progress: told how far the listing of shards without an index is.

    Raises:
        UserError: an address that is neither http nor https; shards that are missing, damaged or hold pickles.
    """
    place, path = find_place(data), path_part(data)
    if path.lower().endswith(_COMPRESSED):
        raise UserError(f"{data} is compressed: unpack it to .tar, images are read out of its middle")
    if _names_tar_files(path):
        files = _expand(data)
        return _open_files(_one_place(files, data), files, _short_name(path), data, progress)
    folder = folder_of(data) if file_name(data) == INDEX_FILE else data
    index = read_index(place, inside(folder, INDEX_FILE))
    if index is not None:
        return _open_index(place, index, folder, index.shards, data)
    _refuse_unfinished(place, folder)
    if is_address(data) or folder != data:
        raise UserError(
            f"{inside(folder, INDEX_FILE)} is no index that verydeep shards wrote: name the tar files instead, "
            "as in x-{000..009}.tar"
        )
    return _open_files(place, _tar_files(Path(data)), Path(data).resolve().name, data, progress)


def _refuse_unfinished(place: Place, folder: str) -> None:
    if isinstance(place, Disk) and (Path(folder) / UNFINISHED_FILE).exists():
        raise UserError(f"{folder} was not written to its end: remove it and let verydeep shards write it anew")


def _expand(pattern: str) -> list[str]:
    """Gives the files of a pattern with braces."""
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


def _one_place(files: Sequence[str], pattern: str) -> Place:
    places = [find_place(file) for file in files]
    if len({type(place) for place in places}) > 1:
        raise UserError(f"{pattern} names addresses and paths: give one or the other")
    return places[0]


def _short_name(path: str) -> str:
    """A short name for the files of a pattern: what stands before its braces, or else the name of the folder."""
    name = file_name(path).removesuffix(".tar").partition("{")[0].strip("-_.")
    return name if name and split_of(name) is None else folder_of(path).rpartition("/")[2].strip(".") or "shards"


def _open_index(place: Place, index: ShardIndex, folder: str, shards: Sequence[IndexedShard], where: str) -> DataSet:
    """Opens the shards of an index, or some of them."""
    files = [inside(folder, shard.file) for shard in shards]
    looks = read_ahead(lambda number: place.look(files[number]), range(len(files)), place.parallel_reads)
    for file, shard, (size, _) in zip(files, shards, looks, strict=True):
        if size != shard.bytes:
            raise UserError(
                f"{file} has {size:,} bytes and its index says {shard.bytes:,}: it was changed or cut short: "
                "copy it again, or write the shards anew"
            )
    parts: dict[str, list[ShardPart]] = {}
    for file, shard in zip(files, shards, strict=True):
        part = ShardPart(
            file=file,
            names=shard.names,
            labels=shard.labels,
            offsets=shard.offsets,
            sizes=shard.sizes,
            positions=shard.positions,
        )
        parts.setdefault(shard.split, []).append(part)
    if "train" not in parts:
        raise UserError(f"{where} has shards of {' and '.join(parts)} but none of train: name them all")
    splits = {split: make_image_set(place, split, index.classes, some) for split, some in parts.items()}
    if len(shards) < len(index.shards):
        return replace(make_data_set(index.name, where, splits, index.validation), mirror=index.mirror)
    return DataSet(
        name=index.name,
        train=splits["train"],
        val=splits["val"],
        test=splits.get("test"),
        mirror=index.mirror,
        validation=index.validation,
        fingerprint=index.fingerprint,
    )


def _open_files(place: Place, files: Sequence[str], name: str, where: str, progress: Progress) -> DataSet:
    """Opens tar files by the index beside them, or as shards of another program."""
    folder = folder_of(files[0])
    index = read_index(place, inside(folder, INDEX_FILE))
    if index is None:
        _refuse_unfinished(place, folder)
    elif all(folder_of(file) == folder for file in files):
        indexed = {shard.file: shard for shard in index.shards}
        wanted = [file_name(file) for file in files]
        if indexed.keys() >= set(wanted):
            return _open_index(place, index, folder, [indexed[name] for name in wanted], where)
    listings = {}
    made = read_ahead(lambda number: list_shard(place, files[number]), range(len(files)), place.parallel_reads)
    for file, listing in zip(files, made, strict=True):
        listings[file] = listing
        progress("listing shards", len(listings), len(files))
    return join_listings(place, listings, folder, name, where)
