"""What testing gave: posteriors with all that says what they are of, and the figures that follow from them."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from verydeep.errors import UserError
from verydeep.evaluation.cost import Cost
from verydeep.evaluation.errors import class_errors, interval95, top_error
from verydeep.evaluation.posteriors import mean_posteriors


@dataclass(frozen=True, kw_only=True)
class Member:
    """What was tested, and how: one net by one protocol.

    Attributes:
        model: the file or folder of the net; empty for a net without one.
        architecture: the paper's name.
        protocol: name of the protocol.
        test_scales: test scales Q, pixels.
        selected_on: the split that the weights were selected on; None where none was, or a net without its file.
        cost: of an image; None where it is not known.
    """

    model: str
    architecture: str
    protocol: str
    test_scales: tuple[int, ...]
    selected_on: str | None = None
    cost: Cost | None = None

    @property
    def title(self) -> str:
        """Such as ``runs/hands (D), multi-scale at 224,256,288``."""
        net = f"{self.model} ({self.architecture})" if self.model else self.architecture
        return f"{net}, {self.protocol} at {','.join(map(str, self.test_scales))}"


@dataclass(frozen=True, kw_only=True)
class LabelledImages:
    """Which images something was measured on.

    Attributes:
        labels: index of the true class of each image, int64.
        names: names of the images.
        classes: names of the classes.
        split: the split they belong to.
        data: name of the data set; empty where only its images were given.
        fingerprint: hash of the data set's names, sizes and splits; empty where only its images were given.
        skipped: names of damaged images left out.
    """

    labels: ndarray = field(repr=False)
    names: Sequence[str] = field(repr=False)
    classes: tuple[str, ...] = field(repr=False)
    split: str
    data: str = ""
    fingerprint: str = field(default="", repr=False)
    skipped: Sequence[str] = ()

    @property
    def title(self) -> str:
        """What a person calls them."""
        return f"DATA ({self.data})"


@dataclass(frozen=True, kw_only=True)
class Result(LabelledImages):
    """What testing gave: posteriors of labelled images, and the error rates that follow.

    Attributes:
        labels: index of the true class of each image, int64.
        names: names of the images.
        classes: names of the classes.
        split: the split it was measured on.
        data: name of the data set; empty where only its images were given.
        fingerprint: hash of the data set's names, sizes and splits; empty where only its images were given.
        skipped: names of damaged images left out.
        posteriors: n,k; of several members their mean.
        members: what was tested; several where they are fused.
        seconds: time taken.
    """

    posteriors: Float[ndarray, "n k"] = field(repr=False)
    members: tuple[Member, ...]
    seconds: float

    @property
    def title(self) -> str:
        """What a person calls it."""
        return " + ".join(member.title for member in self.members)

    @property
    def architecture(self) -> str | list[str]:
        """The paper's name of the net; a list of names when fused."""
        names = [member.architecture for member in self.members]
        return names[0] if len(names) == 1 else names

    @property
    def protocol(self) -> str:
        """Name of the protocol; of members that differ in it their names, joined."""
        return " + ".join(dict.fromkeys(member.protocol for member in self.members))

    @property
    def test_scales(self) -> tuple[int, ...]:
        """Test scales Q, pixels: of all members."""
        if len(self.members) == 1:
            return self.members[0].test_scales
        return tuple(sorted({scale for member in self.members for scale in member.test_scales}))

    @property
    def selected_on(self) -> str | None:
        """The split that the weights were selected on; of several, the split measured on where it is one of them."""
        splits = [member.selected_on for member in self.members if member.selected_on is not None]
        return self.split if self.split in splits else splits[0] if splits else None

    @property
    def cost(self) -> Cost | None:
        """The cost of an image, over all members; None where that of one is not known."""
        costs = [member.cost for member in self.members]
        known = [cost for cost in costs if cost is not None]
        if len(known) < len(costs):
            return None
        seconds = [cost.seconds_per_image for cost in known if cost.seconds_per_image is not None]
        return Cost(
            forward_passes=sum(cost.forward_passes for cost in known),
            macs=sum(cost.macs for cost in known),
            seconds_per_image=sum(seconds) if len(seconds) == len(known) else None,
        )

    @property
    def top1_error(self) -> float:
        """Share of images whose most likely class is wrong."""
        error = top_error(self.posteriors, self.labels, 1)
        assert error is not None
        return error

    @property
    def top5_error(self) -> float | None:
        """Share of images whose class is not among the five most likely; None with fewer than five classes."""
        return top_error(self.posteriors, self.labels, 5)

    def class_errors(self) -> dict[str, float | None]:
        """Top-1 error of the images of each class; None for a class without images."""
        return dict(zip(self.classes, class_errors(self.posteriors, self.labels), strict=True))

    def class_counts(self) -> dict[str, int]:
        """Number of images of each class."""
        counts = np.bincount(self.labels, minlength=len(self.classes)).tolist()
        return dict(zip(self.classes, counts, strict=True))

    def as_record(self) -> dict[str, Any]:
        """The figures, for JSON."""
        cost = self.cost.as_record() if self.cost else {"forward_passes": None, "macs": None, "seconds_per_image": None}
        models = [member.model for member in self.members]
        return {
            "model": models[0] if len(models) == 1 else models,
            "architecture": self.architecture,
            "protocol": self.protocol,
            "test_scales": list(self.test_scales),
            "data": self.data,
            "split": self.split,
            "selected_on": self.selected_on,
            "num_images": len(self.labels),
            "top1_error": self.top1_error,
            "top5_error": self.top5_error,
            "interval95": list(interval95(self.top1_error, len(self.labels))),
            "seconds": self.seconds,
            **cost,
            "skipped": list(self.skipped),
        }


