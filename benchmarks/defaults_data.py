"""Draws small sets out of large ones, as folders of links: the same seed draws the same images."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from verydeep.data.listing import image_files


@dataclass(frozen=True)
class Part:
    """So many images of each class, all where none is said, of a split of the source, for a split of the draw."""

    split: str
    source: str
    per_class: int | None = None


def class_names(folder: Path) -> list[str]:
    return sorted(entry.name for entry in folder.iterdir() if entry.is_dir() and not entry.name.startswith("."))


def draw(source: Path, into: Path, parts: Iterable[Part], seed: int, classes: Sequence[str] = ()) -> Path:
    """Links images of a folder of splits into a new one; no image is drawn for two parts.

    Args:
        source: SPLIT/CLASS/images.
        into: the new folder.
        parts: what to draw.
        seed: of the draw.
        classes: to draw from; all where none is given.
    """
    taken: dict[tuple[str, str], int] = {}
    for part in parts:
        for number, name in enumerate(classes or class_names(source / part.source)):
            files = sorted(image_files(source / part.source / name))
            order = np.random.default_rng((seed, number)).permutation(len(files))
            first = taken.get((part.source, name), 0)
            last = len(files) if part.per_class is None else first + part.per_class
            assert last <= len(files), f"{source / part.source / name} has {len(files)} images, fewer than {last}"
            taken[part.source, name] = last
            (into / part.split / name).mkdir(parents=True, exist_ok=True)
            for index in order[first:last]:
                (into / part.split / name / files[index].name).symlink_to(files[index].resolve())
    return into
