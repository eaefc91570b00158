"""The plateau rule: divide the learning rate by ten when the validation error stops falling."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Plateau:
    """State of the plateau rule between evaluations.

    Choice: "stops improving" means not better than the best for ``patience`` evaluations; the training ends when that
    happens once more after the last drop, or at the epoch limit.

    Paper: section 3.1.
    """

    best: float = float("inf")  # validation error, a fraction
    waited: int = 0  # evaluations since then, or since the last drop
    drops: int = 0
    ended: bool = False

    def after(self, error: float, *, patience: int, most_drops: int) -> "Plateau":
        if error < self.best:
            return Plateau(error, 0, self.drops)
        if self.waited + 1 < patience:
            return Plateau(self.best, self.waited + 1, self.drops)
        if self.drops < most_drops:
            return Plateau(self.best, 0, self.drops + 1)
        return Plateau(self.best, self.waited + 1, self.drops, ended=True)
