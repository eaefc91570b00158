"""The same photograph is found whatever was done to it; two photographs of one place are not taken for one."""

import io
from itertools import product
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageEnhance, ImageOps

from conftest import scene
from verydeep.data import near_duplicates
from verydeep.data.file_facts import look_at
from verydeep.data.near_duplicates import MOST_BITS, MOST_LOW_BITS, _candidates, find_near_duplicates


def reencoded(image, quality):
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=quality)
    return Image.open(buffer)


def cropped(image, share, left=0.5):
    width, height = round(image.width * share), round(image.height * share)
    x, y = round((image.width - width) * left), round((image.height - height) * left)
    return image.crop((x, y, x + width, y + height))


CHANGES = {
    "quality 75": lambda image: reencoded(image, 75),
    "quality 20": lambda image: reencoded(image, 20),
    "half the size": lambda image: image.resize((image.width // 2, image.height // 2)),
    "squashed": lambda image: image.resize((100, 100)),
    "mirrored": ImageOps.mirror,
    "brighter": lambda image: ImageEnhance.Brightness(image).enhance(1.4),
    "darker": lambda image: ImageEnhance.Brightness(image).enhance(0.5),
    "more contrast": lambda image: ImageEnhance.Contrast(image).enhance(1.5),
    "grey": lambda image: image.convert("L"),
    "cropped": lambda image: cropped(image, 0.95),
    "cropped at a corner": lambda image: cropped(image, 0.97, 0.0),
    "turned a little": lambda image: image.rotate(1, Image.Resampling.BICUBIC),
    "mirrored, brighter, quality 50": lambda image: reencoded(
        ImageEnhance.Brightness(ImageOps.mirror(image)).enhance(1.2), 50
    ),
}


def find(root: Path, first, second):
    """Finds the near-duplicates of two lists of pictures, by their numbers."""
    names = []
    for where, images in (("one", first), ("two", second)):
        (root / where).mkdir()
        for number, image in enumerate(images):
            image.save(root / where / f"{number}.png")
        names.append([f"{where}/{number}.png" for number in range(len(images))])
    facts = {name: look_at(root / name) for name in names[0] + names[1]}
    found = find_near_duplicates(root, names[0], names[1], facts)
    assert found.left_out == 0
    return found.pairs


def numbers(pairs):
    return {(int(Path(pair.first).stem), int(Path(pair.second).stem)) for pair in pairs}


@pytest.mark.parametrize("change", CHANGES)
def test_a_changed_copy_is_found_and_nothing_else(change, tmp_path):
    first, second = [scene(seed) for seed in range(8)], [scene(seed) for seed in range(100, 106)]
    second += [CHANGES[change](image) for image in first[2:5]]
    pairs = find(tmp_path, first, second)
    assert numbers(pairs) == {(2, 6), (3, 7), (4, 8)}
    assert all(pair.mirrored == ("mirrored" in change) for pair in pairs)
    assert [pair.similarity for pair in pairs] == sorted((pair.similarity for pair in pairs), reverse=True)


@pytest.mark.parametrize("change", ["quality 75", "mirrored", "brighter", "grey"])
def test_small_pictures(change, tmp_path):
    first, second = [scene(seed, 32, 32) for seed in range(20)], [scene(seed, 32, 32) for seed in range(100, 120)]
    assert numbers(find(tmp_path, first, [*second, CHANGES[change](first[7])])) == {(7, 20)}


def test_a_series_before_the_same_wall_is_no_duplicate(tmp_path):
    """The same wall and the same hand in another place, as in a series of photographs."""

    def photograph(step):
        image = scene(0)
        draw = ImageDraw.Draw(image)
        for finger in range(4):
            left = 20 + 25 * finger + 11 * step
            draw.rounded_rectangle((left, 15 + 9 * ((finger + step) % 3), left + 14, 110), 6, "peru", "black")
        return image

    assert find(tmp_path, [photograph(0)], [photograph(1), photograph(2)]) == []


def test_pictures_of_nothing_the_smallest_and_the_same_bytes_are_left_out(tmp_path):
    blank, tiny, whole = Image.new("RGB", (80, 80), "grey"), scene(0, 31, 40), scene(1)
    assert find(tmp_path, [blank, tiny, whole], [blank, reencoded(tiny, 90), whole]) == []


def test_nothing_to_compare(tmp_path):
    assert find(tmp_path, [], [scene(0)]) == []


def test_of_too_many_candidates_the_closest_are_compared(tmp_path, monkeypatch):
    monkeypatch.setattr(near_duplicates, "_MOST_CANDIDATES", 2)
    copies = [reencoded(scene(0), 95), scene(0).rotate(2), scene(0).rotate(3)]
    for number, image in enumerate([scene(0), *copies]):
        image.save(tmp_path / f"{number}.png")
    names = [f"{number}.png" for number in range(4)]
    facts = {name: look_at(tmp_path / name) for name in names}
    found = find_near_duplicates(tmp_path, names[:1], names[1:], facts)
    assert found.left_out == 1
    assert found.pairs[0].second == "1.png"


def test_candidates_are_those_of_a_slow_loop():
    generator = np.random.default_rng(0)
    first = generator.integers(0, 256, (150, 32), dtype=np.uint8)
    second = generator.integers(0, 256, (90, 32), dtype=np.uint8)
    for number in range(60):  # of each kind: near, mirrored and near, near but for the low frequencies
        flips = np.packbits(generator.random(256) < generator.uniform(0, 0.5))
        second[number] = first[number] ^ flips ^ (0x55 if number % 2 else 0)
    expected = {}
    for i, j, mirrored in product(range(150), range(90), (False, True)):
        bits = np.unpackbits(first[i] ^ second[j]).reshape(16, 16)
        if mirrored:
            bits[:, 1::2] ^= 1
        if bits.sum() <= MOST_BITS and bits[:8, :8].sum() <= MOST_LOW_BITS:
            expected[i, j, mirrored] = bits.sum()
    found = [(i, j, bool(mirrored)) for i, j, mirrored in _candidates(first, second).tolist()]
    assert len(found) > 10
    assert sorted(found) == sorted(expected)
    assert [expected[pair] for pair in found] == sorted(expected.values())
