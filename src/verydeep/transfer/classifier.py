"""A linear classifier on descriptors: one class against the rest, its C by cross-validation on the training images.

Paper: appendix B.
"""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from typing import Final, Literal

import numpy as np
from jaxtyping import Float, Int, Int8
from numpy import ndarray

from verydeep.errors import UserError
from verydeep.machine import num_cores
from verydeep.progress import Progress, ignore_progress
from verydeep.testing.calibration import best_temperature, softmax_loss

Kind = Literal["svm", "logistic"]

GRID: Final[dict[str, tuple[float, ...]]] = {
    "svm": tuple(2.0**power for power in range(-3, 6)),
    "logistic": tuple(2.0**power for power in range(0, 9)),
}
"""The values of C that are tried, for descriptors whose mean length is 1."""

FOLDS: Final = 5
"""Parts of the training images that are held out in turn, a fifth each: the paper holds out 20% once."""

MOST_NUMBERS: Final = 4_000_000
"""Numbers of all descriptors up to which every part is held out in turn; of more, one part alone, as in the paper."""

PATIENCE: Final = 2
"""Values of C above the best one, after which none larger is tried: these take the longest."""

Metric = Callable[[Float[ndarray, "n k"], Int8[ndarray, "n k"]], float]
"""What C is chosen by: of scores and targets, the higher the better."""


@dataclass(frozen=True, kw_only=True)
class HeldOut:
    """Scores of training images by classifiers that did not see them.

    Attributes:
        parts: the part that an image was held out with; -1 where it never was.
        scores: divided by the temperature; 0 where an image never was held out.
    """

    parts: Int[ndarray, "n"] = field(repr=False)
    scores: Float[ndarray, "n k"] = field(repr=False)


@dataclass(frozen=True, kw_only=True)
class LinearClassifier:
    """Scores of descriptors: a matrix multiplication and a bias.

    Attributes:
        weight: for descriptors as they were given: their scale and the temperature are folded in.
        bias: the same.
        kind: svm or logistic.
        c: the value that was chosen.
        held_out: the metric on held-out training images by the values of C.
        scale: what the descriptors were multiplied by.
        temperature: what the scores were divided by, so that their soft-max (or sigmoid) is a sensible posterior.
        cross_validation: the scores of the held-out images at the value of C that was chosen.
    """

    weight: Float[ndarray, "k d"] = field(repr=False)
    bias: Float[ndarray, "k"] = field(repr=False)
    kind: Kind
    c: float
    held_out: dict[float, float]
    scale: float
    temperature: float
    cross_validation: HeldOut | None = field(default=None, repr=False)

    def scores(self, descriptors: Float[ndarray, "n d"]) -> Float[ndarray, "n k"]:
        found: ndarray = descriptors.astype(np.float64) @ self.weight.T + self.bias
        return found


def fit_classifier(
    descriptors: Float[ndarray, "n d"],
    targets: Int8[ndarray, "n k"],
    classes: Sequence[str],
    metric: Metric,
    *,
    kind: Kind = "svm",
    seed: int = 0,
    multi_label: bool = False,
    progress: Progress = ignore_progress,
) -> LinearClassifier:
    """Fits a classifier: C and the temperature on held-out training images, then the weights on all of them.

    Choice: a linear SVM with squared hinge loss, one class against the rest, or logistic regressions likewise. C is
    the one of ``GRID`` with the best metric of five-fold cross-validation (of one held-out fifth, as in the paper,
    where descriptors have more than four million numbers), the smaller where several are equal; after two values that
    are no better the larger ones are left out.
    Descriptors are multiplied by one number that makes their mean length 1, which folds into the weights. Scores are
    divided by the temperature with the least negative log-likelihood on the held-out images and one image more of no
    class; that changes no ranking.

    Args:
        descriptors: of the training images.
        targets: 1 shows the class, -1 does not, 0 counts as neither.
        classes: their names, for messages.
        metric: what C is chosen by.
        kind: svm or logistic.
        seed: of the folds.
        multi_label: an image may show several classes: posteriors are sigmoids, not a soft-max.
        progress: called with the number of fits done and their total.

    Raises:
        UserError: there is one class, or a class that no image, or every image, shows.

    Paper: appendix B.
    """
    _check(targets, classes)
    scale = 1 / max(float(np.linalg.norm(descriptors, axis=1).mean()), float(np.finfo(np.float32).tiny))
    scaled, basis = _in_their_span(descriptors.astype(np.float64) * scale)
    parts = folds(targets, seed)
    if scaled.size > MOST_NUMBERS:
        parts = np.where(parts == 0, 0, -1)
    grid, used = GRID[kind], sorted(set(parts.tolist()) - {-1})
    held_out = np.flatnonzero(parts >= 0)
    total, done = len(grid) * len(used) + 1, 0
    best: tuple[float, float, ndarray] | None = None
    by_c: dict[float, float] = {}
    for c in grid:
        scores = np.zeros(targets.shape)
        for part in used:
            weight, bias = _fit(scaled[parts != part], targets[parts != part], kind, c)
            scores[parts == part] = scaled[parts == part] @ weight.T + bias
            progress("fitting classifiers", done := done + 1, total)
        found = by_c[c] = metric(scores[held_out], targets[held_out]) if used else 0.0
        if best is None or found > best[1]:
            best = c, found, scores
        elif sum(tried > best[0] for tried in by_c) == PATIENCE:
            break
    assert best is not None
    c, _, scores = best
    likelihood = _sigmoid_loss if multi_label else softmax_loss
    temperature = best_temperature(scores[held_out], targets[held_out], likelihood) if used else 1.0
    weight, bias = _fit(scaled, targets, kind, c)
    progress("fitting classifiers", total, total)
    weight = weight if basis is None else weight @ basis
    return LinearClassifier(
        weight=weight * (scale / temperature),
        bias=bias / temperature,
        kind=kind,
        c=c,
        held_out=by_c,
        scale=scale,
        temperature=temperature,
        cross_validation=HeldOut(parts=parts, scores=scores / temperature),
    )


