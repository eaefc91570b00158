"""The window of a rescaled image: against Pillow's resize of the whole, for every kind of vector."""

import os
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from conftest import pillow_rescale, scene
from verydeep.errors import UsageError
from verydeep.images import resample as module
from verydeep.images.geometry import rescaled_size
from verydeep.images.resample import KINDS, find_library, resample


@pytest.fixture(params=[*KINDS, "none"])
def kind(request, monkeypatch):
    """Each kind of vector that was built and that this processor has, and Pillow."""
    monkeypatch.setenv("VERYDEEP_RESAMPLE", request.param)
    try:
        library = find_library()
    except UsageError as error:
        pytest.skip(str(error))
    assert library is (None if request.param == "none" else module._loaded(request.param))
    return request.param


def noise(width, height):
    return np.random.default_rng([width, height]).integers(0, 256, (height, width, 3), dtype=np.uint8)


def by_pillow(pixels, size):
    """Rows, then columns, as every Pillow resamples; from 13 on, columns first in some images that are tall."""
    rows = Image.fromarray(pixels).resize((size[0], len(pixels)), Image.Resampling.BILINEAR)
    return np.asarray(rows.resize(size, Image.Resampling.BILINEAR))


SIZES = [(1, 1), (1, 9), (2, 7), (5, 3), (33, 17), (64, 64), (61, 130), (300, 20)]


@pytest.mark.parametrize("given_size", SIZES)
@pytest.mark.parametrize("size", SIZES)
def test_the_whole_is_pillows_to_the_last_bit(kind, given_size, size):
    pixels = noise(*given_size)
    difference = np.abs(resample(pixels, size, (0, 0, *size)).astype(int) - by_pillow(pixels, size))
    assert difference.max() <= (kind == "none")


def test_a_window_is_that_of_the_whole(kind):
    generator = np.random.default_rng(0)
    for _ in range(60):
        pixels = noise(*generator.integers(1, 90, 2).tolist())
        size = tuple(generator.integers(1, 90, 2).tolist())
        width, height = (int(generator.integers(1, side + 1)) for side in size)
        left, top = int(generator.integers(size[0] - width + 1)), int(generator.integers(size[1] - height + 1))
        expected = by_pillow(pixels, size)[top : top + height, left : left + width].astype(int)
        window = resample(pixels, size, (left, top, width, height))
        difference = np.abs(window - expected)
        assert difference.max() <= (kind == "none")  # Pillow's box is a float32, and its columns may come first


@given(
    st.tuples(st.integers(1, 80), st.integers(1, 80)),
    st.tuples(st.integers(1, 80), st.integers(1, 80)),
    st.booleans(),
    st.tuples(*[st.integers(-300, 300)] * 3),
)
@settings(max_examples=60)
def test_mirror_and_shift(given_size, size, mirrored, shift):
    pixels = noise(*given_size)
    expected = by_pillow(pixels, size)[:, :: -1 if mirrored else 1].astype(int) + np.array(shift)
    made = resample(pixels, size, (0, 0, *size), mirrored=mirrored, shift=np.array(shift))
    assert np.abs(made - np.clip(expected, 0, 255)).max() <= (find_library() is None)


def test_every_kind_mirrors_and_shifts(kind):
    pixels = np.asarray(scene(0, 90, 60))
    expected = by_pillow(pixels, (45, 30))[:, ::-1].astype(int) + np.array([9, -20, 100])
    made = resample(pixels, (45, 30), (0, 0, 45, 30), mirrored=True, shift=np.array([9, -20, 100]))
    assert np.array_equal(made, np.clip(expected, 0, 255))


def test_pixels_that_do_not_lie_together(kind):
    pixels = noise(60, 40)[::2, ::-1]
    assert np.array_equal(resample(pixels, (30, 10), (0, 0, 30, 10)), by_pillow(np.ascontiguousarray(pixels), (30, 10)))


def test_photographs_by_pillow_in_one_call(shared_photos, kind):
    """What the paper's rescale gives by Pillow: equal but in tall images, where Pillow 13 begins with the columns."""
    for file in shared_photos[:10]:
        with Image.open(file) as image:
            colours = image.convert("RGB")
        size = rescaled_size(colours.size, 96)
        whole = np.asarray(pillow_rescale(colours, 96)).astype(int)
        for window in ((0, 0, *size), (9, 5, 64, 64)):
            left, top, width, height = window
            difference = resample(np.asarray(colours), size, window) - whole[top : top + height, left : left + width]
            assert np.abs(difference).max() <= 1
            assert np.abs(difference).mean() <= 0.3


def test_the_given_pixels_where_nothing_is_rescaled(kind):
    pixels = noise(20, 10)
    assert np.array_equal(resample(pixels, (20, 10), (3, 2, 5, 6)), pixels[2:8, 3:8])


