"""The recipes of a chain: trained at one scale after another, each from the weights of the one before.

Paper: section 3.1.
"""

from typing import Any

from verydeep.errors import UsageError
from verydeep.training.recipe import CHAINS, Recipe, Step, find_recipe

_SHARE_OF_RATE = 0.1


def is_chain(recipe: str) -> bool:
    return recipe in CHAINS


def step_of(
    recipe: str,
    changes: dict[str, Any],
    *,
    epochs: int | None = None,
    chain_epochs: int | None = None,
    number: int = 1,
    is_jittered: bool = False,
    epochs_of_matched: int | None = None,
) -> Step:
    """The recipe of a training of a chain, with its changes; the first is that of a net without a chain.

    Choice: every later training begins at a tenth of the first rate with one drop fewer, as the paper's at S = 384; for
    its scale jitter the paper gives no rate.

    Args:
        recipe: of the first training, or a chain of ``CHAINS``.
        changes: of its fields, for all trainings.
        epochs: of the first.
        chain_epochs: of each later one, where they are others.
        number: of the training, from 1.
        is_jittered: whether a later one is with scale jitter, or is the control of such a one.
        epochs_of_matched: of a control: those that the training had which it is compared with; it never ends before.
    """
    first, *later = CHAINS.get(recipe, (Step(recipe),))
    if first.architecture is not None:
        raise UsageError(f"--recipe {recipe} grows its nets from {first.architecture}, tables do not: give paper-chain")
    changes = changes | ({} if epochs is None else {"epochs": epochs})
    if number == 1:
        return Step(first.recipe, changes=first.changes | changes)
    began = find_recipe(first.recipe, **first.changes | changes)
    step = later[-1 if is_jittered else 0] if later else first
    own = {"learning_rate": _SHARE_OF_RATE * began.learning_rate, "drops": max(0, began.drops - 1)}
    if chain_epochs is not None:
        own["epochs"] = chain_epochs
    if epochs_of_matched is not None:
        own |= {"epochs": epochs_of_matched, "drops": max(own["drops"], epochs_of_matched)}
    return Step(step.recipe, changes=step.changes | changes | own)


def recipe_of(step: Step) -> Recipe:
    return find_recipe(step.recipe, **step.changes)


def later_record(first: Recipe, later: Recipe) -> dict[str, Any]:
    """The fields of a later recipe that are others than those of the first; its scale is that of each net."""
    before = first.as_record()
    return {name: value for name, value in later.as_record().items() if name != "paper_scale" and value != before[name]}
