"""What a localiser's file says of its boxes.

Paper: appendix A.
"""

from typing import Annotated, Final, Literal

from pydantic import BaseModel, ConfigDict, Field

from verydeep.errors import UserError

Regression = Literal["scr", "pcr"]

REGRESSIONS: Final[dict[Regression, str]] = {
    "scr": "a box that all classes share (SCR)",
    "pcr": "a box for each class (PCR)",
}


def refuse_boxes(boxes: "BoxesCard | None") -> None:
    """Raises UserError for a localiser, where a classifier is needed."""
    if boxes is not None:
        raise UserError(
            "this net is a localiser, whose outputs are boxes and no classes: use verydeep localise predict or "
            "verydeep localise evaluate"
        )


class BoxesCard(BaseModel):
    """What the outputs of a localiser are; the net of a localiser has no classes of its own.

    Attributes:
        regression: ``scr`` (a box for all classes, 4 outputs) or ``pcr`` (a box per class, outputs 4k to 4k + 3 of
            class k). The four numbers are the centre, the width and the height, relative to the crop and divided by its
            side.
        classes: names of the classes.
        classifier: the MODEL that gives the class scores, or the name of a file beside this one; None where there is
            none, whose single class has the score 1.
        merge_threshold: IoU above which two boxes are merged.
        test_scales: Q, pixels, where they were chosen on validation data.

    Paper: appendix A.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    regression: Regression
    classes: Annotated[tuple[str, ...], Field(min_length=1)]
    classifier: str | None = None
    merge_threshold: Annotated[float, Field(ge=0, le=1)] = 0.5
    test_scales: tuple[Annotated[int, Field(gt=0, le=10**5)], ...] | None = None

    @property
    def num_outputs(self) -> int:
        return 4 if self.regression == "scr" else 4 * len(self.classes)

    def __str__(self) -> str:
        """One line for a person."""
        names = ", ".join(self.classes[:10]) + (", ..." if len(self.classes) > 10 else "")
        scored = "" if self.classifier is None else f"; scored by {self.classifier}"
        return f"none of its own: its outputs are {REGRESSIONS[self.regression]} of {names}{scored}"
