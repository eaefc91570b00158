"""The same photograph is found whatever was done to it; two photographs of one place are not taken for one."""

import io
from itertools import product
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageEnhance, ImageOps

from conftest import scene
from verydeep.data.doctor import duplicates
from verydeep.data.doctor.duplicates import (
    MOST_BITS,
    MOST_LOW_BITS,
    _near_pairs,
    duplicate_findings,
    find_near_duplicates,
)
from verydeep.data.doctor.scan import scan, scan_file
from verydeep.data.image_set import ImageSet
from verydeep.data.sources import FolderSource


def reencoded(image, quality):
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=quality)
    return Image.open(buffer)


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
    facts = {name: scan_file(root / name) for name in names[0] + names[1]}
    return find_near_duplicates(names[0], names[1], facts)


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


def test_of_too_many_pairs_the_closest_are_listed(tmp_path, monkeypatch):
    monkeypatch.setattr(duplicates, "_MOST_PAIRS", 2)
    copies = [reencoded(scene(0), 95), ImageEnhance.Contrast(scene(0)).enhance(1.5), reencoded(scene(0), 20)]
    sets = {}
    for split, images in (("train", [scene(0)]), ("val", copies)):
        (tmp_path / split).mkdir()
        names = [f"{split}/{number}.png" for number in range(len(images))]
        for name, image in zip(names, images, strict=True):
            image.save(tmp_path / name)
        labels = np.zeros(len(names), dtype=np.int64)
        sets[split] = ImageSet(split=split, classes=("a",), names=names, labels=labels, source=FolderSource(tmp_path))
    facts = scan(tmp_path, [name for images in sets.values() for name in images.names])
    (finding,) = duplicate_findings(sets, facts, held_out=[])
    assert finding.message.startswith("3 of the 3 images of val (100.0%) show a photograph that train has too")
    assert finding.details["pairs_left_out"] == 1
    assert len(finding.details["pairs"]) == 2
    assert finding.files[0] == "val/0.png"


def test_near_pairs_are_those_of_a_slow_loop():
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
    pairs = _near_pairs(first, second).tolist()
    found = [(i, j, bool(mirrored)) for _, i, j, mirrored in pairs]
    assert len(found) > 10
    assert sorted(found) == sorted(expected)
    assert [expected[pair] for pair in found] == [bits for bits, *_ in pairs] == sorted(expected.values())
