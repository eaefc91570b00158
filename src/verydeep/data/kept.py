"""What is kept in the user's cache folder between two looks at a data set, as JSON."""

import hashlib
import os
from contextlib import suppress
from pathlib import Path
from typing import Generic, TypeVar

from pydantic import TypeAdapter, ValidationError

from verydeep.files import atomic_write

_T = TypeVar("_T")


class Kept(Generic[_T]):
    """A value in the user's cache folder; where there is none, or it is damaged, there is simply no value.

    Args:
        root: the data set it is about.
        what: the folder of the cache below verydeep/.
        kind: the type of the value.
    """

    def __init__(self, root: Path, what: str, kind: type[_T]) -> None:
        self._json: TypeAdapter[_T] = TypeAdapter(kind)
        self.file = _place(root, what)

    def read(self) -> _T | None:
        """Gives the value, unless there is none that can be read."""
        try:
            return self._json.validate_json(self.file.read_bytes()) if self.file else None
        except (OSError, ValidationError):
            return None

    def write(self, value: _T) -> None:
        """Keeps a value; where that is not possible the next look takes longer, which is all."""
        if self.file is None:
            return
        with suppress(OSError, ValueError):  # a full disk; a name that is no Unicode
            self.file.parent.mkdir(parents=True, exist_ok=True)
            with atomic_write(self.file) as temporary:
                temporary.write_bytes(self._json.dump_json(value))


def _place(root: Path, what: str) -> Path | None:
    """Finds the file for a data set; none where the user has no home."""
    try:
        given = Path(os.environ.get("XDG_CACHE_HOME", ""))
        folder = given if given.is_absolute() else Path.home() / ".cache"
    except RuntimeError:
        return None
    name = hashlib.sha256(os.fsencode(root.resolve())).hexdigest()[:16]
    return folder / "verydeep" / what / f"{name}.json"
