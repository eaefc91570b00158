"""The function that long work calls to report its progress."""

from collections.abc import Callable

Progress = Callable[[str, int, int], None]
"""Called with a description of the work, how much of it is done, and how much there is."""


def ignore_progress(what: str, done: int, total: int) -> None:
    """Does nothing: the default of long work."""
