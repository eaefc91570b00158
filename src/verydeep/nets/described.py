"""A net apart from the backend that computes it: its shapes, its classes, and its weights as arrays.

Paper: section 2.1, Table 1.
"""

from collections.abc import Callable
from typing import Any

from jaxtyping import Float32
from numpy import ndarray

from verydeep.errors import UserError
from verydeep.nets.architecture import Geometry
from verydeep.nets.boxes_card import BoxesCard, refuse_boxes


class DescribedNet:
    """A net that can be tested: a ``VeryDeep``, which PyTorch computes, or the ``StoredNet`` of a model file.

    Attributes:
        geometry: the numbers that fix the shapes.
        features_only: whether the net ends with the last pooling.
        classes: names of the classes in the order of the scores, where known.
        mirror: whether images may be flipped horizontally.
        train_scale: smallest and largest training scale S, pixels.
        boxes: what its outputs say where it is a localiser; else None.
        mean: subtracted from the pixels, one number per channel: a tensor or an array.
        divisor: divides them afterwards.
    """

    geometry: Geometry
    features_only: bool
    classes: tuple[str, ...] | None
    mirror: bool
    train_scale: tuple[int, int]
    boxes: BoxesCard | None
    mean: Any
    divisor: Any

    @property
    def device_type(self) -> str:
        """Where its weights are: cpu, cuda or mps."""
        return "cpu"

    def require_scores(self) -> None:
        """Raises UserError where the net has its convolutions only, and so no classes."""
        if self.features_only:
            raise UserError(
                f"this net of {self.geometry.title} has no classes, only convolutions: train or transfer from it, take "
                "its features or activations, or fetch a whole net, such as imagenet-D"
            )

    def require_classes(self) -> None:
        """Raises UserError where there are no scores of at least two classes, for a posterior is a soft-max of them."""
        self.require_scores()
        refuse_boxes(self.boxes)
        if self.geometry.num_classes < 2:
            raise UserError(
                f"this net of {self.geometry.title} has one score, and the posterior of a single class is always 1: "
                "take torch.sigmoid(net(images)) as its probability, or train a net of two classes"
            )

    def check_float32(self) -> None:
        """Raises UserError where the net is not in float32 on the CPU."""

    def weights_check(self) -> Callable[[], None]:
        """Returns a function that raises UserError once the weights were changed in place."""
        raise NotImplementedError

    def weights_of(self, layer: str) -> tuple[Float32[ndarray, "k c s s"], Float32[ndarray, "k"]]:
        """Weight and bias of a convolution or a fully connected layer: the net's own, not to be written to."""
        raise NotImplementedError

    def batch_norm_of(self, layer: str) -> tuple[ndarray, ndarray, ndarray, ndarray, float]:
        """Scale, shift, mean and variance of a batch norm, one number per channel each, and what the variance gets."""
        raise NotImplementedError
