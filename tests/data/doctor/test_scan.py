"""What one file says about itself, in every way an image can be stored."""

import struct
import zlib

import imagehash
import numpy as np
import pytest
from PIL import Image

from conftest import picture, scene
from verydeep.data.doctor.rules import file_findings
from verydeep.data.doctor.scan import scan_file
from verydeep.images.decode import DamagedImageError, read_image


def png(width, height, depth, colour, data):
    """A PNG file, made by hand: Pillow writes no 16-bit colours."""

    def chunk(kind, content):
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(data)) + chunk(b"IEND", b"")


@pytest.mark.parametrize(
    ("mode", "suffix"),
    [
        ("RGB", "jpg"), ("L", "jpg"), ("CMYK", "jpg"), ("RGB", "png"), ("RGBA", "png"), ("P", "png"), ("1", "png"),
        ("LA", "png"), ("RGB", "webp"), ("P", "gif"), ("RGB", "bmp"), ("RGB", "tif"), ("CMYK", "tif"), ("L", "pgm"),
    ],
)  # fmt: skip
def test_modes_and_sizes(mode, suffix, tmp_path):
    file = tmp_path / f"a.{suffix}"
    scene(0, 90, 60).convert(mode).save(file)
    facts = scan_file(file)
    assert (facts.mode, facts.width, facts.height) == (mode, 90, 60)
    assert (facts.orientation, facts.sixteen_bits, facts.damage) == (1, False, "")
    assert facts.size == file.stat().st_size
    assert len(facts.perceptual_hash) == len(facts.digest) == 64


def test_sixteen_bits(tmp_path):
    grey = np.arange(40 * 40, dtype=np.uint16).reshape(40, 40) * 40
    Image.fromarray(grey).save(tmp_path / "grey.png")
    Image.fromarray(grey).save(tmp_path / "grey.tif")
    rows = b"".join(b"\0" + bytes(np.repeat(row, 3).astype(">u2").tobytes()) for row in grey)
    (tmp_path / "colour.png").write_bytes(png(40, 40, 16, 2, rows))
    found = [scan_file(tmp_path / name) for name in ("grey.png", "grey.tif", "colour.png")]
    assert all(facts.sixteen_bits and not facts.damage for facts in found)


@pytest.mark.parametrize(("tag", "orientation"), [(1, 1), (3, 3), (6, 6), (8, 8), (0, 1), (77, 1)])
def test_orientation(tag, orientation, tmp_path):
    exif = Image.Exif()
    exif[0x0112] = tag
    scene(0).save(tmp_path / "a.jpg", exif=exif)
    assert scan_file(tmp_path / "a.jpg").orientation == orientation


@pytest.mark.parametrize("seed", range(4))
def test_the_hash_is_that_of_imagehash(tmp_path, seed):
    image = scene(seed, 120, 90)
    image.save(tmp_path / "scene.png")
    expected = imagehash.phash(image.convert("L"), hash_size=16, highfreq_factor=2)
    assert scan_file(tmp_path / "scene.png").perceptual_hash == np.packbits(expected.hash).tobytes().hex()


def test_the_hash_is_that_of_the_upright_picture(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    scene(0).save(tmp_path / "upright.png")
    scene(0).transpose(Image.Transpose.ROTATE_90).save(tmp_path / "turned.png", exif=exif)
    assert scan_file(tmp_path / "turned.png").perceptual_hash == scan_file(tmp_path / "upright.png").perceptual_hash


@pytest.mark.parametrize("name", ["cut.jpg", "cut.png", "text.jpg", "empty.gif", "float.tif", "head.jpg"])
def test_damage_is_what_reading_calls_damage(name, tmp_path):
    file = tmp_path / name
    scene(0, 400, 300).save(file.with_suffix(".jpg"))
    scene(0, 400, 300).save(file.with_suffix(".png"))
    match name:
        case "cut.jpg" | "cut.png":
            file.write_bytes(file.read_bytes()[:-2000])
        case "head.jpg":
            file.write_bytes(file.read_bytes()[:300])
        case "text.jpg":
            file.write_text("no image")
        case "empty.gif":
            file.touch()
        case "float.tif":
            Image.fromarray(np.ones((40, 40), dtype=np.float32)).save(file)
    with pytest.raises(DamagedImageError) as damage:
        read_image(file)
    facts = scan_file(file)
    assert facts.damage
    assert str(damage.value).endswith(facts.damage)
    assert facts.perceptual_hash == ""


def test_a_file_that_is_not_there(tmp_path):
    assert scan_file(tmp_path / "none.jpg").damage == f"no such file: {tmp_path / 'none.jpg'}"


def test_more_pixels_than_are_decoded_for_safety(tmp_path):
    (tmp_path / "bomb.png").write_bytes(png(30_000, 30_000, 1, 0, b""))
    facts = scan_file(tmp_path / "bomb.png")
    assert facts.too_large
    (finding,) = file_findings({"bomb.png": facts})
    assert (finding.kind, finding.severity) == ("huge", "fatal")


def test_a_blank_picture_has_no_hash(tmp_path):
    Image.new("RGB", (50, 50), "white").save(tmp_path / "white.png")
    assert scan_file(tmp_path / "white.png").perceptual_hash == ""


@pytest.mark.parametrize(
    ("sizes", "odd"),
    [
        ([(100, 100)] * 9 + [(3024, 3024)], {"huge": 1}),
        ([(3024, 3024)] * 9, {}),
        ([(2000, 1500)] * 9 + [(2600, 2000)], {}),
        ([(32, 32)] * 9 + [(16, 20)], {"tiny": 1}),
        ([(28, 28)] * 9, {}),
        ([(32, 32)] * 9 + [(20, 20)], {}),
        ([(640, 480)] * 9 + [(100, 59)], {"tiny": 1}),
        ([(64, 64)] * 9 + [(7000, 34)], {"strip": 1}),
        ([(640, 480)] * 9 + [(100, 61)], {}),
        ([(500, 400)] * 4 + [(8000, 7000)], {"huge": 1}),
    ],
)
def test_sizes_are_odd_beside_the_others(sizes, odd, tmp_path):
    picture(0, 8, 8).save(tmp_path / "a.png")
    some = scan_file(tmp_path / "a.png")
    facts = {
        str(number): type(some)(size=1, width=width, height=height, mode="RGB")
        for number, (width, height) in enumerate(sizes)
    }
    assert {finding.kind: len(finding.files) for finding in file_findings(facts)} == odd
