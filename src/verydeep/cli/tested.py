"""What ``verydeep evaluate`` does: models and saved posteriors tested on data, fused, compared and saved."""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from verydeep.distributed import processes
from verydeep.errors import UsageError
from verydeep.testing.evaluate import evaluate_each
from verydeep.testing.metrics import wrong
from verydeep.testing.result import Result, check_alike, check_writable, fuse, is_saved_posteriors, save_posteriors
from verydeep.testing.statistics import Comparison, compare, holm


@dataclass(frozen=True, kw_only=True)
class Pair:
    """Two results compared.

    Attributes:
        first: what the first is.
        second: what the second is.
        comparison: of their top-1 errors.
        corrected_p_value: corrected for the number of pairs, by Holm's method.
    """

    first: str
    second: str
    comparison: Comparison
    corrected_p_value: float

    def as_record(self) -> dict[str, Any]:
        """The figures, for JSON."""
        return {
            "first": self.first,
            "second": self.second,
            **self.comparison.as_record(),
            "corrected_p_value": self.corrected_p_value,
        }


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """What one command tested.

    Attributes:
        results: one for each model or file of posteriors.
        fused: the mean of their posteriors; the only result where there is one.
        pairs: every two of them compared, where that was asked for.
    """

    results: list[Result]
    fused: Result
    pairs: list[Pair]

    def as_record(self, *, per_class: bool = False) -> dict[str, Any]:
        """The figures of the fused result, for JSON, and those of its members where there are several."""
        record = self.fused.as_record()
        if per_class:
            record["class_errors"] = self.fused.class_errors()
        if len(self.results) > 1:
            record["members"] = [result.as_record() for result in self.results]
        if self.pairs:
            record["comparisons"] = [pair.as_record() for pair in self.pairs]
        return record


def split_arguments(arguments: Sequence[str]) -> tuple[list[str], str | None]:
    """Tells models and data apart: the last argument is the data, unless it is a file of saved posteriors.

    Returns:
        The models, and the data; None where all are files of saved posteriors.

    Raises:
        UsageError: there is no model, or there are no data.
    """
    *models, last = arguments
    if is_saved_posteriors(last):
        nets = [model for model in models if not is_saved_posteriors(model)]
        if nets:
            raise UsageError(f"which data is {nets[0]} to be tested on? Give DATA as the last argument")
        return list(arguments), None
    if not models:
        raise UsageError(f"only {last} is given: give a model and then the data, such as runs/digits digits")
    if shards := [model for model in models if model.endswith(".tar")]:
        raise UsageError(f"{shards[0]} is no model: put a pattern of shards in quotes")
    return models, last


def measure_all(
    arguments: Sequence[str],
    *,
    compare_pairs: bool = False,
    save: Path | None = None,
    protocol: str = "single",
    **options: Any,  # noqa: ANN401 - those of evaluate_each
) -> Evaluation:
    """Evaluation models on data, fuses them, and saves the posteriors.

    Args:
        arguments: models and files of saved posteriors, then the data; files of saved posteriors need none.
        compare_pairs: compare every two of them.
        save: where the posteriors are written; of several models their mean.
        protocol: how to test.
        options: as for ``evaluate_each``.

    Raises:
        UserError: as ``evaluate``; or the posteriors cannot be written.
        UsageError: as ``evaluate``; or there is nothing to compare.
    """
    models, data = split_arguments(arguments)
    if compare_pairs and len(models) < 2:
        raise UsageError("--compare needs two models, or two files of saved posteriors")
    if len({Path(model).resolve() for model in models}) < len(models):
        raise UsageError("a model is given twice: it would be tested twice, and count twice in the mean")
    if save is not None:
        check_writable(save)
    results = [result for (result,) in evaluate_each(models, data, [protocol], **options)]
    fused = fuse(results)
    if save is not None and processes().is_first:
        save_posteriors(fused, save)
    return Evaluation(results=results, fused=fused, pairs=compare_all(results) if compare_pairs else [])


def compare_all(results: Sequence[Result]) -> list[Pair]:
    """Compares every two results on the same images, corrected for the number of pairs.

    Raises:
        UserError: they are not of the same images.
    """
    pairs = list(itertools.combinations(results, 2))
    comparisons = []
    for first, second in pairs:
        check_alike(first, second)
        comparisons.append(compare(wrong(first.posteriors, first.labels), wrong(second.posteriors, second.labels)))
    corrected = holm([comparison.p_value for comparison in comparisons])
    return [
        Pair(first=first.title, second=second.title, comparison=comparison, corrected_p_value=value)
        for (first, second), comparison, value in zip(pairs, comparisons, corrected, strict=True)
    ]
