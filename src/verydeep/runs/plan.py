"""What the recipe ``auto`` finds before it plans, and the plan that it makes of it."""

from dataclasses import asdict, dataclass, field
from typing import Any, Final, Literal

MEASURED_SIDES: Final = (64, 160)
"""Sides at which the speed of this machine is measured, pixels."""


@dataclass(frozen=True, kw_only=True)
class Look:
    """What was found before planning.

    Attributes:
        num_train: training images.
        num_val: validation images.
        num_classes: of them.
        side: median of the shorter sides of the images, pixels.
        mirror: whether a mirrored image shows its class.
        forward: seconds of an image in the start net's convolutions, at the two ``MEASURED_SIDES``.
        update: seconds of an image in an update of the last block, on stored maps, at the same sides.
        update_fixed: seconds of such an update beside that.
        classifier_seconds: for the linear classifier, estimated.
        seconds_used: since the command began, with what reading all images will take.
        free_bytes: of memory.
        image_bytes: of the decoded images that will be held.
        length: of the descriptors of a few images, on average: what the rate of the classifier is for.
    """

    num_train: int
    num_val: int
    num_classes: int
    side: int
    mirror: bool
    forward: tuple[float, float]
    update: tuple[float, float]
    update_fixed: float
    classifier_seconds: float
    seconds_used: float
    free_bytes: int
    image_bytes: int
    length: float


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What a run of ``auto`` does.

    Attributes:
        seconds: time to end in.
        start: the MODEL whose convolutions are used; None trains from random weights.
        side: of the views, pixels; the test scale too.
        share: of the training images that are used: 1 where time and memory do for all.
        num_views: stored of each image.
        then: what follows the linear classifier, or ``noise`` without one.
        net: of a training from noise: architecture, batch_norm, width, crop and head.
        first_block: the first block that is fine-tuned.
        folds: of the cross-validation that decides what is kept; 0 where the validation images do.
        kept_bytes: of maps of the validation images, at most.
        changes: fields of the recipe that the plan chooses.
        expected_seconds: of all steps, as measured for a moment.
        memory_bytes: of the process at most, estimated.
        reasons: a line for each choice.
        longer: what twice the time would do.
    """

    seconds: float
    start: str | None
    side: int
    share: float = 1.0
    num_views: int = 0
    then: Literal["fine-tune", "noise"] | None = None
    net: dict[str, Any] | None = None
    first_block: int = 5
    folds: int = 0
    kept_bytes: int = 0
    changes: dict[str, Any] = field(default_factory=dict)
    expected_seconds: float = 0.0
    memory_bytes: int = 0
    reasons: tuple[str, ...] = ()
    longer: str | None = None

    @property
    def blocks(self) -> str:
        """The blocks that are fine-tuned."""
        return "the last block" if self.first_block == 5 else f"blocks {self.first_block} to 5"

    @property
    def first_computed(self) -> int:
        """The first block that nets of this plan do not share: 6, the head, without fine-tuning."""
        return self.first_block if self.then == "fine-tune" else 6

    @property
    def title(self) -> str:
        """A summary of the steps."""
        if self.then == "fine-tune":
            return f"a linear classifier at {self.side} pixels, then {self.changes['epochs']} epochs of {self.blocks}"
        if self.start is None:
            return f"{self.changes['epochs']} epochs from noise"
        return f"a linear classifier at {self.side} pixels" + (", then a net from noise" if self.then else "")

    @property
    def begun_from(self) -> str:
        """The start of a plan that has one."""
        assert self.start is not None
        return self.start

    @staticmethod
    def from_record(record: dict[str, Any]) -> "Plan":
        return Plan(**record | {"reasons": tuple(record["reasons"])})

    def as_record(self) -> dict[str, Any]:
        return asdict(self)
