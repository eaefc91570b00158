"""Errors that the user can mend, each one line with its remedy."""


class UserError(ValueError):
    """An error that the user can mend; the message names the file or option and says the remedy.

    The command line prints the message alone and exits with ``exit_status``.

    Attributes:
        is_reported: whether another process of the job reports it.
    """

    exit_status = 1
    is_reported = False


class UsageError(UserError):
    """An argument or option that cannot be right whatever the data are."""

    exit_status = 2


def printable(text: str) -> str:
    """Replaces control characters: names from third-party files stand in messages."""
    return "".join(character if character.isprintable() or character == "\n" else "\ufffd" for character in text)
