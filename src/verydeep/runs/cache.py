"""What lies in the cache: published weights, public data sets, indexes of shards; removed one at a time.

Only what verydeep makes there is removed. A link is removed and not what it leads to, and nothing outside the folder.
"""

import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from verydeep.data.named import NAMED
from verydeep.errors import UsageError, UserError
from verydeep.files import cache_folder
from verydeep.weights.published import PUBLISHED

Kind = Literal["weights", "data", "shards", "other"]

_SHARD_INDEX = re.compile(r"[0-9a-f]{32}\.json")


@dataclass(frozen=True, kw_only=True)
class CacheEntry:
    """One thing in the cache."""

    name: str  # such as weights/imagenet-D
    kind: Kind  # other: verydeep did not make it
    path: Path
    size: int  # bytes on the disk; of a link nothing

    def as_record(self) -> dict[str, Any]:
        return {"name": self.name, "kind": self.kind, "file": str(self.path), "bytes": self.size}


def list_cache() -> list[CacheEntry]:
    """Lists what lies in the cache folder, by name, without locks, entity tags of downloads and pinned hashes."""
    folder, entries = cache_folder(), []
    for child in _children(folder):
        if child.name in ("weights", "data") and _is_folder(child):
            entries += [_entry(one) for one in _children(child)]
        elif child.name == "shards" and _is_folder(child):
            entries += [CacheEntry(name="shards", kind="shards", path=child, size=_size(child))]
        else:
            entries += [CacheEntry(name=child.name, kind="other", path=child, size=_size(child))]
    return [entry for entry in entries if not any(map(entry.path.match, (".*.lock", ".*.tag", ".pins.json")))]


def clear(name: str) -> CacheEntry:
    """Removes one thing from the cache, and returns what it was.

    Args:
        name: as ``list_cache`` gives it; the part after the slash is enough where one entry has it.

    Raises:
        UsageError: there is no such thing in the cache, or several, or verydeep did not make it.
        UserError: it cannot be removed.
    """
    entries = list_cache()
    found = [entry for entry in entries if name in (entry.name, entry.name.rpartition("/")[2])]
    if not found:
        raise UsageError(f"--clear {name}: no such thing in {cache_folder()}: verydeep cache lists what there is")
    if len(found) > 1:
        raise UsageError(f"--clear {name}: say {' or '.join(entry.name for entry in found)}")
    (entry,) = found
    if entry.kind == "other":
        raise UsageError(f"--clear {name}: verydeep did not make {entry.path}: remove it by hand")
    try:
        for path in _files_of(entry):
            _remove(path)
    except OSError as error:
        raise UserError(f"{entry.path} cannot be removed: {error.strerror or error}") from error
    return entry


def _entry(path: Path) -> CacheEntry:
    kind: Kind = "data" if path.parent.name == "data" else "weights"
    if kind == "data":
        known = path.name in NAMED
    else:
        rows = PUBLISHED.values()
        known = any(path in _weights_files(path.parent, row.name, row.file_name) for row in rows)
    name = f"{kind}/{path.name.removesuffix('.safetensors')}"
    return CacheEntry(name=name, kind=kind if known else "other", path=path, size=_size(path))


def _weights_files(folder: Path, name: str, published: str) -> tuple[Path, ...]:
    """The files that fetching weights may leave: the model file, its lock, the publisher's file, a part of it."""
    names = (f"{name}.safetensors", f".{name}.lock", published, f".{published}.part", f".{published}.tag")
    return tuple(folder / one for one in names)


def _files_of(entry: CacheEntry) -> Iterator[Path]:
    if entry.kind == "shards":
        yield from (file for file in _children(entry.path) if _SHARD_INDEX.fullmatch(file.name))
        return
    yield entry.path
    if entry.path.suffix == ".part":
        yield entry.path.with_suffix(".tag")


def _remove(path: Path) -> None:
    if _is_folder(path):
        shutil.rmtree(path)  # follows no link
    else:
        path.unlink(missing_ok=True)


def _children(folder: Path) -> list[Path]:
    return sorted(folder.iterdir()) if folder.is_dir() else []


def _is_folder(path: Path) -> bool:
    return path.is_dir() and not path.is_symlink()


def _size(path: Path) -> int:
    if path.is_symlink():
        return 0
    files = path.rglob("*") if path.is_dir() else iter([path])
    return sum(file.lstat().st_size for file in files if file.is_file() and not file.is_symlink())
