"""Public data sets by name are fetched, only when asked, and opened."""

from verydeep.data.catalogue import NamedSet, known
from verydeep.data.datasets import (
    HELD_OUT,
    TEST_SHARE,
    VALIDATION_SHARE,
    DataSet,
    fingerprint,
    hold_out,
)
from verydeep.data.download import check_md5, obtain
from verydeep.data.layouts import Splits
from verydeep.errors import UserError
from verydeep.files import format_bytes
from verydeep.progress import Progress, ignore_progress


def open_named(row: NamedSet) -> DataSet:
    """Opens a data set that was fetched.

    Raises:
        UserError: it was not fetched, is damaged, or does not have the images that were published.
    """
    folder = row.folder
    if not row.is_here:
        raise UserError(_how_to_get(row))
    for archive in row.archives:
        if archive.becomes is None:
            check_md5(archive, folder)
    try:
        splits = row.read(folder)
        _check_counts(row, splits)
        return _data_set(row, splits)
    except UserError:
        raise
    except (OSError, ValueError, LookupError) as error:
        raise UserError(f"{row.name} cannot be read: {error}; {_again(row)}") from error


def fetch(name: str, *, progress: Progress = ignore_progress) -> DataSet:
    """Fetches a data set by name: downloads what is missing, checks it, unpacks it and opens it.

    Args:
        name: of a public data set.
        progress: told how far it is, in megabytes.

    Raises:
        UserError: no network, a damaged file, or a set that its owners give only to those who ask.
        UsageError: an unknown name.
    """
    row = known(name)
    if any(archive.url is None and archive.is_missing(row.folder) for archive in row.archives):
        raise UserError(_how_to_get(row))
    obtain(row.archives, row.folder, progress)
    return open_named(row)


def _how_to_get(row: NamedSet) -> str:
    begin, verb = f"{row.name} is not in {row.folder}", f"verydeep fetch {row.name}"
    missing = [archive for archive in row.archives if archive.is_missing(row.folder)]
    if not missing:
        return f"{begin} as folders yet: {verb} unpacks it"
    if all(archive.url for archive in missing):
        size = format_bytes(sum(archive.size for archive in missing))
        return f"{begin}: {verb} downloads it ({size}; {row.homepage}; licence: {row.licence})"
    files = ", ".join(f"{archive.file} ({format_bytes(archive.size)})" for archive in missing)
    return (
        f"{begin}: it cannot be downloaded freely (licence: {row.licence}): ask for it at {row.homepage}, put {files} "
        f"there and say {verb}; or put its class folders there, train/<wnid>/ and val/<wnid>/"
    )


def _again(row: NamedSet) -> str:
    made = dict.fromkeys(archive.becomes or archive.file for archive in row.archives)
    other = "" if row.is_free else f", or take the folder as it is: give {row.folder} instead of the name"
    return f"remove {' and '.join(made)} there and say verydeep fetch {row.name}{other}"


def _check_counts(row: NamedSet, splits: Splits) -> None:
    found = {split: len(images) for split, images in splits.items()}
    if found != row.counts:
        raise UserError(f"{row.folder} holds {_counted(found)} images instead of {_counted(row.counts)}; {_again(row)}")
    num_classes = len(set(splits["train"].classes))
    if num_classes != row.num_classes:
        raise UserError(f"{row.folder} holds {num_classes} classes instead of {row.num_classes}; {_again(row)}")


def _counted(counts: dict[str, int]) -> str:
    return ", ".join(f"{count:,} {split}" for split, count in counts.items())


def _data_set(row: NamedSet, splits: Splits) -> DataSet:
    """Sets images aside for the splits that were not published; what is reported on is never chosen by."""
    train, val, test = splits["train"], splits.get("val"), splits.get("test")
    validation = "the validation images that were published"
    if val is None:
        if test is None:
            train, test = hold_out(train, TEST_SHARE, "test")
        train, val = hold_out(train, VALIDATION_SHARE, "val")
        validation = HELD_OUT
    return DataSet(
        name=row.name,
        train=train,
        val=val,
        test=test,
        mirror=row.mirror,
        validation=validation,
        fingerprint=fingerprint(train, val, test),
    )
