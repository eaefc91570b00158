"""``evaluate``: error rates of models and saved posteriors on data; fused, compared and saved."""

import shlex
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter
from rich.markup import escape
from rich.table import Table

from verydeep.cli.options import (
    Damaged,
    Device,
    Json,
    Precision,
    Split,
    models_then_data,
    prepare_process,
    read_scales,
    split_arguments,
)
from verydeep.cli.output import fetch_models, is_first_process, percent, print_json, print_table, reporting
from verydeep.cli.plain import print
from verydeep.errors import UsageError
from verydeep.files import check_output_file, format_number

if TYPE_CHECKING:
    from verydeep.testing.evaluate import ComparedPair
    from verydeep.testing.result import Result


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class EvaluateOptions:
    protocol: str = "single"
    """centre, ten-crop, single (dense over the whole image and its mirror), multi-scale, multi-crop, dense+multi-crop,
    caffe or adaptive."""
    test_scales: str | None = None
    "Test scales Q,Q,Q, pixels. [the protocol's, from the net's training scale]"
    split: Split = None
    save: Path | None = None
    "Write the posteriors to this safetensors file."
    compare: bool = False
    "Compare every two models on the same images: difference, interval, test."
    per_class: bool = False
    "Give the error of each class too."
    report: Path | None = None
    "Write a page with the errors and the worst of them in pictures to this file (.html)."
    no_pictures: bool = False
    "Put no picture and no score map into --report: for private photographs; names of files stay."
    device: Device = None
    precision: Precision = "fp32"
    damaged: Damaged = "fail"


def evaluate(
    *arguments: Annotated[
        str,
        models_then_data(
            ", published names or saved posteriors, several of which are fused", "Saved posteriors alone need no data."
        ),
    ],
    options: EvaluateOptions = EvaluateOptions(),
    json: Json = False,
) -> None:
    """Measure the error rates of a net on a data set, or of several nets whose posteriors are averaged.

    Example: verydeep evaluate runs/digits digits --protocol single
    """
    scales = None if options.test_scales is None else read_scales(options.test_scales, "--test-scales")
    prepare_process()

    from verydeep.data.image_set import describe_skipped
    from verydeep.device import find_device
    from verydeep.distributed import process_group
    from verydeep.testing.evaluate import compare_pairs, evaluate_each
    from verydeep.testing.result import check_writable, fuse, save_posteriors
    from verydeep.weights.resolve import unfinished

    if options.no_pictures and options.report is None:
        raise UsageError("--no-pictures is of the page: give --report with it")
    if options.report is not None:
        if len(arguments) != 2:
            raise UsageError("--report: give one model and the data")
        check_output_file(options.report, "--report", "report.html")
    fetch_models(*arguments[:-1])
    with reporting() as reporter, process_group(find_device(options.device)):
        for note in filter(None, map(unfinished, arguments[:-1])):
            reporter.note(note)
        models, data = _models_and_data(arguments)
        if options.compare and len(models) < 2:
            raise UsageError("--compare needs two models, or two files of saved posteriors")
        if len({Path(model).resolve() for model in models}) < len(models):
            raise UsageError("a model is given twice: it would be tested twice, and count twice in the mean")
        if options.save is not None:
            check_writable(options.save)
        per_model = evaluate_each(
            models,
            data,
            [options.protocol],
            test_scales=scales,
            split=options.split,
            device=options.device,
            precision=options.precision,
            skip_damaged=options.damaged == "skip",
            progress=reporter.progress,
            note=reporter.note,
        )
        results = [result for (result,) in per_model]
        fused = fuse(results)
        if options.save is not None and is_first_process():
            save_posteriors(fused, options.save)
        pairs = compare_pairs(results) if options.compare else []
        if fused.skipped:
            reporter.note(describe_skipped(fused.skipped))
    if not is_first_process():
        return
    if options.report is not None:
        from verydeep.runs.evaluation_report import write_evaluation_report

        command = shlex.join(["verydeep", *sys.argv[1:]])
        pictures = not options.no_pictures
        write_evaluation_report(options.report, fused, arguments[0], arguments[1], command, pictures=pictures)
        worst = "the worst of them in pictures" if pictures else "which are the worst, without pictures"
        print(f"{options.report} shows the errors and {worst}", file=sys.stderr)
    if json:
        print_json(_record(results, fused, pairs, options.per_class))
    else:
        _print(results, fused, pairs, options.per_class)


