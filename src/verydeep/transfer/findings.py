"""What the descriptors of training images say of these images: what more of them would bring, and doubtful labels.

Paper: appendix B for the descriptors; the rest is our addition.
"""

from dataclasses import replace

import numpy as np
from jaxtyping import Float, Int8
from numpy import ndarray

from verydeep.transfer.classifier import LinearClassifier
from verydeep.transfer.labels import DoubtfulLabel, find_doubtful_labels
from verydeep.transfer.learning_curve import LearningCurve, learning_curve


def look_at_images(
    classifier: LinearClassifier,
    descriptors: Float[ndarray, "n d"],
    targets: Int8[ndarray, "n k"],
    classes: tuple[str, ...],
    *,
    seed: int,
) -> tuple[LearningCurve | None, list[DoubtfulLabel]]:
    """Looks at the images that a classifier was fitted to, by the parts that its cross-validation held out."""
    held_out = classifier.cross_validation
    if held_out is None or not (held_out.parts >= 0).any():
        return None, []
    tested, labels = np.flatnonzero(held_out.parts >= 0), targets.argmax(1)
    found = find_doubtful_labels(held_out.scores[tested], labels[tested])
    curve = learning_curve(descriptors, targets, classifier, classes, seed=seed)
    return curve, [replace(one, index=int(tested[one.index])) for one in found]