def test_a_kind_that_cannot_be_is_a_mistake(monkeypatch):
    monkeypatch.setenv("VERYDEEP_RESAMPLE", "bogus")
    with pytest.raises(UsageError, match="VERYDEEP_RESAMPLE=bogus: choose one of avx512, avx2, plain or none"):
        find_library()
    monkeypatch.setenv("VERYDEEP_RESAMPLE", "avx512")
    monkeypatch.setattr(module, "_loaded", lambda kind: SimpleNamespace(verydeep_vectors=lambda: 1))
    with pytest.raises(UsageError, match="VERYDEEP_RESAMPLE=avx512: this processor can run avx2, plain"):
        find_library()
    monkeypatch.setattr(module, "_loaded", lambda kind: None)
    with pytest.raises(UsageError, match=r"VERYDEEP_RESAMPLE=avx512: it was not built: install a C\+\+ compiler"):
        find_library()
    monkeypatch.delenv("VERYDEEP_RESAMPLE")
    assert find_library() is None


def test_a_library_of_another_source_is_not_used(monkeypatch, tmp_path):
    if find_library() is None:
        pytest.skip("there is no library")
    for file in module._HERE.glob("_resample_*.so"):
        (tmp_path / file.name).write_bytes(file.read_bytes())
    (tmp_path / "resample.cpp").write_text("// another")
    monkeypatch.setattr(module, "_HERE", tmp_path)
    module._loaded.cache_clear()
    assert find_library() is None
    module._loaded.cache_clear()


def test_a_window_far_along_a_long_image(kind):
    """Places beyond 2^31 bytes: constant pixels stay constant, whatever lies behind the image."""
    pixels = np.full((1, 4_000_000, 3), 7, dtype=np.uint8)
    size = (512 * 4_000_000, 512)
    for left in (0, size[0] // 2, size[0] - 32):
        window = resample(pixels, size, (left, 480, 32, 32), shift=np.array([0, 10**9, -(10**9)]))
        assert (window == (7, 255, 0)).all()


@pytest.mark.parametrize(
    ("size", "window"),
    [
        ((8, 8), (-1, 0, 2, 2)),
        ((8, 8), (0, 7, 2, 2)),
        ((8, 8), (0, 0, 0, 2)),
        ((2**32 + 8, 8), (0, 0, 2, 2)),
    ],
)
def test_a_window_outside_the_image_is_refused(kind, size, window):
    with pytest.raises(ValueError, match=f"not inside an image of {size[0]}x8"):
        resample(noise(6, 4), size, window)


GUARDED = """
import numpy as np
from verydeep.images.resample import resample

pixels = np.zeros((4, 6, 3), dtype=np.uint8)
wrong = [
    (pixels.astype(np.float32), (8, 8), (0, 0, 2, 2), None),
    (pixels[..., :2], (8, 8), (0, 0, 2, 2), None),
    (pixels[0], (8, 8), (0, 0, 2, 2), None),
    (pixels[:0], (8, 8), (0, 0, 2, 2), None),
    (pixels, (8, 8), (7, 0, 2, 2), None),
    (pixels, (8, 8), (-1, 0, 2, 2), None),
    (pixels, (8, 8), (0, 0, 2, 2), np.zeros(2, dtype=np.int32)),
]
for number, (pixels, size, window, shift) in enumerate(wrong):
    try:
        resample(pixels, size, window, shift=shift)
    except ValueError as error:
        print(error)
    else:
        raise SystemExit(f"number {number} was computed")
"""


def test_what_would_be_read_past_its_end_is_refused_without_asserts_too(kind):
    """In a process of its own: ``-O`` leaves every assert out, and the tests' own checks of types are not there."""
    ran = subprocess.run([sys.executable, "-O", "-c", GUARDED], env=os.environ, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
    said = ran.stdout.splitlines()
    assert [line.split(":")[0] for line in said[:2]] == ["pixels of float32, (4, 6, 3)", "pixels of uint8, (4, 6, 2)"]
    assert said[4] == "the window (7, 0, 2, 2) is not inside an image of 8x8 pixels"
    assert said[6] == "a shift of shape (2,): give one number per channel"


@pytest.mark.parametrize("places", [2**45, 2**62])
def test_what_no_memory_holds_comes_back_as_a_number(kind, places):
    """Of bad_alloc and of length_error alike: neither may pass through C."""
    library, to = find_library(), np.zeros((1, 1, 3), dtype=np.uint8)
    if library is None:
        pytest.skip("Pillow allocates by itself")
    shift = np.zeros(3, dtype=np.int32)
    sizes = (1, 1, places, 1, 0, 0, places, 1)
    assert library.verydeep_resample(to.ctypes.data, *sizes, 0, shift.ctypes.data, to.ctypes.data) == 1
