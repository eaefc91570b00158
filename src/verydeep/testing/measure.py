"""The test loop: computes class posteriors of images with a backend, for several protocols in one pass.

Each image is decoded once, and each view and its score map is computed once and shared by all protocols:
``single`` is a part of ``multi-scale``, and ``multi-scale`` of ``dense+multi-crop``.

Paper: section 3.2.
"""

import math
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Generic, TypeVar, runtime_checkable
from typing import Protocol as Interface

import numpy as np
from jaxtyping import Float, UInt8
from numpy import ndarray

from verydeep.data.image_set import ImageSet
from verydeep.data.sources import read_ahead
from verydeep.distributed import all_reduce_array, processes
from verydeep.images.decode import naming
from verydeep.images.geometry import rescaled_size, size_of
from verydeep.progress import Progress, ignore_progress
from verydeep.speed.backend import Backend
from verydeep.testing.protocols import PlannedView, ProtocolAt, ViewPlan

BATCH_PIXELS = 16 * 224 * 224
"""Pixels of a batch at most: the first block of the net takes 512 bytes of activations for each."""

_T = TypeVar("_T")
_Result = TypeVar("_Result", covariant=True)


@dataclass(frozen=True)
class Computed:
    """Class score maps of a batch of parts (crops or whole images) of one view and shape."""

    view: PlannedView
    images: Sequence[int]  # number of the image of each part
    maps: Float[ndarray, "n k i j"]
    mirrored: Float[ndarray, "n k i j"] | None  # of the mirror images; None where no test needs them
    area: int  # of each part, pixels
    seconds: float

    def uses(self) -> Iterator[tuple[int, Float[ndarray, "n k i j"], float, bool]]:
        """Yields for every test that uses this view its index, the maps, the weight of a part, and if mirrored."""
        yield from ((number, self.maps, weight, False) for number, weight in self.view.plain)
        if self.mirrored is not None:
            yield from ((number, self.mirrored, weight, True) for number, weight in self.view.mirrored)


def compute(
    backend: Backend, plan: ViewPlan, parts_of_images: Iterable[list[tuple[int, UInt8[ndarray, "_ _ 3"]]]]
) -> Iterator[Computed]:
    """Computes the maps of all parts of images, parts of one view and shape together; the order follows the shapes."""
    for number, images, batch in batches_by_shape(parts_of_images):
        view, begun = plan.views[number], time.perf_counter()
        score_map, n, area = view.method.score_map, len(batch), batch.shape[1] * batch.shape[2]
        mirrored = None
        if not view.mirrored:
            maps = score_map(backend, batch)
        elif 2 * n * area > BATCH_PIXELS:
            maps, mirrored = score_map(backend, batch), score_map(backend, batch[:, :, ::-1])
        else:  # small: images and their mirror images in one batch, so that the weights are read once
            both = score_map(backend, np.concatenate([batch, batch[:, :, ::-1]]))
            maps, mirrored = both[:n], both[n:]
        yield Computed(view, images, maps, mirrored, area, time.perf_counter() - begun)


def batches_by_shape(
    parts_of_images: Iterable[list[tuple[int, UInt8[ndarray, "_ _ 3"]]]],
) -> Iterator[tuple[int, list[int], UInt8[ndarray, "_ _ _ 3"]]]:
    """Yields parts of images in batches of one kind and one shape, never padded."""
    waiting: dict[tuple[int, ...], tuple[list[int], list[ndarray]]] = {}
    for image, parts in enumerate(parts_of_images):
        for kind, part in parts:
            key = (kind, *part.shape)
            images, alike = waiting.setdefault(key, ([], []))
            images.append(image)
            alike.append(part)
            if (len(images) + 1) * part.shape[0] * part.shape[1] > BATCH_PIXELS:
                yield kind, images, np.stack(alike)
                del waiting[key]
    for (kind, *_), (images, alike) in waiting.items():
        yield kind, images, np.stack(alike)


@dataclass(frozen=True)
class Seen:
    """Where the maps of a batch lie in their images."""

    view: PlannedView
    mirrored: bool
    sizes: Sequence[tuple[int, int]]  # width and height of each image, pixels


@runtime_checkable
class Reduction(Interface[_Result]):
    """Accumulates the class score maps of one test into its result, batch by batch."""

    def add(self, images: Sequence[int], maps: Float[ndarray, "n k i j"], weight: float, seen: Seen) -> None:
        """Adds the maps of parts of images; the weights of the parts of an image add up to 1."""

    def finish(self) -> _Result:
        """Returns the result over the images of all processes."""


class MeanPosterior:
    """Keeps class posteriors: the mean over parts of the soft-max of the scores averaged over positions.

    Paper: section 3.2.
    """

    def __init__(self, num_images: int, num_classes: int) -> None:
        self._sums = np.zeros((num_images, num_classes))

    def add(
        self, images: Sequence[int], maps: Float[ndarray, "n k i j"], weight: float, seen: Seen | None = None
    ) -> None:
        np.add.at(self._sums, list(images), weight * posteriors_of(maps))

    def finish(self) -> Float[ndarray, "n k"]:
        all_reduce_array(self._sums)
        return self._sums.astype(np.float32)


