"""The boxes of one image: an object of each of the most likely classes.

Paper: appendix A.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from verydeep.errors import UsageError
from verydeep.localisation.protocols import BoxFinder, BoxNet
from verydeep.nets.net import VeryDeep
from verydeep.testing.classifier import ImageLike, pixels_of
from verydeep.weights.resolve import load


@dataclass(frozen=True)
class LocalisedObject:
    """An object that an image may show, and where."""

    name: str
    index: int  # of the class
    score: float  # posterior of the class
    box: tuple[float, float, float, float]  # left, top, right, bottom: edges in pixels of the upright image

    def as_record(self) -> dict[str, Any]:
        return {"name": self.name, "index": self.index, "score": self.score, "box": list(self.box)}


class Predictor:
    """Predicts boxes by the protocol ``full``; its nets are made ready once.

    Args:
        localiser: gives the boxes.
        classifier: gives the class scores; None where there is one class.
        test_scales: Q, pixels; by default the localiser's.
        device: cpu, cuda or mps; by default the fastest there is.
        precision: fp32, bf16, or auto.

    Paper: appendix A.
    """

    def __init__(
        self,
        localiser: BoxNet,
        classifier: VeryDeep | str | Path | None,
        *,
        test_scales: Sequence[int] | None = None,
        device: str | None = None,
        precision: str = "fp32",
    ) -> None:
        scores = classifier
        if len(localiser.classes) == 1:
            scores = None  # the score of a single class is 1
        elif scores is not None and not isinstance(scores, VeryDeep):
            scores = load(scores)
        self._finder = BoxFinder([localiser], scores, test_scales=test_scales, device=device, precision=precision)

    def predict(self, image: ImageLike, top: int = 5) -> list[LocalisedObject]:
        """Says what an image shows and where, the most likely first."""
        if top < 1:
            raise UsageError(f"top {top}: name at least one class")
        return [
            LocalisedObject(
                found.name,
                found.index,
                found.posterior,
                (float(found.corners[0]), float(found.corners[1]), float(found.corners[2]), float(found.corners[3])),
            )
            for found in self._finder.find(pixels_of(image), top=top)
        ]
