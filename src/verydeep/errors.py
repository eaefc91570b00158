"""Errors that the user can mend, each one line with its remedy."""

import unicodedata
from typing import Final

_JOINERS: Final = "\u200c\u200d"
"""Between the letters of Persian and Indian words, and the parts of an emoji: names have them."""

_UNSEEN: Final = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})
"""Unicode categories that steer a terminal, turn text about, or are no text."""


class UserError(ValueError):
    """An error that the user can mend; the message names the file or option and says the remedy.

    The command line prints the message alone and exits with ``exit_status``.

    Attributes:
        is_reported: whether another process of the job reports it.
    """

    exit_status = 1
    is_reported = False

    def __str__(self) -> str:
        """The message, without what would steer the terminal: file and class names of strangers stand in it."""
        return printable(super().__str__())


class UsageError(UserError):
    """An argument or option that cannot be right whatever the data are."""

    exit_status = 2


def printable(text: str) -> str:
    """Replaces control characters and those that turn text about: names from third-party files stand in messages."""
    if text.isprintable():
        return text
    return "".join(
        character
        if character == "\n" or character in _JOINERS or unicodedata.category(character) not in _UNSEEN
        else "\ufffd"
        for character in text
    )
