"""Silences libtiff, which prints its complaints of damaged files on standard error and names none."""

import ctypes
from functools import cache
from itertools import chain
from pathlib import Path

import PIL


@cache
def silence_libtiff() -> None:
    """Silences the libtiff that comes with Pillow's wheels: what it complains of is damage that is reported by name."""
    folder = Path(PIL.__file__).parent
    for file in chain(folder.parent.glob("pillow.libs/libtiff*"), folder.glob(".dylibs/libtiff*")):
        try:
            library = ctypes.CDLL(str(file))
            for name in ("TIFFSetErrorHandler", "TIFFSetErrorHandlerExt", "TIFFSetWarningHandler"):
                handler = getattr(library, name)
                handler.argtypes, handler.restype = [ctypes.c_void_p], ctypes.c_void_p
                handler(None)
        except (OSError, AttributeError):  # another layout: it goes on printing
            continue
