"""JPEG files: decoded here or left to Pillow, the pixels and the complaints are Pillow's."""

import io

import numpy as np
import pytest
from PIL import Image, ImageOps

from conftest import scene
from verydeep.data.doctor.rules import file_findings
from verydeep.data.doctor.scan import scan_file
from verydeep.images import jpeg
from verydeep.images.decode import DamagedImageError, decode_pixels, read_image
from verydeep.images.jpeg import CorruptImageWarning, corruption, decode_plain

pytestmark = [
    pytest.mark.skipif(jpeg.simplejpeg is None, reason="simplejpeg has no wheel for this platform"),
    pytest.mark.filterwarnings("ignore::verydeep.images.jpeg.CorruptImageWarning"),
]


def encoded(image, **how):
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", **how)
    return buffer.getvalue()


def by_pillow(data):
    with Image.open(io.BytesIO(data)) as image:
        return np.asarray(ImageOps.exif_transpose(image).convert("RGB"))


def is_plain(data):
    with Image.open(io.BytesIO(data)) as image:
        return decode_plain(data, image.size) is not None


def with_orientation(number):
    exif = Image.Exif()
    exif[0x0112] = number
    return exif


COLOURS = scene(1, 83, 61)
PLAIN = {
    "4:4:4": encoded(COLOURS, subsampling=0),
    "4:2:2": encoded(COLOURS, subsampling=1),
    "4:2:0": encoded(COLOURS, subsampling=2),
    "progressive": encoded(COLOURS, progressive=True),
    "poor": encoded(COLOURS, quality=5),
    "best": encoded(COLOURS, quality=100),
    "optimised": encoded(COLOURS, optimize=True),
    "restarts": encoded(COLOURS, restart_marker_rows=1),
    "grey": encoded(COLOURS.convert("L")),
    "icc": encoded(COLOURS, icc_profile=b"\0" * 200),
    "upright": encoded(COLOURS, exif=with_orientation(1)),
    "turned": encoded(COLOURS, exif=with_orientation(6)),
    "mirrored": encoded(COLOURS, exif=with_orientation(2)),
    "one pixel": encoded(COLOURS.resize((1, 1))),
    "one row": encoded(COLOURS.resize((40, 1))),
}
OTHER = {
    "cmyk": encoded(COLOURS.convert("CMYK")),
    "rgb": encoded(COLOURS, keep_rgb=True),
}


@pytest.mark.parametrize("data", [*PLAIN.values(), *OTHER.values()], ids=[*PLAIN, *OTHER])
def test_the_pixels_are_pillows(data, tmp_path):
    pixels = decode_pixels(data, "it")
    assert pixels.dtype == np.uint8
    assert np.array_equal(pixels, by_pillow(data))
    (tmp_path / "it.jpg").write_bytes(data)
    assert np.array_equal(np.asarray(read_image(tmp_path / "it.jpg")), pixels)


@pytest.mark.parametrize("data", PLAIN.values(), ids=PLAIN)
def test_what_is_plain_is_decoded_here(data):
    assert is_plain(data)


@pytest.mark.parametrize("data", OTHER.values(), ids=OTHER)
def test_what_is_not_plain_is_left_to_pillow(data):
    assert not is_plain(data)


def test_other_formats_are_left_to_pillow():
    buffer = io.BytesIO()
    COLOURS.save(buffer, "PNG")
    assert not is_plain(buffer.getvalue())


def outcome(data):
    try:
        return decode_pixels(data, "it").tobytes()
    except DamagedImageError as error:
        return str(error)


def damaged(name):
    """The file cut off at many places, and with bytes overwritten."""
    data = PLAIN[name]
    generator = np.random.default_rng(0)
    for end in [*range(1, len(data), max(1, len(data) // 40)), *range(len(data) - 6, len(data))]:
        yield data[:end]
    for _ in range(60):
        spoilt = bytearray(data)
        for place in generator.integers(2, len(data), 3):
            spoilt[place] = generator.integers(256)
        yield bytes(spoilt)


@pytest.mark.parametrize("name", ["4:4:4", "4:2:0", "progressive", "grey", "restarts"])
def test_damaged_files_are_refused_in_the_same_words_or_give_the_same_pixels(name, monkeypatch):
    spoilt = list(damaged(name))
    found = [outcome(data) for data in spoilt]
    monkeypatch.setattr(jpeg, "simplejpeg", None)
    differing = [number for number, data in enumerate(spoilt) if outcome(data) != found[number]]
    assert not differing
    assert sum(isinstance(one, str) and "truncated" in one for one in found) > 10


def test_without_the_decoder_pillow_gives_the_same(monkeypatch):
    pixels = {name: decode_pixels(data, name) for name, data in PLAIN.items()}
    monkeypatch.setattr(jpeg, "simplejpeg", None)
    assert not is_plain(PLAIN["4:2:0"])
    assert all(np.array_equal(decode_pixels(data, name), pixels[name]) for name, data in PLAIN.items())


def test_photographs_are_pillows(shared_photos):
    for file in shared_photos:
        data = file.read_bytes()
        assert np.array_equal(decode_pixels(data, file.name), by_pillow(data))


def corrupt():
    """A JPEG that Pillow reads without a word, and libjpeg calls corrupt."""
    data = encoded(COLOURS, subsampling=0, quality=95)
    for spoilt in damaged("4:4:4"):
        if corruption(spoilt) is not None and not isinstance(outcome(spoilt), str):
            return spoilt
    raise AssertionError(len(data))


@pytest.mark.filterwarnings("default::verydeep.images.jpeg.CorruptImageWarning")
def test_a_corrupt_file_is_read_and_named(tmp_path):
    file = tmp_path / "holiday.jpg"
    file.write_bytes(corrupt())
    with pytest.warns(
        CorruptImageWarning, match=r"holiday.jpg is corrupt \(.+\): its pixels are read as far as they go"
    ):
        read_image(file)
    facts = scan_file(file)
    assert facts.corruption
    assert not facts.damage
    (finding,) = [one for one in file_findings({"holiday.jpg": facts}) if one.kind == "corrupt"]
    assert (finding.severity, finding.files) == ("warning", ["holiday.jpg"])
    assert finding.message.startswith("1 JPEG file that libjpeg calls corrupt: read as far as they go")


@pytest.mark.parametrize("data", [*PLAIN.values(), *OTHER.values()], ids=[*PLAIN, *OTHER])
def test_what_is_not_corrupt_is_not_called_so(data):
    assert corruption(data) is None


def test_many_scans_of_a_large_image_are_refused(tmp_path, monkeypatch):
    """A few hundred kilobytes that go over a hundred million pixels a thousand times."""
    monkeypatch.setattr("verydeep.images.jpeg._MOST_SCANNED", 12 * 83 * 61)
    assert decode_pixels(PLAIN["progressive"], "x").shape == (61, 83, 3)
    data = PLAIN["progressive"]
    begin = data.rindex(b"\xff\xda")
    many = data[:begin] + 20 * data[begin:-2] + data[-2:]
    file = tmp_path / "many.jpg"
    file.write_bytes(many)
    with pytest.raises(
        DamagedImageError, match=r"many.jpg cannot be read as an image: it has 5,063 pixels in \d\d scans"
    ):
        read_image(file)
    assert "5,063 pixels in" in scan_file(file).damage
