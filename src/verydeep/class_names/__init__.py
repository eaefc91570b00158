"""Names of the classes of ImageNet and of Oxford's flowers; their source and licence stand in SOURCES.md."""

from pathlib import Path
from typing import Literal


def read_class_names(data_set: Literal["imagenet", "flowers102"]) -> tuple[str, ...]:
    """The names in the order of the labels; for ImageNet that is the order of the WordNet identifiers."""
    return tuple((Path(__file__).parent / f"{data_set}.txt").read_text(encoding="utf-8").splitlines())
