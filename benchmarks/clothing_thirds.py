"""A test split for the clothing photographs, whose own is kept elsewhere.

    python benchmarks/clothing_thirds.py .cache/clothing/clothing .cache/clothing-thirds

The third of each class of train/ whose names have the smallest hashes becomes test/, the rest stays train/, and
validation/ stays what it was: the split that recipes were tuned on. Files are linked, by name where the folders
are on two disks.
"""

import argparse
import hashlib
import os
from pathlib import Path


def split(source: Path, out: Path) -> None:
    for class_folder in sorted((source / "train").iterdir()):
        files = sorted(class_folder.iterdir(), key=lambda file: hashlib.sha256(file.name.encode()).digest())
        held_out = len(files) // 3
        for number, file in enumerate(files):
            link(file, out / ("test" if number < held_out else "train") / class_folder.name)
    for file in (source / "validation").glob("*/*"):
        link(file, out / "val" / file.parent.name)


def link(file: Path, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    if not (folder / file.name).exists():
        try:
            os.link(file, folder / file.name)
        except OSError:  # another disk
            (folder / file.name).symlink_to(file.resolve())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", type=Path)
    parser.add_argument("out", type=Path)
    options = parser.parse_args()
    split(options.source, options.out)


if __name__ == "__main__":
    main()
