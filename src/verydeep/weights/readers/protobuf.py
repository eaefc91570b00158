"""Reads the wire format of Protocol Buffers, in which .caffemodel files are written, from a memory map.

Why not the protobuf package: it copies a file of 550 MB twice and gives its numbers one Python float at a time.
"""

import mmap
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

# a net has hundreds of fields and less than a hundred layers; more could only fill the memory
_MOST_FIELDS: Final = 10_000
MOST_SETTINGS: Final = 200
"""Most fields of a layer, a node or a tensor, of which there are many."""
MOST_LAYERS: Final = 2000

_VARINT, _EIGHT_BYTES, _LENGTH, _FOUR_BYTES = 0, 1, 2, 5

Value = int | memoryview
"""A varint, or the bytes of anything else."""


class WireError(ValueError):
    """The bytes are no message, or are cut short."""


def map_file(file: Path) -> memoryview:
    """Maps a file into memory, so that only what is looked at is read; what is written there stays in memory."""
    with file.open("rb") as opened:
        if file.stat().st_size == 0:
            raise WireError("it is empty")
        return memoryview(mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_COPY))


def fields(message: memoryview) -> Iterator[tuple[int, Value]]:
    """Yields number and value of every field; bytes are a part of ``message`` and are not copied."""
    position, end = 0, len(message)
    while position < end:
        tag, position = _varint(message, position)
        number, kind = tag >> 3, tag & 7
        if number == 0:
            raise WireError(f"field 0 before byte {position}")
        if kind == _VARINT:
            value, position = _varint(message, position)
            yield number, value
            continue
        if kind == _LENGTH:
            size, position = _varint(message, position)
        elif kind in (_EIGHT_BYTES, _FOUR_BYTES):
            size = 8 if kind == _EIGHT_BYTES else 4
        else:
            raise WireError(f"wire type {kind} of field {number}")
        if size > end - position:
            raise WireError(f"field {number} has {size} bytes where {end - position} are left: is it cut short?")
        yield number, message[position : position + size]
        position += size


def _varint(message: memoryview, position: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        if position >= len(message):
            raise WireError("it ends within a number: is it cut short?")
        byte = message[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value & (2**64 - 1), position
    raise WireError(f"a number of more than ten bytes at byte {position}")


class Message:
    """The fields of one message by their numbers; WireError where the bytes are none, or have too many fields."""

    def __init__(self, message: memoryview, most: int = _MOST_FIELDS) -> None:
        self._values: dict[int, list[Value]] = {}
        for count, (number, value) in enumerate(fields(message)):
            if count >= most:
                raise WireError(f"more than {most} fields in one message")
            self._values.setdefault(number, []).append(value)

    def __bool__(self) -> bool:
        return bool(self._values)

    def __contains__(self, number: int) -> bool:
        return number in self._values

    def parts(self, number: int) -> list[memoryview]:
        """The values of a field that is bytes, text or a message."""
        values = self._values.get(number, [])
        parts = [value for value in values if isinstance(value, memoryview)]
        if len(parts) < len(values):
            raise WireError(f"field {number} is a number and no bytes")
        return parts

    def messages(self, number: int) -> list["Message"]:
        """The messages of a field, each with up to as many fields as a layer has."""
        parts = self.parts(number)
        if len(parts) > MOST_LAYERS:
            raise WireError(f"more than {MOST_LAYERS} messages in field {number}")
        return [Message(part, MOST_SETTINGS) for part in parts]

    def text(self, number: int) -> str:
        """The last text of a field, up to 1000 bytes, or an empty one; what is no UTF-8 is marked."""
        parts = self.parts(number)
        return bytes(parts[-1][:1000]).decode(errors="replace") if parts else ""

    def integers(self, number: int) -> list[int]:
        """The integers of a field, packed or one by one."""
        found: list[int] = []
        for value in self._values.get(number, []):
            if isinstance(value, int):
                found.append(value)
                continue
            position = 0
            while position < len(value):
                integer, position = _varint(value, position)
                found.append(integer)
                if len(found) > _MOST_FIELDS:
                    raise WireError(f"more than {_MOST_FIELDS} integers in field {number}")
        return [value - 2**64 if value >= 2**63 else value for value in found]

    def integer(self, number: int, default: int) -> int:
        """The last integer of a field."""
        return (self.integers(number) or [default])[-1]

    def floats(self, number: int, dtype: str = "<f4") -> NDArray[np.generic]:
        """The numbers of a field, packed or one by one; packed ones are not copied."""
        size = np.dtype(dtype).itemsize
        parts = self.parts(number)
        if any(len(part) % size for part in parts):
            raise WireError(f"field {number} has no whole number of {size}-byte numbers")
        if len(parts) == 1:
            return np.frombuffer(parts[0], dtype)
        return np.frombuffer(b"".join(parts), dtype)

    def number(self, number: int, default: float) -> float:
        """The last float32 of a field."""
        found = self.floats(number)
        return float(found[-1]) if found.size else default
