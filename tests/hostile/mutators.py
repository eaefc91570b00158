"""Spoils files: anywhere in their bytes, or in a place of their format with its lengths and sums made right again."""

import io
import json
import random
import re
import struct
import zipfile
import zlib
from collections.abc import Callable
from typing import Any

Spoil = Callable[[random.Random, bytes], bytes]

NUMBERS = (0, 1, -1, 2, 255, 256, 65535, 65536, 2**31 - 1, 2**31, 2**32 - 1, 2**63 - 1, 2**64, 10**30)
VALUES: tuple[Any, ...] = (
    *NUMBERS, None, True, False, 0.5, -0.0, 1e308, -1e-320, float("nan"), float("inf"), "", "\x1b[31mred", "a\0b",
    "\u202e", "\ud800", "../../etc/passwd", "/dev/zero", "x" * 3000, "nan", "1e999", "-1", [], {}, [[]], [None],
    {"": ""}, [0] * 300,
)  # fmt: skip
WORDS = (
    b"", b"\0", b"\xff", b"\x1b[31m", b"../" * 40, b"nan", b"inf", b"-1", b"1e999", b"9" * 400, b"\n", b"\r\n", b",",
    b'"', b"<", b"&", b"&a;", b"{", b"[" * 3000, b"%s%n", b"\xe2\x80\xae",
)  # fmt: skip


def spoil_bytes(chance: random.Random, data: bytes) -> bytes:
    """Changes, removes, repeats or inserts a few bytes."""
    spoilt = bytearray(data)
    for _ in range(chance.choice((1, 1, 2, 4, 16))):
        size = len(spoilt)
        place = chance.randrange(size + 1) if chance.random() < 0.6 else chance.randrange(min(size, 64) + 1)
        length = chance.choice((1, 1, 2, 4, 8, 64, 1000))
        match chance.randrange(7):
            case 0 if place < size:
                spoilt[place] ^= 1 << chance.randrange(8)
            case 1 if place < size:
                spoilt[place] = chance.choice((0, 1, 0x7F, 0x80, 0xFF, chance.randrange(256)))
            case 2:
                number = chance.choice(NUMBERS) & (2**64 - 1)
                width = chance.choice((1, 2, 4, 8))
                order = chance.choice(("little", "big"))
                spoilt[place : place + width] = (number & (2 ** (8 * width) - 1)).to_bytes(width, order)
            case 3:
                del spoilt[place : place + length]
            case 4:
                spoilt[place:place] = spoilt[place : place + length]
            case 5:
                spoilt[place:place] = chance.choice(WORDS)
            case 6:
                other = chance.randrange(size + 1)
                spoilt[place : place + length] = spoilt[other : other + length]
    return bytes(spoilt)


def cut(chance: random.Random, data: bytes) -> bytes:
    return data[: chance.randrange(len(data) + 1)]


def spoil_text(chance: random.Random, data: bytes) -> bytes:
    """Replaces numbers, words and lines of a text."""
    parts = re.split(rb"([\w.\-]+|\n)", data)
    for _ in range(chance.choice((1, 1, 2, 5))):
        place = chance.randrange(len(parts))
        match chance.randrange(5):
            case 0:
                parts[place] = str(chance.choice(NUMBERS)).encode()
            case 1:
                parts[place] = chance.choice(WORDS)
            case 2:
                parts[place] = b""
            case 3:
                parts[place] = parts[chance.randrange(len(parts))]
            case 4:
                parts[place] = parts[place] * chance.choice((2, 50))
    return b"".join(parts)


def spoil_value(chance: random.Random, value: Any, depth: int = 0) -> Any:  # noqa: ANN401 - whatever JSON holds
    """Changes one value somewhere in what JSON holds, or its place."""
    if isinstance(value, dict) and value and (depth < 6 or chance.random() < 0.8):
        key = chance.choice(list(value))
        match chance.randrange(8):
            case 0:
                return {name: one for name, one in value.items() if name != key}
            case 1:
                return value | {str(chance.choice(VALUES)): value[key]}
            case 2:
                return value | {key: chance.choice(VALUES)}
            case _:
                return value | {key: spoil_value(chance, value[key], depth + 1)}
    if isinstance(value, list) and value:
        place = chance.randrange(len(value))
        match chance.randrange(6):
            case 0:
                return value[:place] + value[place + 1 :]
            case 1:
                return value + [value[place]] * chance.choice((1, 3, 100))
            case _:
                return [*value[:place], spoil_value(chance, value[place], depth + 1), *value[place + 1 :]]
    if isinstance(value, str) and value[:1] == "{" and chance.random() < 0.9:  # JSON in JSON, as in safetensors
        return json.dumps(spoil_value(chance, json.loads(value), depth + 1))
    if isinstance(value, int | float) and chance.random() < 0.5:
        return chance.choice((value + 1, value - 1, -value, value * 1000, value / 3))
    return chance.choice(VALUES)


