"""Results of localisers: boxes of labelled images, and the error rates that follow from them.

Paper: appendix A, Tables 8 and 9.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Float64, Int64
from numpy import ndarray

from verydeep.localisation.boxes import RIGHT_OVERLAP
from verydeep.localisation.metrics import best_overlaps, wrong_boxes
from verydeep.testing.metrics import interval95, top_error
from verydeep.testing.result import LabelledImages


@dataclass(frozen=True, kw_only=True)
class LocalisationResult(LabelledImages):
    """Boxes of labelled images, and the error rates that follow from them."""

    objects: Sequence[Float[ndarray, "_ 4"]] = field(repr=False)  # of the class of each image, pixels
    boxes: Float64[ndarray, "n 4"] = field(repr=False)  # of the true class of each image, pixels
    ranked: Int64[ndarray, "n t"] = field(repr=False)  # the most likely classes; none with ``centre``
    ranked_boxes: Float64[ndarray, "n t 4"] = field(repr=False)  # of these classes, pixels
    posteriors: Float[ndarray, "n k"] | None = field(default=None, repr=False)  # of the classes; None with ``centre``
    protocol: str
    test_scales: tuple[int, ...]
    merge_threshold: float
    models: tuple[str, ...] = ()  # what each localiser is, such as ``pcr of D (VGG-16)``
    selected_on: str | None = None  # split that the weights or the threshold were selected on, where that is known
    precision: str = "fp32"
    seconds: float = 0.0

    @cached_property
    def ious(self) -> Float64[ndarray, "n"]:
        """IoU of the box of the true class with the object of each image that it overlaps most."""
        return best_overlaps(self.boxes, self.objects)

    @cached_property
    def ranked_ious(self) -> Float64[ndarray, "n t"]:
        """The same for the boxes of the most likely classes."""
        of_answers = [best_overlaps(boxes, self.objects) for boxes in self.ranked_boxes.transpose(1, 0, 2)]
        return np.stack(of_answers, 1) if of_answers else np.zeros(self.ranked.shape)

    def wrong(self, top: int | None = None) -> Bool[ndarray, "n"]:
        """Returns for each image whether its answers are wrong: the box given the class, or the ``top`` answers."""
        if top is None:
            is_wrong: ndarray = ~(self.ious > RIGHT_OVERLAP)
            return is_wrong
        return wrong_boxes(self.ranked, self.ranked_ious, self.labels, top)

    @property
    def localisation_error(self) -> float:
        """Share of images where the box of the true class is wrong.

        Paper: appendix A, Table 8.
        """
        return float(self.wrong().mean())

    @property
    def top1_localisation_error(self) -> float | None:
        """Share of images where the most likely class or its box is wrong; None with ``centre``."""
        return float(self.wrong(1).mean()) if self.ranked.shape[1] else None

    @property
    def top5_localisation_error(self) -> float | None:
        """Share of images where none of the five most likely classes is right with its box; None with fewer classes.

        Paper: appendix A, Table 9.
        """
        return float(self.wrong(5).mean()) if self.ranked.shape[1] >= 5 else None

    @property
    def top1_error(self) -> float | None:
        """Of the classification beside, whatever the boxes."""
        return None if self.posteriors is None else top_error(self.posteriors, self.labels, 1)

    @property
    def top5_error(self) -> float | None:
        """Of the classification beside, whatever the boxes; None with fewer than five classes."""
        return None if self.posteriors is None else top_error(self.posteriors, self.labels, 5)

    def class_errors(self) -> dict[str, float | None]:
        """Error of the box given the class, for the images of each class; None for a class without images."""
        wrong = self.wrong()
        of_class = {name: wrong[self.labels == index] for index, name in enumerate(self.classes)}
        return {name: float(one.mean()) if len(one) else None for name, one in of_class.items()}

    @property
    def title(self) -> str:
        scales = ",".join(map(str, self.test_scales))
        return f"{' + '.join(self.models) or 'localiser'}, {self.protocol} at {scales}"

    def as_record(self) -> dict[str, Any]:
        """The figures by the names of ``verydeep localise evaluate --json``."""
        found: dict[str, Any] = {
            "localisation_error": self.localisation_error,
            "interval95": list(interval95(self.localisation_error, len(self.labels))),
            "mean_iou": float(self.ious.mean()),
        }
        for name in ("top1", "top5") if self.protocol == "full" else ():
            error = getattr(self, f"{name}_localisation_error")
            found[f"{name}_localisation_error"] = error
            found[f"{name}_interval95"] = None if error is None else list(interval95(error, len(self.labels)))
            found[f"{name}_error"] = getattr(self, f"{name}_error")
        return found | {
            "num_images": len(self.labels),
            "data": self.data,
            "split": self.split,
            "selected_on": self.selected_on,
            "protocol": self.protocol,
            "test_scales": list(self.test_scales),
            "merge_threshold": self.merge_threshold if self.protocol == "full" else None,
            "precision": self.precision,
            "seconds": self.seconds,
            "skipped": list(self.skipped),
        }

    def __repr__(self) -> str:
        """The errors and what they were measured on."""
        facts = self.as_record()
        names = [name for name in facts if name.endswith("error")] + ["num_images", "split", "protocol", "test_scales"]
        return f"LocalisationResult({', '.join(f'{name}={facts[name]!r}' for name in names)})"
