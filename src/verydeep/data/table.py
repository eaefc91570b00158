"""A table of images as a data set: a CSV with the columns file and label, and where wanted split and group."""

import csv
import errno
import os
import stat
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from verydeep.data.dataset import (
    TEST_SHARE,
    VALIDATION_SHARE,
    DataSet,
    hold_out_groups,
    hold_out_test,
    make_data_set,
)
from verydeep.data.folder import SPLIT_NAMES
from verydeep.data.image_set import ImageSet
from verydeep.data.listing import composed, natural_key
from verydeep.data.sources import FolderSource
from verydeep.errors import UserError, printable

SUFFIXES = (".csv", ".tsv")
"""Endings of the files that count as tables."""

COLUMNS = {
    "file": ("file", "filename", "path", "image"),
    "label": ("label", "class", "target"),
    "split": ("split",),
    "group": ("group",),
}
"""Names of each column; the first two there must be. Other columns are passed over."""

_DELIMITERS = ",;\t"
_HELD_OUT = "a tenth of the training images, held out group by group"


@dataclass(frozen=True, kw_only=True)
class TableRow:
    """A line of a table; a field without a column is empty."""

    line: int
    file: str
    label: str
    split: str = ""
    group: str = ""


def is_table(file: Path) -> bool:
    return file.suffix.lower() in SUFFIXES and file.is_file()


def open_table(table: Path) -> DataSet:
    """Opens the images of a table, whose paths are relative to it.

    Where it has no splits they are held out as from a folder; a row without a group is a group by itself.

    Raises:
        UserError: the table cannot be read, or does not make a data set; with the number of the line.
    """
    rows = read_table(table)
    _check_rows(table, rows)
    has_splits, has_groups = bool(rows[0].split), any(row.group for row in rows)
    of_split = {split: [row for row in rows if (row.split or "train") == split] for split in SPLIT_NAMES}
    classes = _classes(table, of_split["train"])
    splits = {split: _image_set(table, split, found, classes) for split, found in of_split.items() if found}
    validation = "the rows of the split val" if "val" in splits else ""
    held_out: tuple[str, ...] = () if has_splits else ("test",)
    if has_groups:
        group_of = {row.file: f"group {row.group}" if row.group else row.file for row in rows}
        if not has_splits:
            splits |= _hold_out(table, splits["train"], group_of, TEST_SHARE, "test")
        if "val" not in splits:
            splits |= _hold_out(table, splits["train"], group_of, VALIDATION_SHARE, "val")
            validation = _HELD_OUT
            held_out += ("val",)
    elif not has_splits:
        splits = hold_out_test(splits["train"])
    return make_data_set(table.stem, str(table), splits, validation, held_out=held_out)


def read_table(table: Path) -> list[TableRow]:
    """Reads the rows of a table: of commas, semicolons or tabs, in UTF-8; the split in our word for it.

    Raises:
        UserError: it is no such table, or a row lacks its file or label or has an unknown split.
    """
    return [TableRow(line=line, **fields) for line, fields in read_rows(table)]


def read_rows(table: Path, known: Mapping[str, tuple[str, ...]] = COLUMNS) -> Iterator[tuple[int, dict[str, str]]]:
    """Yields the line of each row and its fields by the columns ``known``; raises as ``read_table`` does."""
    line = 1
    try:
        with table.open(encoding="utf-8-sig", newline="") as stream:
            delimiter, columns = _columns(table, stream.readline(), known)
            reader = csv.reader(stream, delimiter=delimiter, skipinitialspace=True)
            for fields in reader:
                began, line = line + 1, reader.line_num + 1
                if any(field.strip() for field in fields):
                    yield began, _row(f"{table}, line {began}", fields, columns)
    except UnicodeDecodeError as error:
        raise UserError(f"{table} is not in UTF-8: save it as CSV UTF-8") from error
    except csv.Error as error:
        raise UserError(f"{table}, after line {line}: {error}: save it as a CSV again") from error
    except OSError as error:
        raise UserError(f"{table} cannot be read: {error.strerror or error}") from error


def _columns(table: Path, header: str, known: Mapping[str, tuple[str, ...]]) -> tuple[str, list[str]]:
    """Finds what separates the fields, and which column each field is; the name is empty of one that is not read."""
    splits = {delimiter: next(csv.reader([header], delimiter=delimiter), []) for delimiter in _DELIMITERS}
    delimiter = max(_DELIMITERS, key=lambda one: len(splits[one]))  # the comma, where none separates anything
    names = [name.strip() for name in splits[delimiter]]
    columns = [next((column for column, words in known.items() if name.lower() in words), "") for name in names]
    for column, words in known.items():
        found = [name for name, meant in zip(names, columns, strict=True) if meant == column]
        if not found and column in ("file", "label"):
            there = printable(", ".join(filter(None, names))) or "nothing"
            raise UserError(
                f"{table} has no column {column!r} (or {', '.join(words[1:])}): its first line must name the columns, "
                f"such as file,label, and names {there}"
            )
        if len(found) > 1:
            raise UserError(f"{table}: the columns {' and '.join(found)} both mean {column}: rename one")
    return delimiter, columns


