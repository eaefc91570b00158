"""Reads files of MATLAB's format 5 (save -v6 and -v7), within the memory that the file itself justifies.

Why not scipy: it allocates what a file declares before it looks whether the file has it, so that 200 bytes can take
gigabytes. Nothing here is ever called or built: objects and function handles are passed over.
"""

import math
import struct
import zlib
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from verydeep.weights.readers.protobuf import map_file

_HEADER: Final = 128
_MOST_VALUES: Final = 200_000
_MOST_BYTES: Final = 2**31
_DEEPEST: Final = 16

_MATRIX: Final = 14
_COMPRESSED: Final = 15
_NUMBERS: Final = {1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 9: "f8", 12: "i8", 13: "u8"}
_TEXTS: Final = {1: "utf-8", 2: "utf-8", 4: "utf-16", 16: "utf-8", 17: "utf-16", 18: "utf-32"}
_CELL, _STRUCT, _CHAR = 1, 2, 4
_NUMERIC_CLASSES: Final = range(6, 16)

Value = NDArray[np.generic] | str | list[Any] | dict[str, Any] | None
"""An array, a text, a cell or an array of structs (column by column), one struct, or what is passed over; cells and
structs hold values of the same kinds."""


class MatError(ValueError):
    """The bytes are no such file, or are cut short."""


def mat_format(file: Path) -> str | None:
    """MATLAB's format that a file begins as: 5, or 7.3, which is HDF5; None for another file."""
    with file.open("rb") as opened:
        header = opened.read(_HEADER)
    if header.startswith(b"MATLAB 7.3 MAT-file"):
        return "7.3"
    return "5" if header[124:] in (b"\x00\x01IM", b"\x01\x00MI") else None


def read_mat5(file: Path) -> dict[str, Value]:
    """Reads the variables of a file by their names; MatError where it is damaged or cut short."""
    return _Reader(map_file(file)).variables()


