"""Trainings that follow each other: each begins with the weights of the one before it."""

from dataclasses import dataclass, field
from typing import Any

from verydeep.training.recipe import RECIPES


@dataclass(frozen=True)
class Step:
    """One training of a chain.

    Attributes:
        recipe: name of its recipe.
        architecture: name of its architecture; None for the one that is asked for.
        changes: new values of fields of the recipe.
    """

    recipe: str
    architecture: str | None = None
    changes: dict[str, Any] = field(default_factory=dict)

    @property
    def title(self) -> str:
        """Such as ``paper-A``."""
        return f"{self.recipe}-{self.architecture}" if self.architecture else self.recipe


@dataclass(frozen=True)
class Chain:
    """Trainings that follow each other.

    Attributes:
        name: of the chain.
        remark: what it does.
        steps: the trainings, first to last.
    """

    name: str
    remark: str
    steps: tuple[Step, ...]


_SCALES = (Step("paper-384"), Step("paper-jitter"))

_ROWS = (
    Chain(
        name="paper-chain",
        remark="S = 256 from Glorot's random weights, S = 384 from it, S in [256, 512] from that",
        steps=(Step("paper"), *_SCALES),
    ),
    Chain(
        name="paper-chain-fc",
        remark="the same, but in the last step only the fully connected layers learn",
        steps=(Step("paper"), Step("paper-384"), Step("paper-jitter-fc")),
    ),
    Chain(
        name="paper-chain-from-a",
        remark="A from Gaussian noise, the deeper net grown from it, then the two larger scales",
        steps=(
            Step("paper", architecture="A", changes={"initialisation": "gaussian"}),
            Step("paper", changes={"initialisation": "gaussian"}),
            *_SCALES,
        ),
    ),
)

CHAINS: dict[str, Chain] = {row.name: row for row in _ROWS}
"""The chains by name.

Paper: section 3.1; the last step with the fully connected layers only: section 4.4.
"""

assert all(step.recipe in RECIPES for chain in _ROWS for step in chain.steps)
assert not CHAINS.keys() & RECIPES.keys()