def _check(targets: Int8[ndarray, "n k"], classes: Sequence[str]) -> None:
    if len(classes) < 2:
        raise UserError(f"there is one class, {''.join(classes)}: a classifier needs at least two")
    for name, column in zip(classes, targets.T, strict=True):
        if not (column > 0).any():
            raise UserError(f"no training image shows {name}: add some, or leave the class out")
        if not (column < 0).any():
            raise UserError(f"every training image shows {name}: a classifier needs images without it too")


def folds(targets: Int8[ndarray, "n k"], seed: int, count: int = FOLDS) -> Int[ndarray, "n"]:
    """Deals images into ``count`` parts, those of each class evenly.

    An image of several classes counts for the rarest. The only image of a class is in no part (-1): every fit has it.
    """
    generator = np.random.default_rng(seed)
    counts = (targets > 0).sum(0)
    rarity = np.where(targets > 0, counts, np.iinfo(np.int64).max)
    rarest = np.where((targets > 0).any(1), rarity.argmin(1), len(counts))  # the last group shows none
    parts = np.full(len(targets), -1)
    begin = 0
    for group in range(len(counts) + 1):
        members = generator.permutation(np.flatnonzero(rarest == group))
        if len(members) > 1 or group == len(counts):
            parts[members] = (begin + np.arange(len(members))) % count
            begin += len(members)
    return parts


def _in_their_span(descriptors: Float[ndarray, "n d"]) -> tuple[Float[ndarray, "n r"], Float[ndarray, "r d"] | None]:
    """Rotates descriptors into as few dimensions as there are images, where those are fewer, and returns the axes.

    Lengths and angles stay, and so does every classifier that is regularised by the length of its weights. The primal
    solver is then fast enough; the dual one draws from a generator that threads share.
    """
    if len(descriptors) >= descriptors.shape[1]:
        return descriptors, None
    squares, axes = np.linalg.eigh(descriptors @ descriptors.T)
    kept = squares > 1e-12 * squares[-1]
    lengths = np.sqrt(squares[kept])
    return axes[:, kept] * lengths, (axes[:, kept] / lengths).T @ descriptors


def fit_fixed(
    descriptors: Float[ndarray, "n d"], targets: Int8[ndarray, "n k"], kind: Kind, c: float
) -> tuple[Float[ndarray, "k d"], Float[ndarray, "k"]]:
    """Fits weights and biases with a given C to descriptors whose mean length is 1."""
    rotated, basis = _in_their_span(descriptors)
    weight, bias = _fit(rotated, targets, kind, c)
    return weight if basis is None else weight @ basis, bias


def _fit(
    descriptors: Float[ndarray, "n d"], targets: Int8[ndarray, "n k"], kind: Kind, c: float
) -> tuple[Float[ndarray, "k d"], Float[ndarray, "k"]]:
    """Fits one class against the rest for each; the solver releases the interpreter, so that threads share the cores.

    Of two classes that exclude each other the second's scores are the first's negated.
    """
    num_classes = targets.shape[1]
    mirrored = num_classes == 2 and bool((targets[:, 0] == -targets[:, 1]).all())
    one = partial(_fit_one, descriptors, targets, kind, c)
    with ThreadPoolExecutor(num_cores()) as pool:
        found = list(pool.map(one, range(1 if mirrored else num_classes)))
    weight, bias = np.stack([weight for weight, _ in found]), np.array([bias for _, bias in found])
    if mirrored:  # half each, so that the soft-max of both is the sigmoid of their difference
        weight, bias = np.concatenate([weight, -weight]) / 2, np.concatenate([bias, -bias]) / 2
    return weight, bias


def _fit_one(
    descriptors: Float[ndarray, "n d"], targets: Int8[ndarray, "n k"], kind: Kind, c: float, index: int
) -> tuple[Float[ndarray, "d"], float]:
    from sklearn.linear_model import LogisticRegression
    from sklearn.svm import LinearSVC

    column = targets[:, index]
    counted = column != 0
    if counted.all():
        counted = slice(None)
    rows, wanted = descriptors[counted], column[counted]
    if kind == "svm":
        solver = LinearSVC(C=c, dual=False, max_iter=10_000)
    else:
        solver = LogisticRegression(C=c, solver="liblinear", max_iter=1000)
    solver.fit(rows, wanted)
    return solver.coef_[0], float(solver.intercept_[0])


def _sigmoid_loss(scores: Float[ndarray, "n k"], targets: Int8[ndarray, "n k"]) -> float:
    """Like ``softmax_loss``, class by class."""
    surprise = np.logaddexp(0, -scores * targets)[targets != 0]
    against = np.logaddexp(0, scores * targets)[targets != 0]
    return float((surprise.sum() + against.mean() / 2 + surprise.mean() / 2) / (len(surprise) + 1))
