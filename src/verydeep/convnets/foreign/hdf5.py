"""Arrays out of HDF5 files that nobody vouches for: no link out of the file, no size that the file does not hold."""

import io
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Final

import numpy as np

from verydeep.errors import UserError

if TYPE_CHECKING:
    import h5py

MAGIC: Final = b"\x89HDF\r\n\x1a\n"

MOST_EXPANSION: Final = 20
"""Times that an array or archive member may be larger than what the file stores of it; weights hardly compress."""

_MOST_ITEMS: Final = 10_000


@contextmanager
def opened(source: Path | IO[bytes], name: str) -> Iterator["h5py.File"]:
    """Opens an HDF5 file to read.

    Args:
        source: the file.
        name: of it, for messages.

    Raises:
        UserError: h5py is not installed, or the file is damaged.
    """
    try:
        import h5py
    except ImportError as error:
        raise UserError(
            f"{name} is an HDF5 file, and h5py, which reads it, is not installed: pip install 'verydeep[weights]'"
        ) from error
    try:
        with h5py.File(source, "r") as file:
            yield file
    except UserError:
        raise
    except (OSError, RuntimeError, KeyError, ValueError, TypeError, io.UnsupportedOperation) as error:
        reason = " ".join(str(error).split())
        raise UserError(f"{name} is a damaged HDF5 file ({reason}): download it again") from error


@dataclass(frozen=True)
class Contents:
    """What lies in an HDF5 file itself, by path; links that lead elsewhere are not followed.

    Attributes:
        arrays: not read yet, each no larger than what is stored of it allows.
        groups: the folders between.
    """

    arrays: "dict[str, h5py.Dataset]"
    groups: "dict[str, h5py.Group]"


def contents(file: "h5py.File", name: str) -> Contents:
    """Lists arrays and groups, and reads no array.

    Args:
        file: opened.
        name: of it, for messages.

    Raises:
        UserError: an array lies outside the file, or claims more than the file holds.
    """
    import h5py

    found = Contents({}, {"": file})

    def visit(path: str, item: Any) -> bool | None:  # noqa: ANN401 - a group, an array or a type
        if isinstance(item, h5py.Dataset):
            found.arrays[path] = item
        elif isinstance(item, h5py.Group):
            found.groups[path] = item
        return True if len(found.arrays) + len(found.groups) > _MOST_ITEMS else None

    if file.visititems(visit):
        raise UserError(f"{name} has more than {_MOST_ITEMS:,} items: it is no VGG")
    for path, array in found.arrays.items():
        if array.external or array.is_virtual:
            raise UserError(f"{name}: {path} lies in another file: it is refused")
        claimed = (array.size or 0) * array.dtype.itemsize
        stored = array.id.get_storage_size()
        if claimed > MOST_EXPANSION * stored:
            raise UserError(f"{name}: {path} claims {claimed:,} bytes where {stored:,} are stored: it is refused")
    return found


def read_array(array: "h5py.Dataset", path: str) -> np.ndarray:
    """Reads an array of floating point numbers.

    Raises:
        UserError: it holds something else, objects for instance.
    """
    if array.dtype.kind != "f":
        raise UserError(f"{path} holds {array.dtype} and no floating point numbers")
    values: np.ndarray = array[()]
    return values
