"""A localiser and a classifier applied to the same images: the class scores and the boxes of every position.

Where both have the same convolutions these are computed once. That is so where the localiser was trained with
convolutions that stayed as they were, and the classifier over the same ones: from ``vgg16-features``, or by
``--finetune fc`` from that classifier.

Paper: appendix A.
"""

import numpy as np
import torch
from jaxtyping import Float, Float32, UInt8
from numpy import ndarray
from numpy.lib.stride_tricks import sliding_window_view

from verydeep.device import Compute
from verydeep.nets.net import VeryDeep
from verydeep.speed.backend import Backend, make_test_backend
from verydeep.speed.tiling import head_in_parts, pool5_map, score_map


class JointBackend:
    """Computes the class scores of a classifier and the boxes of a localiser; see ``Backend``.

    The positions are those of the localiser. The class scores of a crop are the mean of the classifier's over the
    positions within it; those of the nearest position where the classifier has larger crops.

    Args:
        localiser: gives the boxes.
        classifier: gives the class scores; None where there is one class.
        compute: device, precision and layout.
    """

    layers: tuple[str, ...] = ("fc8",)

    def __init__(self, localiser: VeryDeep, classifier: VeryDeep | None, compute: Compute) -> None:
        self.localiser = make_test_backend(localiser, compute)
        self.classifier = None if classifier is None else make_test_backend(classifier, compute)
        self.is_shared = classifier is not None and have_same_convolutions(localiser, classifier)
        self.crop, self.head_kernel = self.localiser.crop, self.localiser.head_kernel
        self.num_scores = 0 if self.classifier is None else self.classifier.num_classes
        self.num_classes = self.num_scores + self.localiser.num_classes

    def maps(self, images: UInt8[ndarray, "n h w 3"], layer: str = "fc8") -> Float32[ndarray, "n k i j"]:
        """Computes the class scores, and after them the boxes."""
        assert layer in self.layers
        if self.classifier is None:
            return score_map(self.localiser, images)
        if self.is_shared and "pool5" in self.localiser.layers:
            pool5 = pool5_map(self.localiser, images)
            boxes, scores = (head_in_parts(backend, pool5) for backend in (self.localiser, self.classifier))
        else:
            boxes, scores = (score_map(backend, images) for backend in (self.localiser, self.classifier))
        return np.concatenate([_aligned(scores, self.classifier, boxes, self.localiser), boxes], 1)

    def head(self, pool5_maps: Float32[ndarray, "n c y x"]) -> Float32[ndarray, "n k i j"]:
        """Nothing computes these two nets in parts but they themselves."""
        raise AssertionError("the map after pool5 is not given, so nobody has one")


def have_same_convolutions(first: VeryDeep, second: VeryDeep) -> bool:
    """Whether two nets compute the same map after the last pooling: from the same pixels by the same weights."""
    if first.geometry.architecture != second.geometry.architecture:
        return False
    ours, theirs = (_before_head(net) for net in (first, second))
    return ours.keys() == theirs.keys() and all(_equal(ours[name], theirs[name]) for name in ours)


def _before_head(net: VeryDeep) -> dict[str, torch.Tensor]:
    tensors = net.state_dict()
    return {name: tensors[name] for name in tensors if not name.startswith("fc") and "num_batches" not in name}


def _equal(first: torch.Tensor, second: torch.Tensor) -> bool:
    return first.shape == second.shape and torch.equal(first.cpu(), second.cpu())


def _aligned(
    scores: Float[ndarray, "n k p q"], classifier: Backend, boxes: Float[ndarray, "n b i j"], localiser: Backend
) -> Float[ndarray, "n k i j"]:
    """Gives every position of the boxes its class scores."""
    rows, columns = boxes.shape[2:]
    more = localiser.head_kernel - classifier.head_kernel
    if more >= 0:
        windows = sliding_window_view(scores, (more + 1, more + 1), (2, 3)) if more else scores[..., None, None]
        means: ndarray = windows.mean((4, 5), dtype=np.float32)
        return means
    down, across = (
        (np.arange(count) + more // 2).clip(0, available - 1)
        for count, available in zip((rows, columns), scores.shape[2:], strict=True)
    )
    return scores[:, :, down[:, None], across]
