"""How localisers are tested: the central crop with the class given, or the whole image with its most likely classes.

Paper: appendix A.
"""

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, runtime_checkable
from typing import Protocol as Interface

import numpy as np
from jaxtyping import Float, Float64, UInt8
from numpy import ndarray

from verydeep.data.image_set import ImageSet, array_images
from verydeep.errors import UsageError, UserError
from verydeep.images.decode import DamagedImageError
from verydeep.localisation.candidates import TOP, BoxCandidates, Candidates, Channels, fuse_candidates
from verydeep.localisation.joint import JointBackend
from verydeep.nets.net import VeryDeep
from verydeep.progress import Progress, ignore_progress
from verydeep.speed.backend import find_compute
from verydeep.testing.measure import MeanPosterior, measure
from verydeep.testing.protocols import PROTOCOLS, ProtocolAt, check_scales, default_test_scale

LocalisationProtocol = Literal["centre", "full"]
"""``centre``: the box of the true class from the central crop (Table 8); ``full``: the boxes of the most likely classes
from every position of the whole image, merged (Table 9)."""

MERGE_THRESHOLD = 0.5
"""Of a localiser that has none from validation data."""


@runtime_checkable
class BoxNet(Interface):
    """A net that gives boxes, and what its numbers are."""

    @property
    def net(self) -> VeryDeep:
        """The net: four outputs, or four for each class."""

    @property
    def regression(self) -> str:
        """``scr``: one box for all classes; ``pcr``: a box for each."""

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes, in the order of the outputs."""

    @property
    def merge_threshold(self) -> float:
        """Boxes that overlap more are merged."""

    @property
    def test_scales(self) -> tuple[int, ...] | None:
        """Test scales Q chosen on validation data, pixels; None for that of the training scale."""

    @property
    def classifier(self) -> str | None:
        """The MODEL that rates its boxes where no other is given."""


@dataclass(frozen=True)
class FoundBox:
    """An object that an image may show."""

    index: int  # of the class, among the localiser's
    name: str  # of the class
    posterior: float  # of the class, for the whole image
    score: float  # sum of the posteriors of the class where the members of the box come from
    corners: Float64[ndarray, "4"]  # left, top, right, bottom, pixels of the image


class BoxFinder:
    """Localisers and a classifier, ready to be applied to images; several localisers give the union of their boxes.

    Args:
        localisers: one or several, of the same classes.
        classifier: rates the boxes, and names the most likely classes; None where there is one class, or where only
            the box of the true class is wanted from the central crop.
        protocol: ``centre`` or ``full``.
        test_scales: Q, pixels; by default those of each localiser.
        device: cpu, cuda or mps; by default the fastest there is.
        precision: fp32, bf16, or auto for the faster of the two by a rule over the machine.

    Raises:
        UserError: the classes of the nets differ, or a classifier is missing.
        UsageError: an unknown protocol, or a test scale below a crop.

    Paper: appendix A.
    """

    def __init__(
        self,
        localisers: Sequence[BoxNet],
        classifier: VeryDeep | None = None,
        *,
        protocol: str = "full",
        test_scales: Sequence[int] | None = None,
        device: str | None = None,
        precision: str = "fp32",
    ) -> None:
        if protocol not in ("centre", "full"):
            raise UsageError(f"unknown protocol {protocol!r} of localisation: choose centre or full")
        if protocol == "centre" and len(localisers) > 1:
            raise UsageError("protocol centre tests one localiser: give one, or --protocol full for the union")
        self.localisers, self.protocol, self.classes = localisers, protocol, localisers[0].classes
        self.classifier = classifier if protocol == "full" and len(self.classes) > 1 else None
        if protocol == "full" and self.classifier is None and len(self.classes) > 1:
            raise UserError(
                f"which classifier? The boxes of {len(self.classes)} classes are rated by its scores: give --classifier"
            )
        self.compute = find_compute(device, precision)
        self.tests = [self._test(one, test_scales) for one in localisers]
        for one in localisers:
            if set(one.classes) != set(self.classes):
                raise UserError("these localisers have different classes: fuse those of the same data")
        self._backends: dict[int, JointBackend] = {}

    def _test(self, localiser: BoxNet, test_scales: Sequence[int] | None) -> ProtocolAt:
        net = localiser.net
        tuned = localiser.test_scales if self.protocol == "full" else None  # they are a union
        scales = check_scales(net, test_scales or tuned or (default_test_scale(net),))
        if self.classifier is not None:
            check_scales(self.classifier, scales)
        if self.protocol == "centre" and len(scales) > 1:
            raise UsageError("protocol centre has one test scale: give one, or --protocol full for several")
        return ProtocolAt(PROTOCOLS["centre" if self.protocol == "centre" else "multi-scale"], scales)

    @property
    def test_scales(self) -> tuple[int, ...]:
        """Those of all localisers, pixels."""
        return tuple(sorted({scale for test in self.tests for scale in test.scales}))

    @property
    def is_shared(self) -> bool:
        """Whether all localisers have the convolutions of the classifier, so that these are computed once."""
        return all(self.backend(number).is_shared for number in range(len(self.localisers)))

    def backend(self, number: int) -> JointBackend:
        """What computes a localiser together with the classifier; made for the first image."""
        if number not in self._backends:
            self._backends[number] = JointBackend(self.localisers[number].net, self.classifier, self.compute)
        return self._backends[number]

    def candidates(
        self,
        images: ImageSet,
        posteriors: Float[ndarray, "n k"] | None = None,
        *,
        is_labelled: bool = True,
        top: int = TOP,
        progress: Progress = ignore_progress,
    ) -> tuple[list[Candidates], Float[ndarray, "n k"], float]:
        """Computes the boxes of images before they are merged, their class posteriors, and the seconds it took.

        Args:
            images: their classes are those of the localisers, in any order.
            posteriors: of each image, to choose the most likely classes by; by default those of the classifier applied
                densely at the same test scales, which come from the same maps.
            is_labelled: keep the boxes of the true class of each image too.
            top: number of classes to keep the boxes of.
            progress: called with the number of images done.
        """
        if posteriors is None and len(self.localisers) > 1 and self.classifier is not None:
            posteriors = self._posteriors(images, progress)
        top, labels = 0 if self.protocol == "centre" else top, images.labels if is_labelled else None
        of_localisers, seconds = [], 0.0
        for number, (localiser, test) in enumerate(zip(self.localisers, self.tests, strict=True)):
            mirror = localiser.net.mirror and test.protocol.mirrored
            parts = len(test.scales) * (2 if mirror else 1)
            channels = self._channels(localiser, images.classes)
            reduction = functools.partial(BoxCandidates, channels, parts, labels, posteriors, top)
            try:
                (measured,) = measure(self.backend(number), images, [test], reduction, mirror=mirror, progress=progress)
            except DamagedImageError as error:
                raise error.in_a_set() from error
            found, posteriors = measured.result
            of_localisers.append(found)
            seconds += measured.seconds
        assert posteriors is not None
        fused = [fuse_candidates(several) for several in zip(*of_localisers, strict=True)]
        return fused, posteriors, seconds

    def find(self, pixels: UInt8[ndarray, "h w 3"], *, top: int = TOP) -> list[FoundBox]:
        """Finds an object of each of the most likely classes in an image, the most likely first."""
        found, posterior = self.candidates_of(pixels, top=top)
        boxes, scores = found.merged(self.localisers[0].merge_threshold)
        return [
            FoundBox(index, self.classes[index], float(posterior[index]), float(score), box)
            for index, score, box in zip(found.classes.tolist(), scores, boxes, strict=True)
        ]

    def candidates_of(
        self, pixels: UInt8[ndarray, "h w 3"], *, top: int = TOP
    ) -> tuple[Candidates, Float[ndarray, "k"]]:
        """Computes the boxes of one image before they are merged, and its class posteriors."""
        images = array_images("test", self.classes, np.zeros(1, np.int64), "image", {"image": pixels})
        (found,), (posterior,), _ = self.candidates(images, is_labelled=False, top=top)
        return found, posterior

    def _posteriors(self, images: ImageSet, progress: Progress) -> Float[ndarray, "n k"]:
        """Those of the classifier at all test scales, to choose the same classes for all localisers."""
        assert self.classifier is not None
        backend = self.backend(0).classifier
        assert backend is not None
        test = ProtocolAt(PROTOCOLS["multi-scale"], self.test_scales)
        reduction = functools.partial(MeanPosterior, len(images), backend.num_classes)
        mirror = self.classifier.mirror
        (measured,) = measure(backend, images, [test], reduction, mirror=mirror, progress=progress)
        return measured.result[:, self._score_order(images.classes)]

    def _score_order(self, classes: tuple[str, ...]) -> list[int]:
        assert self.classifier is not None
        return order_of(self.classifier.classes or self.classes, classes, "the classifier")

    def _channels(self, localiser: BoxNet, classes: tuple[str, ...]) -> Channels:
        order = order_of(localiser.classes, classes, "the localiser")
        scores = [] if self.classifier is None else self._score_order(classes)
        groups = {"scr": 1, "pcr": len(localiser.classes)}[localiser.regression]
        assert localiser.net.geometry.num_classes == 4 * groups
        return Channels(
            classes=len(classes),
            class_order=scores,
            box_order=order if localiser.regression == "pcr" else [],
            crop=localiser.net.geometry.crop,
        )


def order_of(ours: Sequence[str], theirs: Sequence[str], whose: str) -> list[int]:
    """Finds for each class of the data its index among those of a net.

    Raises:
        UserError: one has a class that the other has not.
    """
    index = {name: number for number, name in enumerate(ours)}
    if missing := sorted(set(theirs) ^ set(ours)):
        where = "the data" if missing[0] in index else whose
        raise UserError(f"there is no class {missing[0]!r} in {where}: {whose} and the data must have the same classes")
    return [index[name] for name in theirs]
