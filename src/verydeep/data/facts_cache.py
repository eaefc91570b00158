"""The facts of all files of a folder, kept between two looks at it."""

import hashlib
import os
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import PIL
from pydantic import TypeAdapter, ValidationError

from verydeep.atomic import written_whole
from verydeep.data.file_facts import FileFacts, look_at
from verydeep.data.image_set import Progress, ignore_progress, read_ahead

_FORMAT = 1


@dataclass(frozen=True)
class _Kept:
    made_by: str
    files: dict[str, FileFacts]


_KEPT = TypeAdapter(_Kept)


def look_at_all(root: Path, names: Sequence[str], progress: Progress = ignore_progress) -> dict[str, FileFacts]:
    """Looks at files, in as many threads as there are cores; those that have not changed since the last look are known.

    A file has changed when its size or the time of its last change has. What is known is kept in the user's cache
    folder, a file of JSON for each data set; without such a folder, or with a damaged file in it, all is done anew.

    Args:
        root: of the data set.
        names: of the files, relative to it.
        progress: told how far it is.
    """
    cache = _cache_file(root)
    made_by = _made_by()
    known = _read(cache, made_by)
    facts: dict[str, FileFacts] = {}

    def look(index: int) -> FileFacts:
        file, before = root / names[index], known.get(names[index])
        return before if before is not None and _is_unchanged(file, before) else look_at(file)

    try:
        for index, found in enumerate(read_ahead(look, range(len(names)))):
            facts[names[index]] = found
            progress("looking at the images", index + 1, len(names))
    finally:
        if facts != known:
            _write(cache, _Kept(made_by, {**known, **facts} if len(facts) < len(names) else facts))
    return facts


def _is_unchanged(file: Path, before: FileFacts) -> bool:
    try:
        status = file.stat()
    except OSError:
        return False
    return (status.st_size, status.st_mtime_ns) == (before.size, before.modified)


def _made_by() -> str:
    """Names what the facts depend on: other versions may decode and hash in another way."""
    import imagehash

    return f"format {_FORMAT}, Pillow {PIL.__version__}, ImageHash {imagehash.__version__}"


def _cache_file(root: Path) -> Path | None:
    """Finds the place of the cache of a data set; none where the user has no home."""
    try:
        given = Path(os.environ.get("XDG_CACHE_HOME", ""))
        folder = given if given.is_absolute() else Path.home() / ".cache"
    except RuntimeError:
        return None
    place = hashlib.sha256(os.fsencode(root.resolve())).hexdigest()[:16]
    return folder / "verydeep" / "doctor" / f"{place}.json"


def _read(cache: Path | None, made_by: str) -> dict[str, FileFacts]:
    if cache is None:
        return {}
    try:
        kept = _KEPT.validate_json(cache.read_bytes())
    except (OSError, ValidationError):
        return {}
    return kept.files if kept.made_by == made_by else {}


def _write(cache: Path | None, kept: _Kept) -> None:
    """Keeps facts; where that is not possible the next look takes longer, which is all."""
    if cache is None:
        return
    with suppress(OSError, ValueError):  # a full disk; a name that is no Unicode
        cache.parent.mkdir(parents=True, exist_ok=True)
        with written_whole(cache) as temporary:
            temporary.write_bytes(_KEPT.dump_json(kept))