def _row(where: str, fields: Sequence[str], columns: Sequence[str]) -> dict[str, str]:
    if len(fields) > len(columns):
        raise UserError(
            f"{where} has {len(fields)} fields and the first line {len(columns)}: put quotes around a field with the "
            "separator in it"
        )
    found = {column: field.strip() for column, field in zip(columns, fields, strict=False) if column}
    for column in ("file", "label"):
        if not found.get(column):
            raise UserError(f"{where} has no {column}: fill it in or remove the line")
        if "\n" in found[column]:
            raise UserError(f"{where} has a line break in its {column}: is there a quote that nothing closes?")
    if "split" in columns:
        written = found.get("split", "")
        meant = [split for split, names in SPLIT_NAMES.items() if written.lower() in names]
        if not meant:
            known = ", ".join(name for names in SPLIT_NAMES.values() for name in names)
            problem = f"has the unknown split {written!r}" if written else "has no split"
            raise UserError(f"{where} {problem}: give one of {known}, or leave the column out")
        found["split"] = meant[0]
    found["label"] = composed(found["label"])
    if "\\" in found["file"] and os.sep == "/":  # a table that was written on Windows
        found["file"] = found["file"].replace("\\", "/")
    return found


def _check_rows(table: Path, rows: Sequence[TableRow]) -> None:
    """Checks that each file is there, once, and each group in one split."""
    if not rows:
        raise UserError(f"{table} has no rows below its first line: add the images")
    first: dict[str, TableRow] = {}
    splits: dict[str, TableRow] = {}
    for row in rows:
        where = f"{table}, line {row.line}"
        before = first.setdefault(os.path.normpath(row.file), row)
        if before is not row:
            labels = "" if before.label == row.label else f", as {before.label!r} and as {row.label!r}"
            raise UserError(f"{where}: {row.file} stands in line {before.line} too{labels}: keep one of the two")
        file = table.parent / row.file
        problem = _problem(file)
        if problem:
            raise UserError(f"{where}: {file} {problem}: paths are relative to the folder of the table")
        before = splits.setdefault(row.group, row) if row.group else row
        if before.split != row.split:
            raise UserError(
                f"{where}: the group {row.group!r} is in {row.split} here and in {before.split} in line {before.line}: "
                "keep it in one split"
            )


_NO_NAME = "is no name that a file can have"


def _problem(file: Path) -> str:
    """Why a path is not that of an image; one that may not be looked at counts as damaged when it is read."""
    try:
        return "is a folder" if stat.S_ISDIR(file.lstat().st_mode) or file.is_dir() else ""
    except (FileNotFoundError, NotADirectoryError):
        return "is not there"
    except OSError as error:
        return _NO_NAME if error.errno == errno.ENAMETOOLONG else ""
    except ValueError:
        return _NO_NAME


def _classes(table: Path, rows: Sequence[TableRow]) -> tuple[str, ...]:
    """The classes, of the rows of the training split."""
    if not rows:
        raise UserError(f"{table} has no rows of the split train: the classes come from the training split")
    classes = tuple(sorted({row.label for row in rows}, key=natural_key))
    if len(classes) < 2:
        raise UserError(f"{table} has one class to train on, {classes[0]!r}: a classifier needs at least two")
    return classes


def _image_set(table: Path, split: str, rows: Sequence[TableRow], classes: tuple[str, ...]) -> ImageSet:
    indices = {name: index for index, name in enumerate(classes)}
    for row in rows:
        if row.label not in indices:
            raise UserError(
                f"{table}, line {row.line}: class {row.label!r} of {split} is not among the classes of train: add "
                "training images of it or remove the line"
            )
    return ImageSet(
        split=split,
        classes=classes,
        names=[row.file for row in rows],
        labels=np.array([indices[row.label] for row in rows], dtype=np.int64),
        source=FolderSource(table.parent),
    )


def _hold_out(
    table: Path, images: ImageSet, group_of: Mapping[str, str], share: float, split: str
) -> dict[str, ImageSet]:
    train, held_out = hold_out_groups(images, [group_of[name] for name in images.names], share, split)
    if not len(held_out):
        raise UserError(f"{table} has too few groups to set some aside for {split}: add groups or a column split")
    return {"train": train, split: held_out}
