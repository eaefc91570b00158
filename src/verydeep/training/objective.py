"""Loss and score of a batch. The loop knows no classes: what is learnt stands here.

Boxes (appendix A) are a second objective. Their targets come beside the pixels from the view that crops, which gives
pixels only today (``TrainingView``), by way of ``training_batches``, which gives each batch its targets.
"""

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64
from torch import Tensor

from verydeep.data.image_set import ImageSet, count_per_class
from verydeep.training.recipe import Recipe


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


def classification_for(recipe: Recipe, images: ImageSet) -> Classification:
    """Makes the objective of a recipe.

    Choice: with ``balance`` by loss an image weighs one over the size of its class, 1 on average over the images.
    """
    weights = None
    if recipe.balance == "loss":
        counts = count_per_class(images)
        weights = torch.tensor(len(images) / (np.count_nonzero(counts) * np.maximum(counts, 1))).float()
    return Classification(label_smoothing=recipe.label_smoothing, class_weights=weights)
