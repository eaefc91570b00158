"""Decoding whatever people have, upright and in RGB."""

import io
import os
import re
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from PIL import EpsImagePlugin, Image, ImageOps

import verydeep
from conftest import picture
from strange_files import ROWS, pillow
from verydeep.data.doctor.scan import scan_file
from verydeep.errors import UsageError, UserError
from verydeep.images.decode import (
    FORMATS,
    MOST_PIXELS_VARIABLE,
    DamagedImageError,
    decode_pixels,
    is_image_file,
    limit_pixels,
    most_pixels,
    read_image,
    to_rgb,
)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied(orientation, tmp_path):
    upright = picture(0, 60, 40)
    stored = {
        1: None, 2: Image.Transpose.FLIP_LEFT_RIGHT, 3: Image.Transpose.ROTATE_180, 4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE, 6: Image.Transpose.ROTATE_90, 7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }[orientation]  # fmt: skip
    exif = Image.Exif()
    exif[0x0112] = orientation
    (upright if stored is None else upright.transpose(stored)).save(tmp_path / "turned.png", exif=exif)
    assert np.array_equal(np.asarray(read_image(tmp_path / "turned.png")), np.asarray(upright))


GREY = np.linspace(0, 255, 64, dtype=np.uint8).reshape(8, 8)


@pytest.mark.parametrize(
    ("image", "suffix", "expected", "tolerance"),
    [
        (Image.fromarray(GREY), "png", np.stack([GREY] * 3, -1), 0),
        (Image.fromarray(GREY > 127), "png", np.stack([(GREY > 127) * 255] * 3, -1), 0),
        (Image.fromarray(GREY.astype(np.uint16) * 257), "png", np.stack([GREY] * 3, -1), 0),
        (Image.fromarray(GREY.astype(np.uint16) * 257), "tiff", np.stack([GREY] * 3, -1), 0),
        (picture(1, 8, 8).convert("CMYK"), "tiff", np.asarray(picture(1, 8, 8)), 0),
        (picture(1, 64, 64).convert("YCbCr"), "jpg", np.asarray(picture(1, 64, 64)), 40),
        (picture(1, 8, 8).quantize(64), "png", np.asarray(picture(1, 8, 8).quantize(64).convert("RGB")), 0),
    ],
    ids=["grey", "bilevel", "16-bit png", "16-bit tiff", "cmyk", "ycbcr", "palette"],
)
def test_every_mode_becomes_rgb(image, suffix, expected, tolerance, tmp_path):
    file = tmp_path / f"image.{suffix}"
    image.save(file)
    read = read_image(file)
    assert read.mode == "RGB"
    assert np.abs(np.asarray(read).astype(int) - expected).max() <= tolerance


def test_sixteen_bits_of_a_pgm_become_eight():
    encoded = b"P5\n8 8\n65535\n" + (GREY.astype(">u2") * 257).tobytes()
    assert np.array_equal(decode_pixels(encoded, "a.pgm"), np.stack([GREY] * 3, -1))


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
def test_transparent_pixels_lie_over_white(mode, tmp_path):
    image = Image.new("RGBA", (4, 4), (10, 20, 30, 0))
    image.putpixel((0, 0), (10, 20, 30, 255))
    if mode == "P":
        image = image.convert("RGB").quantize(4)
        image.info["transparency"] = image.getpixel((3, 3))
        image.putpixel((0, 0), 1)
        image.save(tmp_path / "image.png", transparency=image.getpixel((3, 3)))
    else:
        image.convert(mode).save(tmp_path / "image.png")
    read = read_image(tmp_path / "image.png")
    assert read.getpixel((3, 3)) == (255, 255, 255)
    assert read.getpixel((0, 0)) != (255, 255, 255)


