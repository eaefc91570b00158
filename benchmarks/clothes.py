"""Makes `clothes`, the built-in photographs: hat, pants, shoes, dress, 30 each, for training, validation and test.

    python benchmarks/clothes.py .cache/clothing --sheet clothes.png

takes them from the training split of github.com/alexeygrigorev/clothing-dataset-small (CC0), reduced to a shorter side
of 256 pixels. The rule: of each class the photographs in the order of the SHA-256 of "clothes" and their name, without
those that LEFT_OUT names after all were looked at, and with at most a third that lie on red (one seller's red cloth is
under half of the hats, and no net should learn that red is a hat). The first 20 are for training, the next 4 for
validation, the next 6 for the test. They are stored with a shorter side of 160 pixels, without EXIF.
"""

import argparse
import hashlib
import shutil
from pathlib import Path

import numpy as np
from PIL import Image

from verydeep.data.folder import CLOTHES
from verydeep.data.listing import image_files
from verydeep.images.decode import read_image
from verydeep.images.geometry import rescaled_size

CLASSES = ("hat", "pants", "shoes", "dress")
SPLITS = {"train": 20, "val": 4, "test": 6}
MOST_ON_RED = 10

SIDE, QUALITY = 160, 85
MOST_BYTES = 1_200_000

_BODY = "a part of a person is in the picture"
_WORK = "shows a figure that belongs to others"
_CLASS = "looks like a blouse or a top: not surely of its class"

LEFT_OUT = {
    "14d9f39c": _BODY,
    "a1725635": _BODY,
    "fae00db0": "a political slogan",
    "153a69c6": _WORK,
    "70731fd8": _WORK,
    "d6c3190d": _BODY,
    "3a5f03b9": _BODY,
    "bd483b02": _BODY,
    "8e9a0079": _BODY,
    "d748ed88": _BODY,
    "8dcd8c2d": _BODY,
    "dacfc786": _CLASS,
    "968e1bb6": _CLASS,
    "dd64332e": _CLASS,
}
"""What is left out and why, by the first eight digits of the name."""


def key(file: Path) -> bytes:
    return hashlib.sha256(f"clothes {file.name}".encode()).digest()


def is_on_red(file: Path) -> bool:
    """Whether the outermost tenth of a picture is red in the mean."""
    pixels = np.asarray(read_image(file)).astype(float)
    height, width, _ = pixels.shape
    border = np.ones((height, width), dtype=bool)
    border[height // 10 : -height // 10, width // 10 : -width // 10] = False
    red, green, blue = pixels[border].mean(axis=0)
    return bool(red > 1.6 * max(green, blue))


def choose(folder: Path) -> list[Path]:
    chosen: list[Path] = []
    on_red = 0
    for file in sorted(image_files(folder), key=key):
        if file.stem[:8] in LEFT_OUT or len(chosen) == sum(SPLITS.values()):
            continue
        if is_on_red(file):
            if on_red == MOST_ON_RED:
                continue
            on_red += 1
        chosen.append(file)
    return chosen


def store(file: Path, out: Path) -> None:
    image = read_image(file)
    small = image.resize(rescaled_size(image.size, SIDE), Image.Resampling.LANCZOS)
    out.parent.mkdir(parents=True, exist_ok=True)
    small.save(out, "JPEG", quality=QUALITY, optimize=True)


def write_sheet(files: list[Path], sheet: Path) -> None:
    """Lays the photographs out on one picture, a class after the other, to be looked at."""
    page = Image.new("RGB", (15 * 110, -(-len(files) // 15) * 140), "white")
    for index, file in enumerate(files):
        image = read_image(file)
        image.thumbnail((108, 138))
        page.paste(image, (index % 15 * 110, index // 15 * 140))
    page.save(sheet)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", type=Path, help="the folder clothing, with train/ in it")
    parser.add_argument("--out", type=Path, default=CLOTHES)
    parser.add_argument("--sheet", type=Path, help="a picture with all of them")
    options = parser.parse_args()
    for split in SPLITS:
        shutil.rmtree(options.out / split, ignore_errors=True)
    written: list[Path] = []
    for name in CLASSES:
        left = choose(options.source / "train" / name)
        for split, count in SPLITS.items():
            for file in left[:count]:
                written.append(options.out / split / name / f"{file.stem[:8]}.jpg")
                store(file, written[-1])
            left = left[count:]
    size = sum(file.stat().st_size for file in written)
    print(f"{options.out}: {len(written)} photographs, {size / 1e6:.2f} MB")
    if size > MOST_BYTES:
        raise SystemExit(f"more than {MOST_BYTES / 1e6} MB: lower QUALITY")
    if options.sheet:
        write_sheet(written, options.sheet)


if __name__ == "__main__":
    main()
