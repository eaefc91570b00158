"""The boxes that a localiser gives for an image before they are merged, as a reduction of the loop of testing.

Paper: appendix A.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from jaxtyping import Float, Float32, Float64, Int, Int64
from numpy import ndarray

from verydeep.distributed import all_gather
from verydeep.images.augment import CropPlace
from verydeep.images.geometry import centred, rescaled_size
from verydeep.localisation.boxes import clip, decode_map
from verydeep.localisation.merging import merge
from verydeep.paper.constants import TOTAL_STRIDE
from verydeep.testing.measure import Seen, posteriors_of, softmax
from verydeep.testing.metrics import check_finite

TOP = 5
"""Classes that an answer may name (ILSVRC)."""


@dataclass(frozen=True)
class Candidates:
    """Boxes of one image from every position, scale and localiser."""

    size: tuple[int, int]  # width and height of the image, pixels
    classes: Int64[ndarray, "c"]  # that have boxes: the most likely first, then the true one
    corners: Float64[ndarray, "g m 4"]  # of each class, or one group for all of them; in the image, pixels
    scores: Float32[ndarray, "c m"]  # posterior of each class where the box comes from
    scales: Int64[ndarray, "m"]  # test scale Q where it comes from, pixels

    def at(self, scales: Sequence[int]) -> "Candidates":
        """Those of some test scales."""
        kept = np.isin(self.scales, scales)
        return replace(self, corners=self.corners[:, kept], scores=self.scores[:, kept], scales=self.scales[kept])

    def merged(self, threshold: float) -> tuple[Float64[ndarray, "c 4"], Float64[ndarray, "c"]]:
        """Merges the boxes of each class; gives the one with the highest sum of posteriors, and that sum.

        Choice: the box is cut off at the edges of the image.

        Paper: appendix A.
        """
        boxes, sums = np.empty((len(self.classes), 4)), np.empty(len(self.classes))
        of_group = [slice(None)] if len(self.corners) == 1 else [slice(k, k + 1) for k in range(len(self.classes))]
        for corners, classes in zip(self.corners, of_group, strict=True):
            merged = merge(corners, self.scores[classes].T, threshold)
            best = merged.scores.argmax(0)
            boxes[classes], sums[classes] = merged.corners[best], merged.scores.max(0)
        return clip(boxes, self.size), sums


def fuse_candidates(several: Sequence[Candidates]) -> Candidates:
    """The union of the boxes of several localisers for one image.

    Paper: appendix A.
    """
    first, *others = several
    if not others:
        return first
    assert all(np.array_equal(one.classes, first.classes) for one in others)
    groups = max(len(one.corners) for one in several)
    return replace(
        first,
        corners=np.concatenate([np.broadcast_to(one.corners, (groups, *one.corners.shape[1:])) for one in several], 1),
        scores=np.concatenate([one.scores for one in several], 1),
        scales=np.concatenate([one.scales for one in several]),
    )


@dataclass(frozen=True, kw_only=True)
class Channels:
    """What the channels of the joint maps of a classifier and a localiser are."""

    classes: int  # of the data
    class_order: Sequence[int]  # for each class of the data the channel of its score; empty without a classifier
    box_order: Sequence[int]  # for each class of the data the group of four channels of its box; empty: one for all
    crop: int  # side of the crop that a position sees, pixels

    def scores(self, maps: Float[ndarray, "n k i j"]) -> Float[ndarray, "n c i j"] | None:
        """The class scores, in the order of the data's classes."""
        if not len(self.class_order):
            return None
        scores: ndarray = maps[:, self.class_order]
        return scores

    def boxes(self, map_: Float[ndarray, "k i j"], classes: Int[ndarray, "c"]) -> Float[ndarray, "b i j"]:
        """The codes of the boxes of some classes, or of the one for all."""
        start = len(self.class_order)
        if not len(self.box_order):
            return map_[start:]
        groups = 4 * np.asarray(self.box_order)[classes]
        codes: ndarray = map_[start + (groups[:, None] + np.arange(4)).ravel()]
        return codes


