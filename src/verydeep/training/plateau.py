"""The plateau rule: divide the learning rate by ten when the validation error stops falling."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Plateau:
    """State of the plateau rule between evaluations.

    Choice: "stops improving" means not better than the best for ``patience`` evaluations; the training ends when that
    happens once more after the last drop, or at the epoch limit.

    Attributes:
        best: lowest validation error so far, a fraction.
        waited: evaluations since then, or since the last drop.
        drops: divisions of the rate so far.
        ended: whether the last rate brings nothing more.

    Paper: section 3.1.
    """

    best: float = float("inf")
    waited: int = 0
    drops: int = 0
    ended: bool = False

    def after(self, error: float, *, patience: int, most_drops: int) -> "Plateau":
        """The state after an evaluation with an error, a fraction."""
        if error < self.best:
            return Plateau(error, 0, self.drops)
        if self.waited + 1 < patience:
            return Plateau(self.best, self.waited + 1, self.drops)
        if self.drops < most_drops:
            return Plateau(self.best, 0, self.drops + 1)
        return Plateau(self.best, self.waited + 1, self.drops, ended=True)
