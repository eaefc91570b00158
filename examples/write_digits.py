"""Writes some of the built-in test digits as PNG files, to have something to predict.

Usage: python examples/write_digits.py FOLDER [--count 5]
"""

import argparse
from pathlib import Path

from PIL import Image

from verydeep import open_data


def write_digits(folder: Path, count: int) -> list[Path]:
    """Writes evenly chosen test digits, eight times their size; the true class stands in the name."""
    images = open_data("digits").split("test")
    folder.mkdir(parents=True, exist_ok=True)
    files = []
    for index in range(0, len(images), -(-len(images) // count)):
        file = folder / f"a-{images.classes[images.labels[index]]}-{images.names[index]}"
        images.read(index).resize((64, 64), Image.Resampling.BICUBIC).save(file)
        files.append(file)
    return files


def main() -> None:
    """Reads the arguments and says where the files lie."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--count", type=int, default=5)
    arguments = parser.parse_args()
    files = write_digits(arguments.folder, arguments.count)
    print(f"{len(files)} test digits in {arguments.folder}")


if __name__ == "__main__":
    main()
