"""What a user did wrong, told in one line with the remedy."""

import os
from pathlib import Path


class UserError(ValueError):
    """A user's mistake: the message names the file or option and says the remedy.

    The command line prints the message alone and exits with ``exit_status``.

    Attributes:
        is_reported: whether another process of the job tells it already.
    """

    exit_status = 1
    is_reported = False


class UsageError(UserError):
    """An argument or option that cannot be right whatever the data are."""

    exit_status = 2


def check_output_file(file: Path, option: str, example: str, *, any_ending: bool = False) -> None:
    """Checks, before the work for it begins, that a file has a place.

    With a fixed ending, no slip of the hand replaces an image or a model.

    Args:
        file: to be written.
        option: that gave it, such as ``--csv``.
        example: of a name, with the ending that is wanted.
        any_ending: another will do too.

    Raises:
        UserError: its folder may not be written.
        UsageError: it is a folder, lies in none, or has another ending.
    """
    if file.is_dir():
        raise UsageError(f"{option} {file} is a folder: give a file, such as {file / example}")
    if not any_ending and file.suffix.lower() != (ending := Path(example).suffix):
        raise UsageError(f"{option} {file}: give a name that ends in {ending}")
    if not file.parent.is_dir():
        raise UsageError(f"{option} {file}: there is no folder {file.parent}: make it first")
    if not os.access(file.parent, os.W_OK | os.X_OK):
        raise UserError(f"{option} {file} cannot be written: {file.parent} is no folder you may write to")


def check_outside(out: Path, option: str, data: str | Path | None) -> None:
    """Checks that what is to be written does not become a part of the data that are read.

    Args:
        out: a folder to be written.
        option: that gave it, such as ``--out``.
        data: what is read: only a folder of files can be spoilt.

    Raises:
        UsageError: it is that folder, or lies in it.
    """
    if data is not None and Path(data).is_dir() and out.resolve().is_relative_to(Path(data).resolve()):
        raise UsageError(f"{option} {out} lies in {data}, whose images are read: give a folder elsewhere")


def printable(text: str) -> str:
    """Replaces what would steer a terminal; names from foreign files stand in messages."""
    return "".join(character if character.isprintable() or character == "\n" else "\ufffd" for character in text)
