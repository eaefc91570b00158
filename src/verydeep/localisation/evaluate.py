"""Localisers, images with boxes and protocols become error rates.

Paper: appendix A.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol as Interface
from typing import runtime_checkable

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from verydeep.data.image_set import ImageSet
from verydeep.errors import UserError
from verydeep.localisation.candidates import TOP, Candidates
from verydeep.localisation.protocols import BoxFinder, BoxNet
from verydeep.localisation.result import LocalisationResult
from verydeep.nets.net import VeryDeep
from verydeep.progress import Progress, ignore_progress
from verydeep.testing.result import Result
from verydeep.weights.resolve import load


@runtime_checkable
class Boxed(Interface):
    """Images with the boxes of the objects of their class."""

    @property
    def images(self) -> ImageSet:
        """The images, with their classes."""

    @property
    def boxes(self) -> Sequence[Float[ndarray, "_ 4"]]:
        """Left, top, right, bottom of one or more objects of each image, pixels."""


@dataclass(frozen=True, kw_only=True)
class Unmerged:
    """What localisers gave for images, before it is merged: merging takes a moment, and may be repeated."""

    data: Boxed
    candidates: Sequence[Candidates]
    posteriors: Float[ndarray, "n k"]
    protocol: str
    test_scales: tuple[int, ...]
    models: tuple[str, ...]
    precision: str
    seconds: float

    def result(self, merge_threshold: float, test_scales: Sequence[int] | None = None) -> LocalisationResult:
        """Merges the boxes, those of some test scales where these are given, and compares them with the objects."""
        scales = self.test_scales if test_scales is None else tuple(test_scales)
        images, is_full = self.data.images, self.protocol == "full"
        top = min(TOP, len(images.classes)) if is_full else 0
        count = len(images)
        boxes, ranked = np.empty((count, 4)), np.empty((count, top), np.int64)
        ranked_boxes = np.empty((count, top, 4))
        for row, (found, label) in enumerate(zip(self.candidates, images.labels.tolist(), strict=True)):
            of_classes, _ = found.at(scales).merged(merge_threshold)
            boxes[row] = of_classes[found.classes == label][0]
            ranked[row], ranked_boxes[row] = found.classes[:top], of_classes[:top]
        return LocalisationResult(
            labels=images.labels,
            names=images.names,
            classes=images.classes,
            split=images.split,
            objects=self.data.boxes,
            boxes=boxes,
            ranked=ranked,
            ranked_boxes=ranked_boxes,
            posteriors=self.posteriors if is_full else None,
            protocol=self.protocol,
            test_scales=scales,
            merge_threshold=merge_threshold,
            models=self.models,
            precision=self.precision,
            seconds=self.seconds,
        )


def evaluate_localiser(
    localiser: BoxNet | Sequence[BoxNet],
    data: Boxed,
    *,
    protocol: str = "centre",
    test_scales: Sequence[int] | None = None,
    classifier: VeryDeep | str | Path | None = None,
    classification: Result | None = None,
    merge_threshold: float | None = None,
    device: str | None = None,
    precision: str = "fp32",
    progress: Progress = ignore_progress,
) -> LocalisationResult:
    """Measures the error rates of a localiser, or of several whose boxes are united before they are merged.

    Args:
        localiser: one, or several of the same classes.
        data: images with boxes.
        protocol: ``centre`` (the box of the true class, from the central crop) or ``full`` (the boxes of the most
            likely classes, from the whole image).
        test_scales: Q, pixels; by default those of each localiser.
        classifier: a net or a MODEL, for ``full`` of several classes: rates the boxes and names the classes; by default
            that of the (first) localiser.
        classification: posteriors of the same images by the best protocol there is, to choose the classes by; by
            default those of the classifier applied densely at the same test scales, which cost nothing more.
        merge_threshold: boxes with a higher IoU are merged; by default that of the (first) localiser.
        device: cpu, cuda or mps; by default the fastest there is.
        precision: fp32, bf16, or auto for the faster of the two by a rule over the machine.
        progress: called with the number of images done.

    Raises:
        UserError: the nets, the data or an image cannot be used.
        UsageError: an unknown protocol, or a test scale below a crop.

    Paper: appendix A, Tables 8 and 9.
    """
    localisers = [localiser] if isinstance(localiser, BoxNet) else list(localiser)
    unmerged = compute_boxes(
        localisers,
        data,
        protocol=protocol,
        test_scales=test_scales,
        classifier=classifier,
        classification=classification,
        device=device,
        precision=precision,
        progress=progress,
    )
    threshold = localisers[0].merge_threshold if merge_threshold is None else merge_threshold
    return unmerged.result(threshold)


def compute_boxes(
    localisers: Sequence[BoxNet],
    data: Boxed,
    *,
    protocol: str = "full",
    test_scales: Sequence[int] | None = None,
    classifier: VeryDeep | str | Path | None = None,
    classification: Result | None = None,
    device: str | None = None,
    precision: str = "fp32",
    progress: Progress = ignore_progress,
) -> Unmerged:
    """Computes the boxes of images before they are merged, otherwise as ``evaluate_localiser``."""
    finder = BoxFinder(
        localisers,
        _net_of_scores(localisers[0], classifier, protocol),
        protocol=protocol,
        test_scales=test_scales,
        device=device,
        precision=precision,
    )
    posteriors = None if classification is None else _posteriors_for(data.images, classification)
    candidates, posteriors, seconds = finder.candidates(data.images, posteriors, progress=progress)
    return Unmerged(
        data=data,
        candidates=candidates,
        posteriors=posteriors,
        protocol=protocol,
        test_scales=finder.test_scales,
        models=tuple(f"{one.regression} of {one.net.geometry.title}" for one in localisers),
        precision=finder.compute.precision,
        seconds=seconds,
    )


def _net_of_scores(localiser: BoxNet, classifier: VeryDeep | str | Path | None, protocol: str) -> VeryDeep | None:
    """The net that rates boxes: the one given, or that of the localiser; none where nothing is to be rated."""
    if protocol == "centre" or len(localiser.classes) == 1:
        return None
    given = localiser.classifier if classifier is None else classifier
    return load(given) if isinstance(given, str | Path) else given


def _posteriors_for(images: ImageSet, classification: Result) -> Float[ndarray, "n k"]:
    if classification.classes != images.classes or list(classification.names) != list(images.names):
        raise UserError(
            "the posteriors are of other images or classes than the boxes: evaluate the classifier on the same data"
        )
    return classification.posteriors
