"""Images with boxes, of one split and of a data set.

Paper: appendix A.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64, Int64
from numpy import ndarray

from verydeep.data.boxes.findings import BoxFinding
from verydeep.data.dataset import DataSet, fingerprint, join
from verydeep.data.image_set import ImageSet
from verydeep.errors import UserError
from verydeep.progress import Progress, ignore_progress

Corners = Float64[ndarray, "_ 4"]
"""Left, top, right, bottom of boxes: edges in pixels of the upright image, 0 <= left < right <= width."""

Others = tuple[Int64[ndarray, "_"], Corners]
"""Labels and boxes of the objects of an image that are of other classes than its own."""


@dataclass(frozen=True, kw_only=True)
class BoxedImages:
    """The images of one split, each with one or more boxes.

    Attributes:
        images: the images; the class of an image is that of its largest box.
        boxes: the boxes of each image of that class, one or more.
        others: labels and boxes of the objects of other classes in each image, none or more.
    """

    images: ImageSet
    boxes: Sequence[Corners]
    others: Sequence[Others]

    def __post_init__(self) -> None:
        assert len(self.images) == len(self.boxes) == len(self.others)

    def __len__(self) -> int:
        return len(self.images)

    @property
    def split(self) -> str:
        return self.images.split

    def subset(self, indices: Sequence[int], split: str | None = None) -> "BoxedImages":
        """Selects images by their indices, in the order given."""
        return BoxedImages(
            images=self.images.subset(indices, split),
            boxes=[self.boxes[index] for index in indices],
            others=[self.others[index] for index in indices],
        )

    def checked(
        self, *, skip_damaged: bool = False, memory: int = 0, progress: Progress = ignore_progress
    ) -> tuple["BoxedImages", list[str]]:
        """Decodes every image once, as ``ImageSet.checked`` does; returns those that can be, and who was left out."""
        images, damaged = self.images.checked(skip_damaged=skip_damaged, memory=memory, progress=progress)
        left_out = set(damaged)
        kept = [index for index, name in enumerate(self.images.names) if name not in left_out]
        rest = self.subset(kept)
        return BoxedImages(images=images, boxes=rest.boxes, others=rest.others), damaged


@dataclass(frozen=True, kw_only=True)
class BoxedSet:
    """A data set with boxes, and its splits.

    Attributes:
        name: short name, for run folders and tables.
        train: images to train on.
        val: images to choose by.
        test: images to report on, where there are some.
        mirror: whether a mirrored image still shows its class.
        validation: where the validation images come from, in words.
        fingerprint: hash of names, sizes, boxes and splits.
        findings: faults of the boxes, and what was done about each.
        held_out: names of the splits that were set aside here, as the source has no such splits.
        data_fingerprint: that of the images without their boxes.
    """

    name: str
    train: BoxedImages
    val: BoxedImages
    test: BoxedImages | None
    mirror: bool
    validation: str
    fingerprint: str
    findings: tuple[BoxFinding, ...] = ()
    held_out: tuple[str, ...] = ()
    data_fingerprint: str = ""

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes, of the training split."""
        return self.train.images.classes

    @property
    def splits(self) -> dict[str, BoxedImages]:
        """The images of each split that there is."""
        named = {"train": self.train, "val": self.val, "test": self.test}
        return {split: images for split, images in named.items() if images is not None}

    def split(self, name: str | None = None) -> BoxedImages:
        """Returns a split by name, or the images of ``all``; by default test where there is one, else val.

        Raises:
            UserError: the data set has no such split.
        """
        splits = self.splits
        if name is None:
            return self.test or self.val
        if name == "all":
            return BoxedImages(
                images=join([images.images for images in splits.values()], "all"),
                boxes=[boxes for images in splits.values() for boxes in images.boxes],
                others=[others for images in splits.values() for others in images.others],
            )
        if name not in splits:
            raise UserError(f"{self.name} has no split {name!r}: it has {', '.join(splits)}")
        return splits[name]

    def as_data_set(self) -> DataSet:
        """The same images as a data set of classes, without their boxes."""
        train, val, test = self.train.images, self.val.images, self.test.images if self.test else None
        return DataSet(
            name=self.name,
            train=train,
            val=val,
            test=test,
            mirror=self.mirror,
            validation=self.validation,
            fingerprint=self.data_fingerprint or fingerprint(train, val, test),
            held_out=self.held_out,
        )


def boxes_of_data_set(data: DataSet, parts: Sequence[BoxedImages], findings: Sequence[BoxFinding] = ()) -> BoxedSet:
    """Makes a set with boxes of the splits of a data set; ``parts`` have the boxes of all its images by their names."""
    known = {name: (part, index) for part in parts for index, name in enumerate(part.images.names)}

    def with_boxes(images: ImageSet) -> BoxedImages:
        places = [known[name] for name in images.names]
        return BoxedImages(
            images=images,
            boxes=[part.boxes[index] for part, index in places],
            others=[part.others[index] for part, index in places],
        )

    train, val, test = with_boxes(data.train), with_boxes(data.val), with_boxes(data.test) if data.test else None
    digest = hashlib.sha256(data.fingerprint.encode())
    for images in filter(None, (train, val, test)):
        for boxes, (labels, corners) in zip(images.boxes, images.others, strict=True):
            digest.update(np.round(boxes, 3).tobytes() + labels.tobytes() + np.round(corners, 3).tobytes())
    return BoxedSet(
        name=data.name,
        train=train,
        val=val,
        test=test,
        mirror=data.mirror,
        validation=data.validation,
        fingerprint=digest.hexdigest(),
        findings=tuple(findings),
        held_out=data.held_out,
        data_fingerprint=data.fingerprint,
    )


def group_boxes(labels: Int64[ndarray, "m"], corners: Float64[ndarray, "m 4"]) -> tuple[int, Corners, Others]:
    """The class of an image, that of its largest box, with the boxes of it and those of other classes."""
    areas = (corners[:, 2] - corners[:, 0]) * (corners[:, 3] - corners[:, 1])
    label = int(labels[areas.argmax()])
    own = labels == label
    return label, corners[own], (labels[~own], corners[~own])


def describe_boxes(data: BoxedSet) -> str:
    """Describes a data set in one line."""
    counts = ", ".join(f"{len(images):,} {split}" for split, images in data.splits.items())
    number = sum(len(one) for images in data.splits.values() for one in images.boxes)
    number += sum(len(labels) for images in data.splits.values() for labels, _ in images.others)
    classes = f"{len(data.classes)} class{'es' if len(data.classes) > 1 else ''}"
    return f"{data.name}: {classes}, {counts} images, {number:,} boxes"
