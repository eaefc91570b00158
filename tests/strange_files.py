"""Image files that people have, one kind a row: how each is read, or why it is refused; docs/data.md shows them."""

import io
import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image


@dataclass(frozen=True, kw_only=True)
class StrangeFile:
    """A kind of file, of 4x4 pixels, with the colour of its first pixel as it is read; None where it is refused."""

    what: str
    made: Callable[[], bytes]
    first: tuple[int, int, int] | None = None
    says: str
    "How it is read; or the message, with the remedy."


GREY = np.full((4, 4), 128, np.uint8)
DEEP = np.full((4, 4), 0x8080, np.uint16)
RED = Image.new("RGB", (4, 4), (200, 10, 30))


def pillow(image: Image.Image, kind: str, **options: Any) -> Callable[[], bytes]:  # noqa: ANN401 - of Pillow
    def made() -> bytes:
        encoded = io.BytesIO()
        image.save(encoded, kind, **options)
        return encoded.getvalue()

    return made


def tiff(
    pixels: bytes, *, bits: int, photometric: int = 1, sample_format: int = 1, order: str = "<", samples: int = 1
) -> Callable[[], bytes]:
    """A TIFF of 4x4 pixels, written out: Pillow writes few of its kinds."""
    tags = [
        (256, 3, 4), (257, 3, 4), (258, 3, bits), (259, 3, 1), (262, 3, photometric), (273, 4, 8), (277, 3, samples),
        (278, 3, 4), (279, 4, len(pixels)), (339, 3, sample_format),
    ]  # fmt: skip

    def made() -> bytes:
        entries = b""
        for tag, kind, value in tags:
            packed = struct.pack(f"{order}HH" if kind == 3 else f"{order}I", *((value, 0) if kind == 3 else (value,)))
            entries += struct.pack(f"{order}HHI", tag, kind, 1) + packed
        mark = b"II*\0" if order == "<" else b"MM\0*"
        head = mark + struct.pack(f"{order}I", 8 + len(pixels))
        return head + pixels + struct.pack(f"{order}H", len(tags)) + entries + bytes(4)

    return made


def chunk(kind: bytes, content: bytes) -> bytes:
    """A part of a PNG."""
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def seen_through(value: int) -> bytes:
    """A PNG of 16-bit grey whose first pixel has the transparent colour."""
    pixels = DEEP.copy()
    pixels[0, 0] = value
    return pillow(Image.fromarray(pixels), "PNG", transparency=value)()


def rgb_seen_through() -> bytes:
    image = RED.copy()
    image.putpixel((0, 0), (1, 2, 3))
    return pillow(image, "PNG", transparency=(1, 2, 3))()


ROWS = [
    StrangeFile(
        what="16-bit grey, PNG or TIFF",
        made=pillow(Image.fromarray(DEEP), "PNG"),
        first=(128, 128, 128),
        says="scaled to 8 bits; the doctor and `predict` warn: with fewer bits in use it comes out dark",
    ),
    StrangeFile(
        what="16-bit grey with a transparent colour",
        made=lambda: seen_through(0),
        first=(255, 255, 255),
        says="transparent pixels are white",
    ),
    StrangeFile(what="RGB with a transparent colour", made=rgb_seen_through, first=(255, 255, 255), says="the same"),
    StrangeFile(
        what="TIFF of 12 bits",
        made=tiff(bytes([0xFF, 0xFF, 0xFF]) * 8, bits=12),
        first=(255, 255, 255),
        says="scaled by its 12 bits",
    ),
    StrangeFile(
        what="TIFF of 16 bits in which 0 is white",
        made=tiff(bytes(32), bits=16, photometric=0),
        first=(255, 255, 255),
        says="inverted",
    ),
    StrangeFile(
        what="TIFF of 8 bits in which 0 is white",
        made=tiff(bytes(16), bits=8, photometric=0),
        first=(255, 255, 255),
        says="inverted",
    ),
    StrangeFile(
        what="TIFF of 16 bits, the high byte first",
        made=tiff(bytes([0xFF, 0x00]) * 16, bits=16, order=">"),
        first=(254, 254, 254),
        says="scaled to 8 bits",
    ),
    StrangeFile(
        what="TIFF of signed 16 bits",
        made=tiff(bytes(32), bits=16, sample_format=2),
        says="its pixels are signed numbers of 16 bits: convert it to 8 or 16 bits without sign",
    ),
    StrangeFile(
        what="TIFF of 32-bit floats",
        made=pillow(Image.new("F", (4, 4)), "TIFF"),
        says="its pixels are floats of no stated range: convert it to 8 or 16 bits",
    ),
    StrangeFile(
        what="TIFF of 32-bit integers",
        made=pillow(Image.new("I", (4, 4)), "TIFF"),
        says="its pixels are signed numbers of 32 bits: convert it to 8 or 16 bits without sign",
    ),
    StrangeFile(
        what="TIFF of pixels that nobody reads",
        made=tiff(bytes(64), bits=64, sample_format=3),
        says="it is a TIFF with pixels that are not read, such as floats: convert it to 8 bits a channel",
    ),
    StrangeFile(
        what="OpenEXR, Radiance HDR",
        made=lambda: b"v/1\x01" + bytes(60),
        says="it is OpenEXR, of floats, which is not read: convert it to JPEG or PNG",
    ),
    StrangeFile(
        what="HEIC without pillow-heif",
        made=lambda: b"\0\0\0\x18ftypheic" + bytes(60),
        says="it is HEIC, which needs pillow-heif: pip install pillow-heif, or convert it to JPEG",
    ),
    StrangeFile(
        what="more than 100 megapixels, unless --max-pixels says more",
        made=lambda: (
            b"\x89PNG\r\n\x1a\n"
            + chunk(b"IHDR", struct.pack(">IIBBBBB", 20_000, 20_000, 1, 0, 0, 0, 0))
            + chunk(b"IDAT", b"")
        ),
        says="it has more pixels than the 100,000,000 that are decoded: shrink it, or give --max-pixels",
    ),
    StrangeFile(
        what="a page of HTML, a pointer of Git LFS, a Zip",
        made=lambda: b"<!DOCTYPE html>" + bytes(60),
        says="it is a page of HTML, which is not read: convert it to JPEG or PNG",
    ),
]
"""The kinds of files that are read in a way of their own, and those that are refused."""
