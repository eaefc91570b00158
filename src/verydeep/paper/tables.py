"""The paper's Tables 3 to 12 as data: classification of ILSVRC-2012, localisation, transfer of features.

Errors are in per cent, as the paper prints them; None stands for a cell it leaves empty. The properties ending in
``_error`` give fractions, as everything that this package measures.

Source: K. Simonyan and A. Zisserman, arXiv:1409.1556v6, section 4, appendices A and B.

Paper: Tables 3 to 12.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

CROP: Final = 224
"""Side of the crop that all scales of the tables belong to, pixels."""

Scales = tuple[int, int]
"""Bounds of the training scale S, pixels; equal where it is fixed."""

FIXED_256: Final[Scales] = (256, 256)
FIXED_384: Final[Scales] = (384, 384)
JITTERED: Final[Scales] = (256, 512)
"""The training scales of the tables."""

_AROUND_256, _AROUND_384, _WIDE = (224, 256, 288), (352, 384, 416), (256, 384, 512)


@dataclass(frozen=True, slots=True)
class MeasuredNet:
    """A net and how it was tested.

    Attributes:
        architecture: the paper's name.
        train_scale: bounds of S, pixels.
        test_scales: Q, pixels.
    """

    architecture: str
    train_scale: Scales
    test_scales: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class ErrorRow(MeasuredNet):
    """A row of Tables 3 to 5: errors on the validation images of ILSVRC-2012.

    Attributes:
        protocol: ``single``, ``multi-scale``, ``multi-crop`` or ``dense+multi-crop``.
        top1: per cent.
        top5: per cent.
    """

    protocol: str
    top1: float
    top5: float

    @property
    def top1_error(self) -> float:
        """As a fraction."""
        return round(self.top1 / 100, 4)

    @property
    def top5_error(self) -> float:
        """As a fraction."""
        return round(self.top5 / 100, 4)


def _single(architecture: str, train_scale: Scales, scale: int, top1: float, top5: float) -> ErrorRow:
    return ErrorRow(architecture, train_scale, (scale,), "single", top1, top5)


TABLE_3: Final = (
    _single("A", FIXED_256, 256, 29.6, 10.4),
    _single("A-LRN", FIXED_256, 256, 29.7, 10.5),
    _single("B", FIXED_256, 256, 28.7, 9.9),
    _single("C", FIXED_256, 256, 28.1, 9.4),
    _single("C", FIXED_384, 384, 28.1, 9.3),
    _single("C", JITTERED, 384, 27.3, 8.8),
    _single("D", FIXED_256, 256, 27.0, 8.8),
    _single("D", FIXED_384, 384, 26.8, 8.7),
    _single("D", JITTERED, 384, 25.6, 8.1),
    _single("E", FIXED_256, 256, 27.3, 9.0),
    _single("E", FIXED_384, 384, 26.9, 8.7),
    _single("E", JITTERED, 384, 25.5, 8.0),
)
"""Dense testing at one scale (section 4.1)."""

TABLE_4: Final = (
    ErrorRow("B", FIXED_256, _AROUND_256, "multi-scale", 28.2, 9.6),
    ErrorRow("C", FIXED_256, _AROUND_256, "multi-scale", 27.7, 9.2),
    ErrorRow("C", FIXED_384, _AROUND_384, "multi-scale", 27.8, 9.2),
    ErrorRow("C", JITTERED, _WIDE, "multi-scale", 26.3, 8.2),
    ErrorRow("D", FIXED_256, _AROUND_256, "multi-scale", 26.6, 8.6),
    ErrorRow("D", FIXED_384, _AROUND_384, "multi-scale", 26.5, 8.6),
    ErrorRow("D", JITTERED, _WIDE, "multi-scale", 24.8, 7.5),
    ErrorRow("E", FIXED_256, _AROUND_256, "multi-scale", 26.9, 8.7),
    ErrorRow("E", FIXED_384, _AROUND_384, "multi-scale", 26.7, 8.6),
    ErrorRow("E", JITTERED, _WIDE, "multi-scale", 24.8, 7.5),
)
"""Dense testing at three scales (section 4.2)."""

TABLE_5: Final = (
    ErrorRow("D", JITTERED, _WIDE, "multi-scale", 24.8, 7.5),
    ErrorRow("D", JITTERED, _WIDE, "multi-crop", 24.6, 7.5),
    ErrorRow("D", JITTERED, _WIDE, "dense+multi-crop", 24.4, 7.2),
    ErrorRow("E", JITTERED, _WIDE, "multi-scale", 24.8, 7.5),
    ErrorRow("E", JITTERED, _WIDE, "multi-crop", 24.6, 7.4),
    ErrorRow("E", JITTERED, _WIDE, "dense+multi-crop", 24.4, 7.1),
)
"""Dense testing, many crops, and both (section 4.3)."""


@dataclass(frozen=True, slots=True)
class FusionRow:
    """A row of Table 6: the mean of the posteriors of several nets.

    Attributes:
        models: the nets.
        protocol: how each was tested.
        top1: on the validation images, per cent.
        top5: on the validation images, per cent.
        test_top5: on the test images, per cent; None where the paper has none.
    """

    models: tuple[MeasuredNet, ...]
    protocol: str
    top1: float
    top5: float
    test_top5: float | None


_SUBMITTED = (
    MeasuredNet("D", FIXED_256, _AROUND_256),
    MeasuredNet("D", FIXED_384, _AROUND_384),
    MeasuredNet("D", JITTERED, _WIDE),  # here alone fine-tuned in its fully connected layers only
    MeasuredNet("C", FIXED_256, _AROUND_256),
    MeasuredNet("C", FIXED_384, _AROUND_384),
    MeasuredNet("E", FIXED_256, _AROUND_256),
    MeasuredNet("E", FIXED_384, _AROUND_384),
)
_BEST_TWO = (MeasuredNet("D", JITTERED, _WIDE), MeasuredNet("E", JITTERED, _WIDE))

TABLE_6: Final = (
    FusionRow(_SUBMITTED, "multi-scale", 24.7, 7.5, 7.3),
    FusionRow(_BEST_TWO, "multi-scale", 24.0, 7.1, 7.0),
    FusionRow(_BEST_TWO, "multi-crop", 23.9, 7.2, None),
    FusionRow(_BEST_TWO, "dense+multi-crop", 23.7, 6.8, 6.8),
)
"""Fusion (section 4.4); the first row is what was submitted to ILSVRC-2014."""


@dataclass(frozen=True, slots=True)
class ComparisonRow:
    """A row of Table 7: a method, trained without outside data.

    Attributes:
        method: whose it is.
        num_nets: fused; None for several, not said how many.
        top1: on the validation images, per cent.
        top5: on the validation images, per cent.
        test_top5: on the test images, per cent.
        protocol: how the paper's own nets were tested.
    """

    method: str
    num_nets: int | None
    top1: float | None
    top5: float | None
    test_top5: float | None
    protocol: str | None = None


TABLE_7: Final = (
    ComparisonRow("VGG", 2, 23.7, 6.8, 6.8, "dense+multi-crop"),
    ComparisonRow("VGG", 1, 24.4, 7.1, 7.0, "dense+multi-crop"),
    ComparisonRow("VGG (ILSVRC submission)", 7, 24.7, 7.5, 7.3, "multi-scale"),
    # one cell spans validation and test for GoogLeNet
    ComparisonRow("GoogLeNet (Szegedy et al., 2014)", 1, None, 7.9, 7.9),
    ComparisonRow("GoogLeNet (Szegedy et al., 2014)", 7, None, 6.7, 6.7),
    ComparisonRow("MSRA (He et al., 2014)", 11, None, None, 8.1),
    ComparisonRow("MSRA (He et al., 2014)", 1, 27.9, 9.1, 9.1),
    ComparisonRow("Clarifai (Russakovsky et al., 2014)", None, None, None, 11.7),
    ComparisonRow("Clarifai (Russakovsky et al., 2014)", 1, None, None, 12.5),
    ComparisonRow("Zeiler & Fergus, 2013", 6, 36.0, 14.7, 14.8),
    ComparisonRow("Zeiler & Fergus, 2013", 1, 37.5, 16.0, 16.1),
    ComparisonRow("OverFeat (Sermanet et al., 2014)", 7, 34.0, 13.2, 13.6),
    ComparisonRow("OverFeat (Sermanet et al., 2014)", 1, 35.7, 14.2, None),
    ComparisonRow("Krizhevsky et al., 2012", 5, 38.1, 16.4, 16.4),
    ComparisonRow("Krizhevsky et al., 2012", 1, 40.7, 18.2, None),
)
"""The comparison with others (section 4.5)."""


def paper_row(
    architecture: str, train_scale: Sequence[int], protocol: str, test_scales: Sequence[int], *, crop: int = CROP
) -> ErrorRow | None:
    """Finds what the paper has for a net, its training scale and a way of testing it.

    Args:
        architecture: the paper's name.
        train_scale: S, or its bounds, pixels.
        protocol: ``single``, ``multi-scale``, ``multi-crop`` or ``dense+multi-crop``.
        test_scales: Q, pixels, in any order.
        crop: side of the crop that the scales belong to; those of the paper are scaled to it, and one pixel of rounding
            does not count.

    Returns:
        The row of Tables 3, 4 or 5; None where the paper has none.
    """
    asked = [min(train_scale), max(train_scale), *sorted(test_scales)]
    slack = 0 if crop == CROP else 1
    for row in TABLE_3 + TABLE_4 + TABLE_5:
        scales = [round(scale * crop / CROP) for scale in (*row.train_scale, *row.test_scales)]
        alike = len(scales) == len(asked) and all(abs(a - b) <= slack for a, b in zip(scales, asked, strict=True))
        if alike and (row.architecture, row.protocol) == (architecture, protocol):
            return row
    return None


def fusion_row(models: Sequence[tuple[str, Scales]], protocol: str) -> FusionRow | None:
    """Finds what the paper has for several nets fused, in any order, each at the test scales of its training scale.

    Args:
        models: architecture and training scale of each.
        protocol: how each was tested.

    Returns:
        The row of Table 6; None where the paper has none.
    """
    found = (row for row in TABLE_6 if row.protocol == protocol and len(row.models) == len(models))
    return next(
        (row for row in found if {(net.architecture, net.train_scale) for net in row.models} == set(models)), None
    )


@dataclass(frozen=True, slots=True)
class RegressionRow:
    """A row of Table 8: the box of the true class from the central crop, net D, S = 384.

    Attributes:
        finetune: which layers were fine-tuned: ``fc`` (the first two fully connected ones) or ``all``.
        regression: ``scr`` (one box) or ``pcr`` (a box for each class).
        error: on the validation images, per cent.
    """

    finetune: str
    regression: str
    error: float


TABLE_8: Final = (
    RegressionRow("fc", "scr", 36.4),
    RegressionRow("fc", "pcr", 34.3),
    RegressionRow("all", "pcr", 33.1),
)
"""Kinds of localisers (appendix A.2)."""


@dataclass(frozen=True, slots=True)
class LocaliserRow:
    """A row of Table 9: localisers of boxes for each class, all layers fine-tuned, tested densely.

    Attributes:
        localisers: for each localiser its training scale S and test scales Q, pixels; several are fused.
        val: top-5 localisation error on the validation images, per cent.
        test: the same on the test images; None where the paper has none.
    """

    localisers: tuple[tuple[int, tuple[int, ...]], ...]
    val: float
    test: float | None


TABLE_9: Final = (
    LocaliserRow(((256, (256,)),), 29.5, None),
    LocaliserRow(((384, (384,)),), 28.2, 26.7),
    LocaliserRow(((384, (352, 384)),), 27.5, None),
    LocaliserRow(((256, (256,)), (384, (352, 384))), 26.9, 25.3),
)
"""The full localisation (appendix A.2)."""


@dataclass(frozen=True, slots=True)
class LocalisationRow:
    """A row of Table 10: a method of ILSVRC localisation.

    Attributes:
        method: whose it is.
        val: top-5 localisation error on the validation images, per cent.
        test: the same on the test images.
    """

    method: str
    val: float | None
    test: float


TABLE_10: Final = (
    LocalisationRow("VGG", 26.9, 25.3),
    LocalisationRow("GoogLeNet (Szegedy et al., 2014)", None, 26.7),
    LocalisationRow("OverFeat (Sermanet et al., 2014)", 30.0, 29.9),
    LocalisationRow("Krizhevsky et al., 2012", None, 34.2),
)
"""The comparison with others (appendix A.3)."""


@dataclass(frozen=True, slots=True)
class Score:
    """A mean average precision or a recall.

    Attributes:
        value: per cent.
        spread: over the splits, points; None where the paper has none.
        extended: trained on more classes than the 1000 of ILSVRC: the paper's star.
    """

    value: float
    spread: float | None = None
    extended: bool = False


@dataclass(frozen=True, slots=True)
class TransferRow:
    """A row of Table 11: features of nets trained on ILSVRC, on other data.

    Attributes:
        method: whose it is.
        voc2007: mean average precision; a second one is of the extended pre-training.
        voc2012: mean average precision; a second one is of the extended pre-training.
        caltech101: mean class recall.
        caltech256: mean class recall.
    """

    method: str
    voc2007: tuple[Score, ...]
    voc2012: tuple[Score, ...]
    caltech101: Score | None
    caltech256: Score | None


TABLE_11: Final = (
    TransferRow("Zeiler & Fergus, 2013", (), (Score(79.0),), Score(86.5, 0.5), Score(74.2, 0.3)),
    TransferRow("Chatfield et al., 2014", (Score(82.4),), (Score(83.2),), Score(88.4, 0.6), Score(77.6, 0.1)),
    TransferRow("He et al., 2014", (Score(82.4),), (), Score(93.4, 0.5), None),
    TransferRow(
        "Wei et al., 2014",
        (Score(81.5), Score(85.2, extended=True)),
        (Score(81.7), Score(90.3, extended=True)),
        None,
        None,
    ),
    TransferRow("VGG D", (Score(89.3),), (Score(89.0),), Score(91.8, 1.0), Score(85.0, 0.2)),
    TransferRow("VGG E", (Score(89.3),), (Score(89.0),), Score(92.3, 0.5), Score(85.1, 0.3)),
    TransferRow("VGG D & E", (Score(89.7),), (Score(89.3),), Score(92.7, 0.5), Score(86.2, 0.3)),
)
"""Classification with features of the nets (appendix B.1)."""


@dataclass(frozen=True, slots=True)
class ActionRow:
    """A row of Table 12: recognition of actions, VOC-2012.

    Attributes:
        method: whose it is.
        score: mean average precision.
    """

    method: str
    score: Score


TABLE_12: Final = (
    ActionRow("Oquab et al., 2014", Score(70.2, extended=True)),
    ActionRow("Gkioxari et al., 2014", Score(73.6)),
    ActionRow("Hoai, 2014", Score(76.3)),
    ActionRow("VGG D & E, image only", Score(79.2)),
    ActionRow("VGG D & E, image and box", Score(84.0)),
)
"""Recognition of actions (appendix B.2)."""
