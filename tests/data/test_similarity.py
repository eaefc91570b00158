"""Two pictures of one photograph look alike, two photographs do not; and a slow loop agrees."""

import numpy as np
import pytest
from PIL import Image

from conftest import scene
from verydeep.data.similarity import ZOOMS, read_details, similarity


def details(tmp_path, *images, side=64):
    stacked = []
    for number, image in enumerate(images):
        image.save(tmp_path / f"{number}.png")
        stacked.append(read_details(tmp_path / f"{number}.png", side)[None])
    return stacked


def slow_similarity(first, second):
    """The same by loops over zooms, rows and columns."""
    side = first.shape[-1]
    margin = side // 8
    best = []
    pairs = [(first[0], zoomed) for zoomed in second] + [(zoomed, second[0]) for zoomed in first[1:]]
    for one, other in pairs:
        tries = []
        for down in range(-margin, margin + 1):
            for right in range(-margin, margin + 1):
                values = []
                for inset in (margin, 2 * margin):
                    a = one[inset : side - inset, inset : side - inset].astype(np.float64)
                    b = other[inset + down : side - inset + down, inset + right : side - inset + right]
                    b = b.astype(np.float64)
                    noise = 0.25 * a.size
                    values.append((a * b).sum() / np.sqrt(((a * a).sum() + noise) * ((b * b).sum() + noise)))
                tries.append(values)
        best.append(min(max(tries)))
    return max(best)


def test_a_slow_loop_agrees():
    generator = np.random.default_rng(0)
    first = generator.normal(0, 9, (6, len(ZOOMS), 16, 16)).astype(np.float32)
    second = np.roll(first, (1, -2), axis=(2, 3)) + generator.normal(0, 6, first.shape).astype(np.float32)
    second[3:] = generator.normal(0, 9, (3, len(ZOOMS), 16, 16))
    slow = [slow_similarity(one, other) for one, other in zip(first, second, strict=True)]
    assert similarity(first, second) == pytest.approx(slow, abs=1e-4)


def test_a_picture_is_like_itself_and_like_no_other(tmp_path):
    same, again, other = details(tmp_path, scene(0), scene(0), scene(1))
    assert similarity(same, again)[0] > 0.99
    assert similarity(same, other)[0] < 0.5


def test_a_frame_alone_does_not_make_two_pictures_alike(tmp_path):
    framed = []
    for seed in (0, 1):
        image = Image.new("RGB", (200, 200), "black")
        image.paste(scene(seed, 150, 150), (25, 25))
        framed.append(image)
    first, second = details(tmp_path, *framed)
    assert similarity(first, second)[0] < 0.6


def test_what_shows_nothing_is_like_nothing(tmp_path):
    white, grey = details(tmp_path, Image.new("RGB", (90, 90), "white"), Image.new("RGB", (90, 90), "grey"))
    assert similarity(white, grey)[0] == 0