@dataclass
class _Waiting:
    """An image some of whose parts have come."""

    parts: list[tuple[int, CropPlace, Float32[ndarray, "k i j"], Float32[ndarray, "c i j"]]] = field(
        default_factory=list
    )
    posterior: Float64[ndarray, "c"] | float = 0.0


class BoxCandidates:
    """Keeps the boxes of every position, of the true class of an image and of the most likely ones; see ``Reduction``.

    Args:
        channels: of the maps.
        parts: of an image, mirror images too.
        labels: true class of each image; None where that is not known.
        posteriors: of each image, to choose the classes by; None: those of the same maps.
        top: most likely classes to keep; 0 keeps the true one alone.

    Paper: appendix A.
    """

    def __init__(
        self,
        channels: Channels,
        parts: int,
        labels: Int64[ndarray, "n"] | None,
        posteriors: Float[ndarray, "n c"] | None = None,
        top: int = TOP,
    ) -> None:
        self._channels, self._parts, self._labels, self._given, self._top = channels, parts, labels, posteriors, top
        self._waiting: dict[int, _Waiting] = {}
        self._found: dict[int, tuple[Candidates, Float64[ndarray, "c"]]] = {}

    def add(self, images: Sequence[int], maps: Float[ndarray, "n k i j"], weight: float, seen: Seen) -> None:
        """Adds the maps of parts of images."""
        check_finite(maps, "the localiser or its classifier")
        scores = self._channels.scores(maps)
        if scores is None:
            scores = np.zeros((len(maps), self._channels.classes, *maps.shape[2:]), np.float32)
        posteriors, at_positions = weight * posteriors_of(scores), softmax(scores)
        for row, (image, size) in enumerate(zip(images, seen.sizes, strict=True)):
            waiting = self._waiting.setdefault(image, _Waiting())
            place = first_place(seen, size, self._channels.crop)
            waiting.parts.append((seen.view.scale, place, maps[row], at_positions[row]))
            waiting.posterior = waiting.posterior + posteriors[row]
            if len(waiting.parts) == self._parts:
                self._found[image] = self._chosen(image, size, self._waiting.pop(image))

    def _chosen(self, image: int, size: tuple[int, int], waiting: _Waiting) -> tuple[Candidates, Float64[ndarray, "c"]]:
        posterior = np.asarray(waiting.posterior if self._given is None else self._given[image], np.float64)
        classes = np.argsort(-posterior, kind="stable")[: self._top]
        if self._labels is not None and self._labels[image] not in classes:
            classes = np.append(classes, self._labels[image])
        corners, scores, scales = [], [], []
        for scale, place, map_, at_positions in waiting.parts:
            corners.append(decode_map(self._channels.boxes(map_, classes), place))
            scores.append(at_positions[classes].reshape(len(classes), -1))
            scales.append(np.full(scores[-1].shape[1], scale))
        found = Candidates(size, classes, np.concatenate(corners, 1), np.concatenate(scores, 1), np.concatenate(scales))
        return found, posterior

    def finish(self) -> tuple[list[Candidates], Float64[ndarray, "n c"]]:
        """Returns the candidates of each image of all processes, and its class posteriors."""
        assert not self._waiting, "some parts of an image never came"
        of_images = all_gather(self._found)
        found = [of_images[image] for image in sorted(of_images)]
        return [one for one, _ in found], np.array([posterior for _, posterior in found])


def first_place(seen: Seen, size: tuple[int, int], crop: int) -> CropPlace:
    """The crop that the first position of a map sees: of a mirror image it lies at the right edge."""
    rescaled = rescaled_size(size, seen.view.scale)
    is_dense = seen.view.method.is_dense
    sides = tuple(side // TOTAL_STRIDE * TOTAL_STRIDE for side in rescaled) if is_dense else (crop, crop)
    left, top, width, _ = centred(rescaled, *sides)
    return CropPlace(
        size=rescaled,
        original=size,
        left=left + width - crop if seen.mirrored else left,
        top=top,
        crop=crop,
        mirrored=seen.mirrored,
    )
