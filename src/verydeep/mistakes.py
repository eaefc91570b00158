"""What a user did wrong, told in one line with the remedy."""


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


def printable(text: str) -> str:
    """Replaces what would steer a terminal; names from foreign files stand in messages."""
    return "".join(character if character.isprintable() or character == "\n" else "\ufffd" for character in text)
