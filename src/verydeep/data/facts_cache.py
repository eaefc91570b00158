"""The facts of all files of a folder, kept between two looks at it."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import PIL

from verydeep.data.file_facts import FileFacts, look_at
from verydeep.data.image_set import Progress, ignore_progress, read_ahead
from verydeep.data.kept import Kept

_FORMAT = 1


@dataclass(frozen=True)
class _KeptFacts:
    made_by: str
    files: dict[str, FileFacts]


def look_at_all(root: Path, names: Sequence[str], progress: Progress = ignore_progress) -> dict[str, FileFacts]:
    """Looks at files, in as many threads as there are cores; those that have not changed since the last look are known.

    A file has changed when its size or the time of its last change has. What is known is kept in the user's cache
    folder, a file of JSON for each data set; without such a folder, or with a damaged file in it, all is done anew.

    Args:
        root: of the data set.
        names: of the files, relative to it.
        progress: told how far it is.
    """
    cache = Kept(root, "doctor/files", _KeptFacts)
    kept = cache.read()
    known = kept.files if kept and kept.made_by == _made_by() else {}
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
            cache.write(_KeptFacts(_made_by(), {**known, **facts} if len(facts) < len(names) else facts))
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