@pytest.mark.parametrize("mode", ["I", "F"])
def test_pixels_of_no_stated_range_are_refused(mode):
    with pytest.raises(DamagedImageError, match="8 or 16 bits"):
        to_rgb(Image.new(mode, (4, 4)))


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.what)
def test_a_strange_file_is_read_as_it_is_meant_or_refused_with_the_remedy(row, tmp_path):
    if row.first is not None:
        assert tuple(decode_pixels(row.made(), "x")[0, 0]) == row.first
        return
    with pytest.raises(DamagedImageError) as refused:
        decode_pixels(row.made(), "x")
    assert str(refused.value) == f"x cannot be read as an image: {row.says}"


def truncated(file):
    picture(2, 200, 200).save(file, "JPEG", quality=95)
    data = file.read_bytes()
    file.write_bytes(data[: len(data) // 2])


@pytest.mark.parametrize(
    ("spoil", "complaint"),
    [
        (lambda file: file.write_text("holiday"), "cannot identify"),
        (lambda file: file.write_bytes(b""), "it is empty"),
        (truncated, "truncated"),
        (lambda file: file.write_bytes(b"\xff\xd8\xff\xe0" + bytes(50)), "cannot be read as an image"),
        (lambda file: Image.new("F", (4, 4)).save(file, "TIFF"), "8 or 16 bits"),
    ],
    ids=["text", "zero bytes", "truncated", "header alone", "float tiff"],
)
def test_damaged_files_are_named(spoil, complaint, tmp_path):
    file = tmp_path / "holiday.jpg"
    spoil(file)
    with pytest.raises(DamagedImageError, match=complaint):
        read_image(file)


@pytest.mark.parametrize("kind", [*FORMATS, "MPO"])
def test_formats_are_read_whatever_the_name(kind, tmp_path):
    file = tmp_path / "image.dat"
    picture(3, 40, 30).save(file, kind)
    read = np.asarray(read_image(file)).astype(int)
    assert np.abs(read - np.asarray(picture(3, 40, 30))).mean() < 30


def test_no_program_is_started_for_a_file(tmp_path, monkeypatch):
    """Pillow hands whatever begins like PostScript to Ghostscript, and asks no one."""
    started = []
    monkeypatch.setattr(
        EpsImagePlugin, "Ghostscript", lambda *given: started.append(given) or Image.new("RGB", (8, 8)).im
    )
    file = tmp_path / "photo.jpg"
    picture(4, 8, 8).save(file, "EPS")
    with Image.open(file) as image:
        image.load()
    assert len(started) == 1
    with pytest.raises(DamagedImageError) as caught:
        read_image(file)
    formats = "JPEG, PNG, BMP, GIF, TIFF, WEBP, AVIF, JPEG2000, PPM"
    assert str(caught.value) == f"{file} cannot be read as an image: cannot identify its format: none of {formats}"
    assert "cannot identify its format" in scan_file(file).damage
    assert len(started) == 1


def test_one_function_opens_images():
    source = Path(verydeep.__file__).parent
    opening = {file.name: len(re.findall(r"Image\.open\(", file.read_text())) for file in source.rglob("*.py")}
    assert {name: count for name, count in opening.items() if count} == {"decode.py": 1}


def test_missing_file_and_folder(tmp_path):
    with pytest.raises(UserError, match="no such file"):
        read_image(tmp_path / "none.jpg")
    with pytest.raises(UserError, match="is a folder"):
        read_image(tmp_path)


def test_hidden_files_and_other_endings_are_no_images(tmp_path):
    names = ["a.JPG", "b.jpeg", ".c.jpg", "._d.png", "Thumbs.db", "e.txt", "f"]
    assert [name for name in names if is_image_file(tmp_path / name)] == ["a.JPG", "b.jpeg"]


def test_real_photographs_are_read_upright(shared_photos):
    turned = 0
    for file in shared_photos:
        image = read_image(file)
        with Image.open(file) as raw:
            turned += image.size != raw.size
        assert image.mode == "RGB"
    assert turned == 1


@pytest.mark.parametrize("kind", ["PNG", "GIF", "TIFF", "WEBP", "BMP", "JPEG2000"])
def test_more_pixels_than_are_decoded_are_refused_before_they_are(kind, tmp_path, monkeypatch):
    file = tmp_path / "bomb.dat"
    picture(3, 40, 30).save(file, kind)
    monkeypatch.setenv(MOST_PIXELS_VARIABLE, "1199")
    monkeypatch.setattr("PIL.ImageFile.ImageFile.load", None)  # whoever decoded would fail by this
    with pytest.raises(DamagedImageError) as refused:
        read_image(file)
    assert str(refused.value) == (
        f"{file} cannot be read as an image: its 40x30 pixels are more than the 1,199 that are decoded: shrink it, or "
        "give --max-pixels 1200"
    )
    assert scan_file(file).too_large


def test_the_limit_is_100_million_and_can_be_set_for_all_processes(tmp_path, monkeypatch):
    monkeypatch.delenv(MOST_PIXELS_VARIABLE, raising=False)
    assert most_pixels() == 100_000_000
    monkeypatch.setenv(MOST_PIXELS_VARIABLE, "many")
    with pytest.raises(UsageError, match=r"VERYDEEP_MAX_PIXELS=many: give a number of pixels, such as 200000000$"):
        most_pixels()
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    limit_pixels(1200)
    assert (os.environ[MOST_PIXELS_VARIABLE], Image.MAX_IMAGE_PIXELS) == ("1200", 1200)
    picture(3, 40, 30).save(tmp_path / "a.png")
    assert read_image(tmp_path / "a.png").size == (40, 30)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize(
    ("image", "options"),
    [
        (picture(5, 40, 30), {}),
        (picture(5, 40, 30).convert("P"), {"transparency": 3}),
        (picture(5, 40, 30).convert("L"), {"transparency": 90}),
        (picture(5, 40, 30).convert("LA"), {}),
        (Image.fromarray(np.arange(1200, dtype=np.uint16).reshape(30, 40) * 50), {"transparency": 500}),
    ],
    ids=["rgb", "palette", "grey", "alpha", "deep"],
)
def test_bands_of_rows_give_what_the_whole_gives(image, options, orientation, tmp_path, monkeypatch):
    exif = Image.Exif()
    exif[0x0112] = orientation
    image.save(tmp_path / "a.png", exif=exif, **options)
    with Image.open(tmp_path / "a.png") as opened:
        expected = np.asarray(to_rgb(ImageOps.exif_transpose(opened), opened))
    assert np.array_equal(read_image(tmp_path / "a.png"), expected)
    monkeypatch.setattr("verydeep.images.decode._BAND_PIXELS", 7 * 40)
    assert np.array_equal(read_image(tmp_path / "a.png"), expected)


def test_too_little_memory_for_one_image_is_a_fault_of_that_image(tmp_path, monkeypatch):
    def full(*_):
        raise MemoryError

    picture(3, 40, 30).save(tmp_path / "a.png")
    monkeypatch.setattr("PIL.ImageFile.ImageFile.load", full)
    with pytest.raises(DamagedImageError, match=r"a.png cannot be read as an image: there is not the memory for its"):
        read_image(tmp_path / "a.png")
    assert scan_file(tmp_path / "a.png").damage == "there is not the memory for its pixels"


@pytest.mark.parametrize("name", ["a\0b.png", "a\ud800b.png"], ids=["null", "half a pair"])
def test_a_name_that_no_file_can_have_is_damage(name):
    with pytest.raises(DamagedImageError, match=r"^a\ufffdb.png cannot be read: no file can have this name$"):
        read_image(name)


def test_libtiff_prints_nothing(tmp_path, capfd):
    spoilt = bytearray(pillow(picture(3, 64, 64), "TIFF", compression="tiff_lzw")())
    for place in range(300, 900, 7):
        spoilt[place] ^= 0x5A
    with suppress(DamagedImageError):
        decode_pixels(bytes(spoilt), "x")
    with Image.open(io.BytesIO(bytes(spoilt))) as image, suppress(OSError):
        image.load()
    assert capfd.readouterr() == ("", "")