class _Reader:
    def __init__(self, data: memoryview) -> None:
        self._data = data
        self._order = ">" if bytes(data[126:128]) == b"MI" else "<"
        # numbers that were learned compress little; pruned ones about ten times
        self._room = min(_MOST_BYTES, 2**26 + 20 * len(data))
        self._values = 0

    def variables(self) -> dict[str, Value]:
        found: dict[str, Value] = {}
        position = _HEADER
        while position < len(self._data):
            kind, body, following = self._element(self._data, position)
            if kind == _COMPRESSED:
                following = position + 8 + len(body)  # these alone are not padded
                kind, body, _ = self._element(self._unpacked(body), 0)
            if kind == _MATRIX:
                name, value = self._matrix(body, 0)
                found[name] = value
            position = following
        return found

    def _unpacked(self, packed: memoryview) -> memoryview:
        unpacker, unpacked, rest = zlib.decompressobj(), bytearray(), bytes(packed)
        try:
            while not unpacker.eof:
                piece = unpacker.decompress(rest, 2**24)
                rest = unpacker.unconsumed_tail
                if not piece and not rest:
                    raise MatError("a compressed variable is cut short")
                unpacked += piece
                self._room -= len(piece)
                if self._room < 0:
                    raise MatError("it unpacks to far more than a net has")
        except zlib.error as error:
            raise MatError(f"a compressed variable is damaged: {error}") from error
        return memoryview(unpacked)

    def _element(self, data: memoryview, position: int) -> tuple[int, memoryview, int]:
        """The kind and bytes of the element at a position, and the position of the next."""
        self._values += 1
        if self._values > _MOST_VALUES:
            raise MatError("it has far more values than a net")
        if len(data) - position < 8:
            raise MatError("it ends within an element: is it cut short?")
        (first, second) = struct.unpack_from(f"{self._order}II", data, position)
        if first >> 16:
            kind, size, begin, following = first & 0xFFFF, first >> 16, position + 4, position + 8
            if size > 4:
                raise MatError(f"a small element of {size} bytes")
        else:
            kind, size, begin = first, second, position + 8
            following = begin + size + -size % 8
        if size > len(data) - begin:
            raise MatError(f"an element has {size} bytes where {len(data) - begin} are left: is it cut short?")
        return kind, data[begin : begin + size], following

    def _numbers(self, kind: int, body: memoryview) -> NDArray[np.generic]:
        if kind not in _NUMBERS:
            raise MatError(f"numbers of the unknown type {kind}")
        dtype = np.dtype(self._order + _NUMBERS[kind])
        if len(body) % dtype.itemsize:
            raise MatError("numbers that are no whole number of bytes")
        return np.frombuffer(body, dtype)

    def _matrix(self, body: memoryview, depth: int) -> tuple[str, Value]:
        """The name and value of an array; an empty element is an empty array."""
        if not body:
            return "", np.zeros((0, 0))
        if depth > _DEEPEST:
            raise MatError("its values lie too deep in each other")
        kind, flags, position = self._element(body, 0)
        if kind != 6 or len(flags) != 8:
            raise MatError("an array without its class")
        (word,) = struct.unpack_from(f"{self._order}I", flags)
        array_class = word & 0xFF
        if array_class not in (_CELL, _STRUCT, _CHAR, *_NUMERIC_CLASSES):
            return self._name_of_skipped(body, position, array_class), None
        kind, sizes, position = self._element(body, position)
        shape = [int(size) for size in self._numbers(kind, sizes)]
        if not 2 <= len(shape) <= 8 or min(shape) < 0:
            raise MatError(f"an array of {len(shape)} dimensions")
        kind, name, position = self._element(body, position)
        text = bytes(name[:100]).decode("ascii", errors="replace")
        if array_class == _CELL:
            return text, self._cell(body, position, math.prod(shape), depth)
        if array_class == _STRUCT:
            return text, self._structs(body, position, math.prod(shape), depth)
        kind, numbers, _ = self._element(body, position)
        if array_class == _CHAR:
            return text, self._text(kind, numbers)
        return text, self._array(kind, numbers, shape)

    def _name_of_skipped(self, body: memoryview, position: int, array_class: int) -> str:
        if array_class == 17:  # an opaque object has no sizes
            return ""
        _, _, position = self._element(body, position)
        _, name, _ = self._element(body, position)
        return bytes(name[:100]).decode("ascii", errors="replace")

    def _array(self, kind: int, body: memoryview, shape: list[int]) -> Value:
        numbers = self._numbers(kind, body)
        if math.prod(shape) != numbers.size:
            raise MatError(f"an array of shape {tuple(shape)} with {numbers.size} numbers")
        return numbers.reshape(shape, order="F")

    def _text(self, kind: int, body: memoryview) -> Value:
        codec = _TEXTS.get(kind)
        if codec is None:
            raise MatError(f"a text of the unknown type {kind}")
        if codec != "utf-8":
            codec += "-le" if self._order == "<" else "-be"
        return bytes(body[:1000]).decode(codec, errors="replace")

    def _cell(self, body: memoryview, position: int, count: int, depth: int) -> Value:
        values: list[Value] = []
        for _ in range(count):
            value, position = self._next(body, position, depth)
            values.append(value)
        return values

    def _structs(self, body: memoryview, position: int, count: int, depth: int) -> Value:
        kind, length, position = self._element(body, position)
        lengths = self._numbers(kind, length)
        _, names, position = self._element(body, position)
        size = int(lengths[0]) if lengths.size else 0
        if not 0 < size <= 256 or len(names) % size:
            raise MatError("a struct without names of its fields")
        fields = [
            bytes(names[begin : begin + size]).split(b"\0")[0].decode("ascii", errors="replace")
            for begin in range(0, len(names), size)
        ]
        if not fields:
            return [] if count != 1 else {}
        structs: list[Value] = []
        for _ in range(count):
            found: dict[str, Value] = {}
            for field in fields:
                found[field], position = self._next(body, position, depth)
            structs.append(found)
        return structs[0] if count == 1 else structs

    def _next(self, body: memoryview, position: int, depth: int) -> tuple[Value, int]:
        kind, inner, position = self._element(body, position)
        if kind != _MATRIX:
            raise MatError(f"an element of type {kind} where an array is due")
        return self._matrix(inner, depth + 1)[1], position
