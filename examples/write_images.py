"""Writes some test images of a data set as PNG files, to have something to predict.

Usage: python examples/write_images.py clothes FOLDER [--count 8]
"""

import argparse
from pathlib import Path

from PIL import Image

from verydeep import open_data

SMALL = 64
"""Shorter side below which an image is enlarged, so that a person can see it, pixels."""


def write_images(data: str, folder: Path, count: int) -> list[Path]:
    """Writes evenly chosen test images; the true class stands in the name."""
    images = open_data(data).split("test")
    folder.mkdir(parents=True, exist_ok=True)
    files = []
    for index in range(0, len(images), -(-len(images) // count)):
        file = folder / f"{images.classes[images.labels[index]]}-{Path(images.names[index]).stem}.png"
        image = images.read(index)
        if min(image.size) < SMALL:
            image = image.resize((SMALL, SMALL), Image.Resampling.BICUBIC)
        image.save(file)
        files.append(file)
    return files


def main() -> None:
    """Reads the arguments and says where the files lie."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", help="what verydeep takes as DATA")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--count", type=int, default=8)
    arguments = parser.parse_args()
    files = write_images(arguments.data, arguments.folder, arguments.count)
    print(f"{len(files)} test images of {arguments.data} in {arguments.folder}")


if __name__ == "__main__":
    main()