def _models_and_data(arguments: Sequence[str]) -> tuple[list[str], str | None]:
    """Splits the arguments: the last one is the data, unless it is a file of saved posteriors."""
    from verydeep.testing.result import is_saved_posteriors

    *models, last = arguments
    if is_saved_posteriors(last):
        nets = [model for model in models if not is_saved_posteriors(model)]
        if nets:
            raise UsageError(f"which data is {nets[0]} to be tested on? Give DATA as the last argument")
        return list(arguments), None
    split_arguments(arguments, "runs/digits digits")
    if shards := [model for model in models if model.endswith(".tar")]:
        raise UsageError(f"{shards[0]} is not a model: put a pattern of shards in quotes")
    return models, last


def _record(
    results: Sequence["Result"], fused: "Result", pairs: Sequence["ComparedPair"], per_class: bool
) -> dict[str, Any]:
    record = fused.as_record()
    if per_class:
        record["class_errors"] = fused.class_errors()
    if len(results) > 1:
        record["members"] = [result.as_record() for result in results]
    if pairs:
        record["comparisons"] = [pair.as_record() for pair in pairs]
    return record


def _print(results: Sequence["Result"], fused: "Result", pairs: Sequence["ComparedPair"], per_class: bool) -> None:
    table = Table("net", "protocol", "Q", "split", "images", "top-1 error", "95% interval", "top-5 error")
    table.add_column("s/image", justify="right")
    for result in results:
        _add_result(table, result, ", ".join(member.architecture for member in result.members))
    if len(results) > 1:
        _add_result(table, fused, "fused")
    print_table(table)
    for split in {result.split for result in (*results, fused) if result.selected_on == result.split}:
        print(f"The weights were selected on {split}: this error is lower than on new images.")
    for pair in pairs:
        _print_pair(pair, len(pairs))
    if per_class:
        classes = Table("class", "images", "top-1 error")
        counts = fused.class_counts()
        for name, error in fused.class_errors().items():
            classes.add_row(escape(name), f"{counts[name]:,}", percent(error))
        print_table(classes)


def _add_result(table: Table, result: "Result", net: str) -> None:
    from verydeep.testing.metrics import interval95

    low, high = interval95(result.top1_error, len(result.labels))
    table.add_row(
        net,
        result.protocol + ("" if result.precision == "fp32" else f", {result.precision}"),
        ",".join(str(scale) for scale in result.test_scales),
        result.split,
        f"{len(result.labels):,}",
        percent(result.top1_error),
        f"{100 * low:.2f} to {100 * high:.2f}%",
        percent(result.top5_error),
        format_number(result.seconds / len(result.labels)),
    )


def _print_pair(pair: "ComparedPair", num_pairs: int) -> None:
    compared, (low, high) = pair.comparison, pair.comparison.interval95
    corrected = f", {pair.corrected_p_value:.2g} corrected for {num_pairs} pairs" if num_pairs > 1 else ""
    print(
        f"{pair.second} against {pair.first}: {100 * compared.difference:+.2f} points of top-1 error (95% interval "
        f"{100 * low:+.2f} to {100 * high:+.2f}); {compared.only_second_wrong:,} images wrong that the other has "
        f"right, {compared.only_first_wrong:,} right that it has wrong: p = {compared.p_value:.2g} by McNemar's exact "
        f"test{corrected}"
    )