def fuse(results: Sequence[Result]) -> Result:
    """Fuses results on the same images: the mean of their posteriors.

    Args:
        results: at least one; a fused one among them counts as one.

    Raises:
        UserError: they are not of the same images in the same order, with the same classes.

    Paper: section 4.4.
    """
    first, *others = results
    for other in others:
        check_alike(first, other)
    if not others:
        return first
    return Result(
        posteriors=mean_posteriors([result.posteriors for result in results]),
        labels=first.labels,
        names=first.names,
        classes=first.classes,
        members=tuple(member for result in results for member in result.members),
        split=first.split,
        seconds=sum(result.seconds for result in results),
        data=first.data,
        fingerprint=first.fingerprint,
        skipped=first.skipped,
    )


def check_alike(first: LabelledImages, other: LabelledImages) -> None:
    """Checks that two results are of the same images in the same order, with the same classes.

    Raises:
        UserError: they are not; the message names what differs.
    """
    pair = f"{first.title} and {other.title}"
    remedy = "evaluate both on the same images"
    if first.classes != other.classes:
        raise UserError(f"{pair} have different classes: {_difference(first.classes, other.classes)}: {remedy}")
    if first.data and other.data and first.data != other.data:
        raise UserError(f"{pair} are of different data, {first.data} and {other.data}: {remedy}")
    if first.split != other.split:
        raise UserError(f"{pair} are of different splits, {first.split} and {other.split}: {remedy}")
    if list(first.names) != list(other.names):
        raise UserError(
            f"{pair} are of different images of {first.split}: {_difference(first.names, other.names)}: {remedy}"
        )
    if first.fingerprint and other.fingerprint and first.fingerprint != other.fingerprint:
        raise UserError(f"{pair} are of {first.data} before and after its files changed: {remedy}")
    if (first.labels != other.labels).any():
        name = first.names[int((first.labels != other.labels).argmax())]
        raise UserError(f"{pair} have different labels, as of {name}: {remedy}")


def _difference(first: Sequence[str], other: Sequence[str]) -> str:
    if len(first) != len(other):
        return f"{len(first):,} and {len(other):,}"
    ours, theirs = next(pair for pair in zip(first, other, strict=True) if pair[0] != pair[1])
    return f"{ours!r} where the other has {theirs!r}"
