"""What a transfer measured: split by split, the mean and its spread, and the paper's numbers for the same data.

Paper: appendix B, Tables 11 and 12.
"""

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
from jaxtyping import Float, Int8
from numpy import ndarray
from PIL import Image

from verydeep.paper.tables import TABLE_11, Score
from verydeep.testing.metrics import interval95
from verydeep.transfer.labels import DoubtfulLabel
from verydeep.transfer.learning_curve import LearningCurve
from verydeep.transfer.metrics import (
    accuracy,
    mean_average_precision,
    mean_class_recall,
)

TITLES: Final = {"recall": "mean class recall", "map": "mean average precision", "accuracy": "accuracy"}

_RESAMPLES = 499


def measure_scores(
    scores: Float[ndarray, "n k"], targets: Int8[ndarray, "n k"], metric: str, *, multi_label: bool, eleven_points: bool
) -> float:
    """The value of a metric, a fraction; accuracy and recall are of images that show one class each."""
    if metric == "map":
        return mean_average_precision(scores, targets, "eleven-points" if eleven_points else "area")
    assert not multi_label
    predicted, labels = scores.argmax(1), targets.argmax(1)
    return (
        accuracy(predicted, labels) if metric == "accuracy" else mean_class_recall(predicted, labels, scores.shape[1])
    )


def metrics_of(multi_label: bool) -> tuple[str, ...]:
    return ("map",) if multi_label else ("recall", "map", "accuracy")


@dataclass(frozen=True, kw_only=True)
class SplitResult:
    """A classifier fitted on some images and measured on others."""

    scores: Float[ndarray, "n k"] = field(repr=False)
    targets: Int8[ndarray, "n k"] = field(repr=False)
    values: Mapping[str, float]
    "The metrics, fractions."
    measured_on: str
    num_train: int
    seed: int
    c: float
    temperature: float
    held_out: Mapping[float, float]
    "The metric on held-out training images by the values of C."

    @property
    def num_images(self) -> int:
        return len(self.targets)

    @property
    def top1_error(self) -> float | None:
        return None if "accuracy" not in self.values else 1 - self.values["accuracy"]

    def as_record(self) -> dict[str, Any]:
        return {
            **self.values,
            "top1_error": self.top1_error,
            "split": self.measured_on,
            "seed": self.seed,
            "num_train": self.num_train,
            "num_images": self.num_images,
            "c": self.c,
            "temperature": self.temperature,
            "held_out": {f"{c:g}": value for c, value in self.held_out.items()},
        }