def posteriors_of(maps: Float[ndarray, "n k i j"]) -> Float[ndarray, "n k"]:
    """Averages scores over positions, and takes their soft-max.

    Choice: the mean over positions is taken of the scores, and then the soft-max.
    """
    return softmax(maps.mean((2, 3)))


def softmax(scores: Float[ndarray, "n k *positions"]) -> Float[ndarray, "n k *positions"]:
    powers = np.exp(scores - scores.max(1, keepdims=True))
    posteriors: ndarray = powers / powers.sum(1, keepdims=True)
    return posteriors


@dataclass(frozen=True, kw_only=True)
class Measured(Generic[_T]):
    result: _T = field(repr=False)
    seconds: float  # as if this test had run alone: shared reading and shared maps count in full
    is_dense: bool  # by its protocol
    map_positions: tuple[float, ...]  # of the score map, mean over the images, at each test scale; empty for many crops
    share_seen: tuple[float, ...]  # of a rescaled image, that the net was applied to, likewise

    @property
    def is_one_position(self) -> bool:
        """Whether every score map of a dense protocol had a single position."""
        return self.is_dense and max(self.map_positions) <= 1


def measure(
    backend: Backend,
    images: ImageSet,
    tests: Sequence[ProtocolAt],
    reduction: Callable[[], Reduction[_T]],
    *,
    mirror: bool,
    progress: Progress = ignore_progress,
) -> list[Measured[_T]]:
    """Runs several tests over a set of images in one pass.

    In distributed training each image is tested on exactly one rank, and every rank returns the results of all images.

    Paper: section 3.2.
    """
    begun = time.perf_counter()
    mine = list(processes().share(len(images)))
    share, plan = images.subset(mine), ViewPlan(tests, backend.crop, mirror=mirror)
    reductions = [reduction() for _ in tests]
    seconds, seen = [0.0] * len(tests), _SharesSeen(tests)
    computing = 0.0
    done, parts = 0, sum(view.method.parts for view in plan.views)
    sizes: dict[int, tuple[int, int]] = {}

    def cut(index: int) -> list[tuple[int, UInt8[ndarray, "_ _ 3"]]]:
        with naming(share.where(index)):
            pixels = share.pixels(index)
            sizes[index] = size_of(pixels)
            return plan.cut(pixels)

    for found in compute(backend, plan, read_ahead(cut, range(len(share)), share.parallel_reads)):
        indices = [mine[index] for index in found.images]
        computing += found.seconds
        of_images = [sizes[index] for index in found.images]
        for number, maps, weight, mirrored in found.uses():
            reductions[number].add(indices, maps, weight, Seen(found.view, mirrored, of_images))
        for number, _ in found.view.plain:
            seconds[number] += found.seconds
            seen.add(number, found, of_images)
        done += len(indices)
        progress(f"testing on {images.split}", done // parts, len(mine))
    finished = [one.finish() for one in reductions]
    others = time.perf_counter() - begun - computing
    return [
        Measured(
            result=one,
            seconds=others + own,
            is_dense=test.protocol.is_dense,
            **means,
        )
        for test, one, own, means in zip(tests, finished, seconds, seen.finish(len(images)), strict=True)
    ]


class _SharesSeen:
    """Sums over images, for each test and scale, of the positions of score maps and the share of an image in the views.

    Of methods with one part an image: the whole image, trimmed as it is, or its centre.
    """

    def __init__(self, tests: Sequence[ProtocolAt]) -> None:
        of_one_part = [any(method.parts == 1 for method in test.protocol.methods) for test in tests]
        self._keys = [
            (number, scale) for number, test in enumerate(tests) if of_one_part[number] for scale in test.scales
        ]
        self._num_tests = len(tests)
        self._sums = np.zeros((2, self._num_tests + len(self._keys)))  # never empty

    def add(self, number: int, found: Computed, sizes: Sequence[tuple[int, int]]) -> None:
        if found.view.method.parts == 1:
            scale, column = found.view.scale, self._keys.index((number, found.view.scale))
            self._sums[0, column] += len(sizes) * found.maps.shape[2] * found.maps.shape[3]
            self._sums[1, column] += sum(found.area / math.prod(rescaled_size(size, scale)) for size in sizes)

    def finish(self, num_images: int) -> list[dict[str, tuple[float, ...]]]:
        """Returns the means of each test over the images of all processes."""
        all_reduce_array(self._sums)
        means = (self._sums / num_images).tolist()
        columns = [
            [column for column, key in enumerate(self._keys) if key[0] == number] for number in range(self._num_tests)
        ]
        return [
            {
                name: tuple(values[column] for column in own)
                for name, values in zip(("map_positions", "share_seen"), means, strict=True)
            }
            for own in columns
        ]