def spoil_json(chance: random.Random, data: bytes) -> bytes:
    """Changes values of JSON, or of a line of JSON lines."""
    lines = [data] if b"\n{" not in data[1:] else data.splitlines(keepends=True)
    place = chance.randrange(len(lines))
    try:
        value = json.loads(lines[place])
    except ValueError:
        return spoil_text(chance, data)
    for _ in range(chance.choice((1, 1, 2))):
        value = spoil_value(chance, value)
    lines[place] = json.dumps(value).encode() + b"\n"
    return b"".join(lines)


def spoil_safetensors(chance: random.Random, data: bytes) -> bytes:
    """Changes values of the header, whose length is made right again."""
    size = int.from_bytes(data[:8], "little")
    header = spoil_value(chance, json.loads(data[8 : 8 + size]))
    packed = json.dumps(header).encode()
    return len(packed).to_bytes(8, "little") + packed + data[8 + size :]


def spoil_png(chance: random.Random, data: bytes) -> bytes:
    """Changes the content of a chunk, or the chunks, with the sums made right again."""
    chunks, place = [], 8
    while place + 8 <= len(data):
        (size,) = struct.unpack(">I", data[place : place + 4])
        chunks.append((data[place + 4 : place + 8], data[place + 8 : place + 8 + size]))
        place += 12 + size
    number = chance.randrange(len(chunks)) if chance.random() < 0.7 else 0
    kind, content = chunks[number]
    match chance.randrange(5):
        case 0:
            chunks.insert(chance.randrange(len(chunks) + 1), chunks[number])
        case 1:
            del chunks[number]
        case 2 if kind == b"IDAT":
            chunks[number] = (kind, zlib.compress(spoil_bytes(chance, zlib.decompress(content))))
        case _:
            chunks[number] = (kind, spoil_bytes(chance, content)[:100_000])
    return data[:8] + b"".join(
        struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))
        for kind, content in chunks
    )


def spoil_zip(chance: random.Random, data: bytes) -> bytes:
    """Changes, removes, renames or repeats a member, with the sums made right again."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        members = [(name, archive.read(name)) for name in archive.namelist()]
    number = chance.randrange(len(members))
    name, content = members[number]
    match chance.randrange(5):
        case 0:
            del members[number]
        case 1:
            members[number] = (chance.choice(("../" + name, name + "\0x", "x", name[: len(name) // 2])), content)
        case _:
            spoil = spoil_json if content[:1] == b"{" else spoil_bytes
            members[number] = (name, spoil(chance, content) if content else b"x")
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        for name, content in members:
            archive.writestr(zipfile.ZipInfo(name or "x"), content)
    return packed.getvalue()


def spoil_tar(chance: random.Random, data: bytes) -> bytes:
    """Changes the header of a member, with its sum made right again."""
    heads = [place for place in range(0, len(data), 512) if data[place + 257 : place + 262] == b"ustar"]
    if not heads:
        return spoil_bytes(chance, data)
    place = chance.choice(heads)
    head = bytearray(data[place : place + 512])
    match chance.randrange(5):
        case 0:
            head[0:100] = chance.choice((b"../../x.png", b"/etc/x.png", b"a\x1b[31m.png", b"\xff.png", b"x")).ljust(
                100, b"\0"
            )
        case 1:
            head[124:136] = chance.choice(
                (b"77777777777\0", b"00000000000\0", b"-0000000001\0", b"\x80" + 10 * b"\xff" + b"\x7f")
            )
        case 2:
            head[156:157] = chance.choice((b"1", b"2", b"3", b"5", b"6", b"g", b"x", b"L", b"S", b"\0"))
        case _:
            head = bytearray(spoil_bytes(chance, bytes(head))[:512].ljust(512, b"\0"))
    head[148:156] = b" " * 8
    head[148:156] = f"{sum(head):06o}\0 ".encode()
    return data[:place] + bytes(head) + data[place + 512 :]


def spoilers(name: str, data: bytes) -> list[Spoil]:
    """The mutators that a file may have, those of its format three times as likely."""
    own: list[Spoil] = []
    if data[:4] == b"\x89PNG":
        own = [spoil_png]
    elif data[:2] == b"PK":
        own = [spoil_zip]
    elif name.endswith(".safetensors"):
        own = [spoil_safetensors]
    elif name.endswith((".json", ".jsonl")):
        own = [spoil_json]
    elif name.endswith((".xml", ".csv", ".txt", ".yaml")):
        own = [spoil_text]
    elif name.endswith(".tar"):
        own = [spoil_tar]
    return [spoil_bytes, cut, *own * 6] if own else [spoil_bytes, spoil_bytes, spoil_bytes, cut]


def spoil(chance: random.Random, files: dict[str, bytes], names: list[str]) -> dict[str, bytes]:
    """Spoils one of some files; often once, at times several times."""
    spoilt = dict(files)
    for _ in range(chance.choice((1, 1, 1, 2, 3))):
        name = chance.choice(names)
        for attempt in range(3):
            try:
                spoilt[name] = chance.choice(spoilers(name, spoilt[name]))(chance, spoilt[name])
                break
            except Exception:  # too spoilt already for its format
                if attempt == 2:
                    spoilt[name] = spoil_bytes(chance, spoilt[name])
    return spoilt