@dataclass(frozen=True, kw_only=True)
class TransferResult:
    """What a transfer measured, and how.

    Attributes:
        data: name of the data set.
        classes: names of the classes.
        multi_label: an image may show several classes.
        metric: recall, map or accuracy.
        splits: one result for the data's own split, or one for each split that was drawn.
        about_split: which images were fitted and measured on, in words.
        is_drawn: splits were drawn anew, of the images of all the data's own.
        models: nets, as they were given.
        architectures: of the nets.
        describing: layer, test scales and so on.
        classifier: svm or logistic.
        eleven_points: map is VOC 2007's.
        fingerprint: of the data.
        skipped: damaged images left out.
        seconds: of describing and of fitting.
        model: what was written; None where nothing was.
        names: of the measured images of the first split.
        curve: what more images to fit on would bring, in the first split; None where it was not asked for.
        doubtful: labels of those images that are probably wrong, by the index among all images of the data.
        all_names: of all images of the data.
        read: reads one of them by its index.
    """

    data: str
    classes: tuple[str, ...] = field(repr=False)
    multi_label: bool
    metric: str
    splits: Sequence[SplitResult]
    about_split: str
    is_drawn: bool
    models: Sequence[str]
    architectures: Sequence[str]
    describing: Mapping[str, Any]
    classifier: str
    eleven_points: bool
    fingerprint: str
    skipped: Sequence[str]
    seconds: Mapping[str, float]
    names: Sequence[str] = field(repr=False)
    model: str | None = None
    curve: LearningCurve | None = field(default=None, repr=False)
    doubtful: Sequence[DoubtfulLabel] = field(default=(), repr=False)
    all_names: Sequence[str] = field(default=(), repr=False)
    read: Callable[[int], Image.Image] | None = field(default=None, repr=False)

    def __repr__(self) -> str:
        """The metric, the error and what they were measured on."""
        first = self.splits[0]
        facts: dict[str, Any] = {self.metric: self.value, "top1_error": self.top1_error, "spread": self.spread}
        facts |= {"split": first.measured_on, "num_images": first.num_images, "splits": len(self.splits)}
        facts |= {name: getattr(self, name) for name in ("classifier", "models", "data", "model")}
        return f"TransferResult({', '.join(f'{name}={value!r}' for name, value in facts.items())})"

    @property
    def values(self) -> list[float]:
        """The metric of each split."""
        return [one.values[self.metric] for one in self.splits]

    @property
    def value(self) -> float:
        """The mean over the splits."""
        return statistics.mean(self.values)

    @property
    def spread(self) -> float | None:
        """The standard deviation over the splits; None of one."""
        return statistics.stdev(self.values) if len(self.values) > 1 else None

    @property
    def top1_error(self) -> float | None:
        """The mean over the splits; None where an image may show several classes."""
        errors = [one.top1_error for one in self.splits if one.top1_error is not None]
        return statistics.mean(errors) if errors else None

    def interval95(self) -> tuple[float, float] | None:
        """An interval of the metric for other images: Wilson's for accuracy, else by the bootstrap; None of several."""
        if len(self.splits) > 1:
            return None
        (one,) = self.splits
        if self.metric == "accuracy":
            low, high = interval95(1 - one.values["accuracy"], one.num_images)
            return 1 - high, 1 - low
        generator, found = np.random.default_rng(0), []
        for _ in range(_RESAMPLES):
            drawn = generator.integers(0, one.num_images, one.num_images)
            found.append(
                measure_scores(
                    one.scores[drawn],
                    one.targets[drawn],
                    self.metric,
                    multi_label=self.multi_label,
                    eleven_points=self.eleven_points,
                )
            )
        low, high = np.quantile(found, [0.025, 0.975])
        return float(low), float(high)

    def as_record(self) -> dict[str, Any]:
        interval = self.interval95()
        means = {name: statistics.mean(one.values[name] for one in self.splits) for name in self.splits[0].values}
        return {
            "metric": self.metric,
            **means,
            "top1_error": self.top1_error,
            "spread": self.spread,
            "interval95": None if interval is None else list(interval),
            "split": self.splits[0].measured_on,
            "about_split": self.about_split,
            "num_images": self.splits[0].num_images,
            "num_train": self.splits[0].num_train,
            "data": self.data,
            "fingerprint": self.fingerprint,
            "models": list(self.models),
            "architecture": self.architectures[0] if len(self.architectures) == 1 else list(self.architectures),
            "classifier": self.classifier,
            **self.describing,
            "splits": [one.as_record() for one in self.splits],
            "paper": [{"method": method, "value": value} for method, value in self.beside()],
            "skipped": list(self.skipped),
            "seconds": dict(self.seconds),
            "model": self.model,
        }

    def beside(self) -> list[tuple[str, str]]:
        """What the paper's Table 11 says of the same data, in per cent."""
        return paper_rows(self.data)


def paper_rows(data: str) -> list[tuple[str, str]]:
    """The rows of Table 11 for a data set; none for one that it has not."""
    if data not in ("voc2007", "voc2012", "caltech101", "caltech256"):
        return []
    rows = []
    for row in TABLE_11:
        scores = getattr(row, data)
        listed = scores if isinstance(scores, tuple) else () if scores is None else (scores,)
        if listed:
            rows.append((row.method, ", ".join(map(_shown, listed))))
    return rows


def _shown(score: Score) -> str:
    spread = "" if score.spread is None else f" ± {score.spread:.1f}"
    return f"{score.value:.1f}{spread}{' (more classes than ILSVRC)' if score.extended else ''}"
