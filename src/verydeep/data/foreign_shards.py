"""Shards of other programs: splits from the names of the files, classes from their labels."""

import re
from collections.abc import Mapping

from verydeep.data.datasets import SPLIT_NAMES, DataSet, hold_out_test, make_data_set, natural_key
from verydeep.data.places import Place, inside
from verydeep.data.shard_store import ShardPart, file_name, make_image_set
from verydeep.data.tar_listing import Listing
from verydeep.errors import UserError

CLASSES_FILE = "classes.txt"
"""Names of the classes, one a line; the number of a class is its line, counted from 0."""


def split_of(file: str) -> str | None:
    """Finds the split that a file is named after: ``imagenet-train-0000.tar`` is of train.

    Raises:
        UserError: its name has more than one.
    """
    words = set(re.split(r"[^a-z]+", file_name(file).lower()))
    found = [split for split, names in SPLIT_NAMES.items() if words.intersection(names)]
    if len(found) > 1:
        raise UserError(f"{file} is named after {' and '.join(found)}: name it after one split")
    return found[0] if found else None


def join_listings(place: Place, listings: Mapping[str, Listing], folder: str, name: str, where: str) -> DataSet:
    """Makes a data set of listed shards.

    Args:
        place: reads the shards.
        listings: what is in each shard.
        folder: of the shards.
        name: short name of the data set.
        where: what a person calls its place.

    Raises:
        UserError: splits or classes do not fit together.
    """
    shards: dict[str | None, list[str]] = {}
    for file in listings:
        shards.setdefault(split_of(file), []).append(file)
    whole = list(shards) == [None]
    if not whole and None in shards:
        raise UserError(f"{shards[None][0]} is named after no split and others are: name all of them or none")
    if not whole and "train" not in shards:
        raise UserError(
            f"{where} has shards of {' and '.join(map(str, shards))} but none of train: "
            "the classes come from the training split"
        )
    training = {label for file in shards[None if whole else "train"] for label in listings[file].labels}
    classes, numbers = _number_classes(training, _read_classes(place, folder), where)
    splits = {
        split or "train": make_image_set(
            place, split or "train", classes, [_part(file, listings[file], numbers, len(classes)) for file in files]
        )
        for split, files in shards.items()
    }
    return make_data_set(name, where, hold_out_test(splits["train"]) if whole else splits, "the shards of val")


def _read_classes(place: Place, folder: str) -> tuple[str, ...] | None:
    file = inside(folder, CLASSES_FILE)
    data = place.whole(file)
    if data is None:
        return None
    try:
        classes = tuple(line.strip() for line in data.decode("utf-8").rstrip().splitlines())
    except UnicodeDecodeError as error:
        raise UserError(f"{file} is no text: write the names of the classes, one a line") from error
    for name in classes:
        if not name or classes.count(name) > 1:
            raise UserError(f"{file} has {repr(name) + ' twice' if name else 'an empty line'}: name each class once")
    return classes


def _number_classes(
    labels: set[str], listed: tuple[str, ...] | None, where: str
) -> tuple[tuple[str, ...], dict[str, int]]:
    """Gives the classes, and the index of the class of each label; labels that are numbers count the listed classes."""
    classes = listed or tuple(sorted(labels, key=natural_key))
    if len(classes) < 2:
        raise UserError(f"{where} has one class, {classes[0]!r}: a classifier needs at least two")
    if listed and all(label.isdecimal() for label in labels):
        return classes, {str(index): index for index in range(len(classes))}
    return classes, {name: index for index, name in enumerate(classes)}


def _part(file: str, listing: Listing, numbers: Mapping[str, int], num_classes: int) -> ShardPart:
    for name, label in zip(listing.names, listing.labels, strict=True):
        if label not in numbers:
            raise UserError(
                f"label {label!r} of {file}:{name} is none of the {num_classes} classes, which come from "
                f"{CLASSES_FILE} beside the shards or else from the labels of the training split"
            )
    return ShardPart(
        file=file,
        names=[f"{file_name(file)}/{name}" for name in listing.names],
        labels=[numbers[label] for label in listing.labels],
        offsets=listing.offsets,
        sizes=listing.sizes,
    )
