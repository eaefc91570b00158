"""Images with the boxes of their objects."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from jaxtyping import Float64, Int64
from numpy import ndarray

from verydeep.data.dataset import DataSet
from verydeep.data.image_set import ImageSet

Corners = Float64[ndarray, "_ 4"]


@dataclass(frozen=True, kw_only=True)
class BoxedImages:
    """The images of one split with the boxes of their objects."""

    images: ImageSet
    boxes: Sequence[Corners]
    others: Sequence[tuple[Int64[ndarray, "_"], Corners]]

    def __len__(self) -> int:
        return len(self.images)

    def subset(self, indices: Sequence[int], split: str | None = None) -> "BoxedImages":
        """Selects images by their indices."""
        return BoxedImages(
            images=self.images.subset(indices, split),
            boxes=[self.boxes[index] for index in indices],
            others=[self.others[index] for index in indices],
        )


@dataclass(frozen=True, kw_only=True)
class BoxedSet:
    """A data set with boxes."""

    name: str
    train: BoxedImages
    val: BoxedImages
    test: BoxedImages | None
    mirror: bool
    validation: str
    fingerprint: str
    findings: tuple[Any, ...] = ()

    @property
    def classes(self) -> tuple[str, ...]:
        return self.train.images.classes

    def split(self, name: str | None = None) -> BoxedImages:
        """Returns a split by name."""
        if name is None:
            return self.test or self.val
        found: BoxedImages = getattr(self, name)
        return found

    def as_data_set(self) -> DataSet:
        """The same images as a classification data set."""
        return DataSet(
            name=self.name,
            train=self.train.images,
            val=self.val.images,
            test=self.test.images if self.test else None,
            mirror=self.mirror,
            validation=self.validation,
            fingerprint=self.fingerprint,
        )


def with_images(boxed: BoxedImages, images: ImageSet) -> BoxedImages:
    return replace(boxed, images=images)
