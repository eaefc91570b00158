"""Runs an exported file on photographs and compares it with our own scores.

Paper: section 3.2.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from jaxtyping import Float, Int, UInt8
from numpy import ndarray

from verydeep.data.image_set import ImageSet
from verydeep.data.sources import read_ahead
from verydeep.export.sources import Source
from verydeep.progress import Progress
from verydeep.testing.measure import batches_by_shape
from verydeep.testing.metrics import top_error

Run = Callable[[UInt8[ndarray, "n _ _ _"]], dict[str, ndarray]]
"""Computes the outputs of a file, by their names."""

TOLERANCES: Final[dict[str, tuple[float, float]]] = {
    "fp32": (1e-4, 1.0),
    "fp16": (0.02, 0.95),
    "int8": (1.0, 0.8),
}
"""Of each precision the largest difference, of a posterior or of a map relative to its largest number, and the least
share of photographs with the same first class."""

_NUM_CROPS: Final = 8


@dataclass(frozen=True, kw_only=True)
class Agreement:
    """How far a file agrees with us; differences of posteriors and shares are None where there are no classes."""

    num_images: int
    max_posterior_difference: float | None
    top1_agreement: float | None
    max_map_difference: float | None
    "Of a map, relative to the largest number of the same map; None where the file gives none."

    def mismatch(self, precision: str) -> str | None:
        """Says what is too far apart for a precision; None where nothing is."""
        most, least = TOLERANCES[precision]
        for what, value in (("posteriors", self.max_posterior_difference), ("maps", self.max_map_difference)):
            if value is not None and not value <= most:
                return f"{what} differ by up to {value:.2g}, and {precision} may differ by {most:g}"
        if self.top1_agreement is not None and self.top1_agreement < least:
            return f"only {100 * self.top1_agreement:.1f}% of the photographs have the same first class"
        return None


@dataclass(frozen=True, kw_only=True)
class Measured:
    """Error rates of a file and of the net that it was made of."""

    split: str
    num_images: int
    top1_error: float  # of the file
    net_top1_error: float
    top1_agreement: float
    max_posterior_difference: float


class _Comparison:
    def __init__(self) -> None:
        self._posterior: list[float] = []
        self._same: list[bool] = []
        self._maps: list[float] = []
        self._count = 0

    def add(self, theirs: dict[str, ndarray], ours: dict[str, ndarray]) -> None:
        self._count += len(next(iter(ours.values())))
        for name, value in theirs.items():
            expected = ours[name]
            if value.shape != expected.shape:
                self._maps.append(float("inf"))
            elif name == "posteriors":
                self._posterior.append(_largest(value - expected))
                self._same += (value.argmax(1) == expected.argmax(1)).tolist()
            else:
                largest = max(_largest(expected), float(np.finfo(np.float32).tiny))
                self._maps.append(_largest(value - expected) / largest)

    def result(self) -> Agreement:
        return Agreement(
            num_images=self._count,
            max_posterior_difference=_maximum(self._posterior),
            top1_agreement=sum(self._same) / len(self._same) if self._same else None,
            max_map_difference=_maximum(self._maps),
        )


def _largest(values: Float[ndarray, "..."]) -> float:
    """The largest absolute value; infinity where one is no number, which no comparison would notice."""
    largest = float(np.abs(values).max())
    return largest if np.isfinite(largest) else float("inf")


def _maximum(values: Sequence[float]) -> float | None:
    return max(values) if values else None


def compare(run: Run, source: Source, layout: str, photographs: Sequence[UInt8[ndarray, "_ _ 3"]]) -> Agreement:
    """Compares a file with the net on what the net sees: whole photographs at the test scale, and crops in one batch.

    Of a file that rescales images, these are photographs that have the test scale already.
    """
    comparison = _Comparison()
    for images in _seen(source, photographs):
        comparison.add(run(given(images, layout)), source.outputs(images))
    return comparison.result()


def compare_rescaled(
    run: Run, source: Source, layout: str, photographs: Sequence[UInt8[ndarray, "_ _ 3"]]
) -> Agreement:
    """Compares a file that rescales photographs itself with ours, which are rescaled as everywhere here."""
    comparison = _Comparison()
    for pixels in photographs:
        comparison.add(run(given(pixels[None], layout)), source.outputs(source.view(pixels)[None]))
    return comparison.result()


def _seen(source: Source, photographs: Sequence[UInt8[ndarray, "_ _ 3"]]) -> Iterator[UInt8[ndarray, "n _ _ 3"]]:
    views = [source.view(pixels) for pixels in photographs]
    yield np.stack([views[0], views[0][:, ::-1]])
    for view in views[1:]:
        yield view[None]
    if not source.rescales:
        side = source.smallest_side
        yield np.stack([view[:side, :side] for view in views[:_NUM_CROPS]])


def given(images: UInt8[ndarray, "n h w 3"], layout: str) -> UInt8[ndarray, "n _ _ _"]:
    """Images in the layout of a file."""
    return np.ascontiguousarray(images if layout == "nhwc" else images.transpose(0, 3, 1, 2))


def measure(run: Run, source: Source, layout: str, images: ImageSet, progress: Progress) -> Measured:
    """Measures the error rates of a file and of its net on labelled images: dense at the test scale, not mirrored."""
    order = source.class_order(images)

    def parts(index: int) -> list[tuple[int, UInt8[ndarray, "_ _ 3"]]]:
        pixels = images.pixels(index)
        return [(0, pixels if source.rescales else source.view(pixels))]

    theirs, ours = ([np.empty(0)] * len(images) for _ in range(2))
    done = 0
    for _, numbers, batch in batches_by_shape(read_ahead(parts, range(len(images)), images.parallel_reads)):
        seen = np.stack([source.view(image) for image in batch]) if source.rescales else batch
        both = run(given(batch, layout))["posteriors"], source.outputs(seen)["posteriors"]
        for number, their, our in zip(numbers, *both, strict=True):
            theirs[number], ours[number] = their, our
        done += len(numbers)
        progress(f"measuring the file on {images.split}", done, len(images))
    return _measured(np.stack(theirs), np.stack(ours), images, order)


def _measured(
    theirs: Float[ndarray, "n k"], ours: Float[ndarray, "n k"], images: ImageSet, order: list[int] | None
) -> Measured:
    def error(posteriors: Float[ndarray, "n k"], labels: Int[ndarray, "n"]) -> float:
        found = top_error(posteriors if order is None else posteriors[:, order], labels, 1)
        assert found is not None
        return found

    return Measured(
        split=images.split,
        num_images=len(images),
        top1_error=error(theirs, images.labels),
        net_top1_error=error(ours, images.labels),
        top1_agreement=float((theirs.argmax(1) == ours.argmax(1)).mean()),
        max_posterior_difference=_largest(theirs - ours),
    )
