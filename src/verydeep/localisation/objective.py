"""Loss and score of boxes: the second objective of the training loop.

Paper: appendix A.
"""

from dataclasses import dataclass
from typing import Final

import torch
from jaxtyping import Float
from torch import Tensor

from verydeep.nets.boxes_card import Regression
from verydeep.training.objective import Chance

ENOUGH: Final = 0.5
"""IoU above which a box is right.

Paper: appendix A, after ILSVRC.
"""


@dataclass(frozen=True)
class BoxRegression:
    """The Euclidean loss of a box; the score is 1 for a box that overlaps the true one too little.

    Targets are the index of the class, then the four numbers of the box. Of a box per class the outputs of the true
    class alone have a loss, and so a gradient.

    Choice: half the squared distance of the four numbers, as Caffe's loss has it.

    Paper: appendix A.
    """

    regression: Regression

    def codes(self, outputs: Float[Tensor, "n b"], targets: Float[Tensor, "n 5"]) -> Float[Tensor, "n 4"]:
        """The predicted box of each image, of its true class."""
        return codes_of(outputs.float(), targets[:, 0].long(), self.regression)

    def loss(self, outputs: Float[Tensor, "n b"], targets: Float[Tensor, "n 5"]) -> Float[Tensor, "n"]:
        return (self.codes(outputs, targets) - targets[:, 1:]).square().sum(1) / 2

    def score(self, outputs: Float[Tensor, "n b"], targets: Float[Tensor, "n 5"]) -> Float[Tensor, "n"]:
        return (iou_of_codes(self.codes(outputs, targets), targets[:, 1:]) <= ENOUGH).float()


def codes_of(outputs: Float[Tensor, "n b"], labels: Tensor, regression: Regression) -> Float[Tensor, "n 4"]:
    """The box that each row of outputs has for its class."""
    if regression == "scr":
        return outputs
    found: Tensor = outputs.unflatten(1, (-1, 4))[torch.arange(len(outputs), device=outputs.device), labels]
    return found


def iou_of_codes(first: Float[Tensor, "n 4"], second: Float[Tensor, "n 4"]) -> Float[Tensor, "n"]:
    """Computes the IoU of two boxes of one crop, row by row."""
    low = torch.maximum(first[:, :2] - first[:, 2:] / 2, second[:, :2] - second[:, 2:] / 2)
    high = torch.minimum(first[:, :2] + first[:, 2:] / 2, second[:, :2] + second[:, 2:] / 2)
    inside = (high - low).clamp(min=0).prod(1)
    union = first[:, 2:].clamp(min=0).prod(1) + second[:, 2:].clamp(min=0).prod(1) - inside
    return torch.where(union > 0, inside / union, 0.0)


def mean_codes(targets: Float[Tensor, "n 5"], regression: Regression, num_classes: int) -> Float[Tensor, "b"]:
    """The mean box, or that of each class; of a class without images the mean of all."""
    overall = targets[:, 1:].mean(0)
    if regression == "scr":
        return overall
    labels = targets[:, 0].long()
    means = [
        targets[labels == label, 1:].mean(0) if (labels == label).any() else overall for label in range(num_classes)
    ]
    return torch.cat(means)


def chance_of_boxes(targets: Float[Tensor, "n 5"], regression: Regression, num_classes: int) -> Chance:
    """Loss and error of the mean box, which needs no image."""
    outputs = mean_codes(targets, regression, num_classes).expand(len(targets), -1)
    objective = BoxRegression(regression)
    return Chance(objective.loss(outputs, targets).mean().item(), objective.score(outputs, targets).mean().item())
