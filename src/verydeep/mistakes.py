"""What a user did wrong, told in one line with the remedy."""

from pathlib import Path


class MistakeError(ValueError):
    """A user's mistake: the message names the file or option and says the remedy.

    The command line prints the message alone and exits with ``exit_status``.

    Attributes:
        is_told: whether another process of the job tells it already.
    """

    exit_status = 1
    is_told = False


class WrongUseError(MistakeError):
    """An argument or option that cannot be right whatever the data are."""

    exit_status = 2


def check_place(file: Path, option: str, example: str) -> None:
    """Checks, before the work for it begins, that a file has a place.

    Args:
        file: to be written.
        option: that gave it, such as ``--csv``.
        example: of a name, for somebody who gave a folder.

    Raises:
        MistakeError: it is a folder, or lies in none.
    """
    if file.is_dir():
        raise MistakeError(f"{option} {file} is a folder: give a file, such as {file / example}")
    if not file.parent.is_dir():
        raise MistakeError(f"{option} {file}: there is no folder {file.parent}: make it first")


def printable(text: str) -> str:
    """Replaces what would steer a terminal; names from foreign files stand in messages."""
    return "".join(character if character.isprintable() or character == "\n" else "\ufffd" for character in text)
