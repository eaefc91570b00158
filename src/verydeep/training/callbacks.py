"""Who is told how a training goes."""

from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from verydeep.training.run_folder import Progress


class Reporter(Protocol):
    """Shows a person how it goes."""

    def note(self, text: str) -> None:
        """Says something worth keeping."""

    def expect(self, epochs: int) -> None:
        """A training of so many epochs begins."""

    def progress(self, what: str, done: int, total: int) -> None:
        """Shows how far a step before the training is."""

    def step(self, progress: "Progress", iterations: int, images_per_second: float) -> None:
        """After a weight update, a few times a second at most."""

    def epoch(self, record: dict[str, Any]) -> None:
        """After an epoch, with its line of the log."""


class Silent:
    """A reporter that shows nothing."""

    def note(self, text: str) -> None:
        """Says nothing."""

    def expect(self, epochs: int) -> None:
        """Shows nothing."""

    def progress(self, what: str, done: int, total: int) -> None:
        """Shows nothing."""

    def step(self, progress: "Progress", iterations: int, images_per_second: float) -> None:
        """Shows nothing."""

    def epoch(self, record: dict[str, Any]) -> None:
        """Shows nothing."""
