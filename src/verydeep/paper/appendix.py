"""The paper's Tables 8 to 12, localisation and the transfer of features, as data.

Errors, precisions and recalls are in per cent, as the paper prints them; None stands for a cell it leaves empty.

Source: K. Simonyan and A. Zisserman, arXiv:1409.1556v6, appendices A and B.
"""

from dataclasses import dataclass
from typing import Final


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
