"""The merging threshold and the test scales of a localiser, chosen on validation images.

Paper: appendix A.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

from verydeep.localisation.evaluate import Boxed, Unmerged, compute_boxes
from verydeep.localisation.protocols import BoxNet
from verydeep.nets.net import VeryDeep
from verydeep.progress import Progress, ignore_progress
from verydeep.testing.protocols import default_test_scale, default_test_scales

THRESHOLDS = tuple(step / 20 for step in range(4, 20))
"""Merging thresholds that are tried: 0.2 to 0.95."""


@dataclass(frozen=True, kw_only=True)
class Trial:
    """A merging threshold and test scales, and what they give."""

    merge_threshold: float
    test_scales: tuple[int, ...]
    localisation_error: float  # given the true class
    mean_iou: float


@dataclass(frozen=True, kw_only=True)
class Tuned:
    """The best trial, and all of them."""

    best: Trial
    trials: tuple[Trial, ...]
    split: str  # that it was chosen on

    @property
    def merge_threshold(self) -> float:
        return self.best.merge_threshold

    @property
    def test_scales(self) -> tuple[int, ...]:
        return self.best.test_scales

    def as_record(self) -> dict[str, Any]:
        return vars(self.best) | {"test_scales": list(self.best.test_scales), "selected_on": self.split}


def tune(
    localiser: BoxNet,
    data: Boxed,
    *,
    classifier: VeryDeep | str | Path | None = None,
    test_scales: Sequence[int] | None = None,
    device: str | None = None,
    precision: str = "fp32",
    progress: Progress = ignore_progress,
) -> Tuned:
    """Chooses the merging threshold, and which test scales to unite, by the full protocol on validation images.

    Choice: the lowest error given the true class, so that the errors of the classifier do not count; then the fewest
    scales, for each costs time; then the highest mean IoU. The scales tried are the training scale with and without
    those 32 pixels beside it (352,384 in Table 9).

    Args:
        localiser: to be tuned; its own threshold and scales do not matter.
        data: validation images, never those of a test.
        classifier: a net or a MODEL; by default that of the localiser.
        test_scales: Q, pixels: take these, and choose the threshold alone.
        device: cpu, cuda or mps; by default the fastest there is.
        precision: fp32, bf16, or auto for the faster of the two by a rule over the machine.
        progress: called with the number of images done.
    """
    own = default_test_scale(localiser.net)
    scales = sorted({own, *default_test_scales(localiser.net)}) if test_scales is None else list(test_scales)
    unions = [tuple(scales)] if test_scales is not None else _unions(scales, own)
    unmerged = compute_boxes(
        [localiser],
        data,
        test_scales=scales,
        classifier=classifier,
        device=device,
        precision=precision,
        progress=progress,
    )
    trials = [_trial(unmerged, threshold, union) for union in unions for threshold in THRESHOLDS]
    best = min(trials, key=lambda one: (one.localisation_error, len(one.test_scales), -one.mean_iou))
    return Tuned(best=best, trials=tuple(trials), split=data.images.split)


def _unions(scales: Sequence[int], own: int) -> list[tuple[int, ...]]:
    """All sets of scales with the training scale among them, the fewest first."""
    others = [scale for scale in scales if scale != own]
    return [tuple(sorted((own, *chosen))) for count in range(len(others) + 1) for chosen in combinations(others, count)]


def _trial(unmerged: Unmerged, threshold: float, scales: tuple[int, ...]) -> Trial:
    result = unmerged.result(threshold, scales)
    return Trial(
        merge_threshold=threshold,
        test_scales=scales,
        localisation_error=result.localisation_error,
        mean_iou=float(result.ious.mean()),
    )
