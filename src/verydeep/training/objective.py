"""Loss and score of a batch. The loop knows no classes: what is learnt stands here.

Boxes (appendix A) are a second objective. Their targets come beside the pixels from the view that crops, which gives
pixels only today (``TrainingView``), by way of ``training_batches``, which gives each batch its targets.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64
from torch import Tensor

from verydeep.data.image_set import ImageSet, count_per_class
from verydeep.training.recipe import Recipe
from verydeep.training.state import Sums

_NO_BETTER = 0.02
"""Share of the loss at chance by which a net that learns has to be below it."""

_DEVIATIONS = 3
"""Standard deviations by which its error has to be below that at chance."""


class Objective(Protocol):
    """Loss and score of each image of a batch, from what the net gives for it and its target."""

    def loss(self, outputs: Tensor, targets: Tensor) -> Float[Tensor, "n"]:
        """Minimised."""

    def score(self, outputs: Tensor, targets: Tensor) -> Float[Tensor, "n"]:
        """Reported beside the loss."""


@dataclass(frozen=True)
class Classification:
    """Multinomial logistic regression; the score is 1 for an image that is classified wrongly.

    Paper: section 3.1.
    """

    label_smoothing: float = 0.0  # probability
    class_weights: Float[Tensor, "k"] | None = None

    def loss(self, outputs: Float[Tensor, "n k"], targets: Int64[Tensor, "n"]) -> Float[Tensor, "n"]:
        weights = None if self.class_weights is None else self.class_weights.to(outputs.device)
        return F.cross_entropy(
            outputs.float(), targets, weight=weights, label_smoothing=self.label_smoothing, reduction="none"
        )

    def score(self, outputs: Float[Tensor, "n k"], targets: Int64[Tensor, "n"]) -> Float[Tensor, "n"]:
        return (outputs.argmax(1) != targets).float()


@dataclass(frozen=True)
class Chance:
    """Loss and error of a net that gives every image the same scores, the best it can."""

    loss: float  # ln K for K classes of one size
    error: float  # a fraction

    def explains(self, sums: Sums) -> bool:
        """Whether a training did no better: by its loss, and by its error as far as so many images can say."""
        spread = math.sqrt(self.error * (1 - self.error) / max(sums.seen, 1))
        no_better_loss = sums.loss > (1 - _NO_BETTER) * self.loss * sums.seen
        return no_better_loss and sums.score > (self.error - _DEVIATIONS * spread) * sums.seen


def chance_for(recipe: Recipe, counts: Sequence[int]) -> Chance:
    """Computes loss and error at chance, from the training images of each class.

    The best such scores are the logarithms of the classes' shares in the loss: of their images, weighed and drawn as
    the recipe balances them, with its label smoothing.
    """
    sizes = np.array(counts, float)
    present = sizes > 0
    drawn = present / present.sum() if recipe.balance == "sampling" else sizes / sizes.sum()
    weights = np.ones(len(sizes))
    if recipe.balance == "loss":
        weights = _class_weights(counts)
    shares = weights * ((1 - recipe.label_smoothing) * drawn + recipe.label_smoothing / len(sizes))
    shares = shares[shares > 0]
    return Chance(float(-(shares * np.log(shares / shares.sum())).sum()), float(1 - drawn.max()))


def _class_weights(counts: Sequence[int]) -> Float[np.ndarray, "k"]:
    """Choice: with ``balance`` by loss an image weighs one over the size of its class, 1 on average over the images."""
    weights: np.ndarray = np.sum(counts) / (np.count_nonzero(counts) * np.maximum(counts, 1))
    return weights


def classification_for(recipe: Recipe, images: ImageSet) -> Classification:
    """Makes the objective of a recipe."""
    weights = None
    if recipe.balance == "loss":
        weights = torch.tensor(_class_weights(count_per_class(images))).float()
    return Classification(label_smoothing=recipe.label_smoothing, class_weights=weights)
