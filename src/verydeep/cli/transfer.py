"""``transfer``: a linear classifier on descriptors of a trained net, measured and written as a model."""

import shlex
import sys
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter
from rich.markup import escape
from rich.table import Table

from verydeep.cli.options import Json, models_then_data, prepare_process, read_scales, split_arguments
from verydeep.cli.output import fetch_models, is_first_process, percent, print_json, print_table, reporting
from verydeep.cli.plain import print
from verydeep.transfer.options import TransferOptions

if TYPE_CHECKING:
    from verydeep.transfer.result import TransferResult


def transfer(
    *arguments: Annotated[
        str,
        models_then_data(
            " or published names, several of which are stacked", "A folder in the layout of the Pascal VOC will do too."
        ),
    ],
    options: Annotated[TransferOptions, Parameter(name="*", parse="^(?!test_scales$)")] = TransferOptions(),
    test_scales: Annotated[
        str | None, Parameter(help="Test scales Q,Q,Q, pixels. [the net's own; at most 160 for convolutions]")
    ] = None,
    json: Json = False,
) -> None:
    """Fit a linear classifier to what a trained net sees in images, measure it, and write it as a model.

    Example: verydeep transfer vgg16-features photos/ --out photos-model
    """
    models, data = split_arguments(arguments, "vgg16-features photos/")
    if test_scales is not None:
        options = replace(options, test_scales=read_scales(test_scales, "--test-scales"))
    options.check()
    prepare_process()

    from verydeep.data.image_set import describe_skipped
    from verydeep.device import find_device
    from verydeep.distributed import process_group
    from verydeep.runs.transfer_report import write_transfer_report
    from verydeep.transfer.labels import describe_doubtful
    from verydeep.transfer.transfer import transfer as run

    fetch_models(*models)
    with reporting() as reporter, process_group(find_device(options.device)):
        result = run(models, data, options, progress=reporter.progress, note=reporter.note)
        if result.curve is not None and result.curve.forecast is not None:
            reporter.note(str(result.curve))
        if result.doubtful:
            reporter.note(f"{describe_doubtful(result.doubtful, result.splits[0].num_train)}, in report.html")
        if result.skipped:
            reporter.note(describe_skipped(result.skipped))
    if not is_first_process():
        return
    if options.out is not None:
        command = shlex.join(["verydeep", *sys.argv[1:]])
        page = write_transfer_report(options.out, result, command, pictures=not options.no_pictures)
        print(f"{page} shows the result, class by class", file=sys.stderr)
    if json:
        print_json(result.as_record())
    else:
        _print(result)


def _print(result: "TransferResult") -> None:
    from verydeep.transfer.result import TITLES

    described = ", ".join(
        f"{layer} of {model} at Q = {','.join(map(str, scales))}{'' if mirror else ', not mirrored'}"
        for model, layer, scales, mirror in zip(
            result.models, *(result.describing[name] for name in ("layer", "test_scales", "mirror")), strict=True
        )
    )
    print(f"{result.data}: {len(result.classes):,} classes; {described}; {result.classifier}")
    print(f"{result.about_split[:1].upper()}{result.about_split[1:]}.")
    table = Table("split", "seed", "fitted on", "measured on", "C")
    names = list(result.splits[0].values)
    for name in names:
        table.add_column(TITLES[name], justify="right")
    for one in result.splits:
        counts = f"{one.num_train:,}", f"{one.num_images:,}"
        table.add_row(
            one.measured_on, str(one.seed), *counts, f"{one.c:g}", *(percent(one.values[name]) for name in names)
        )
    print_table(table)
    title, interval = TITLES[result.metric], result.interval95()
    within = f", 95% interval {100 * interval[0]:.2f} to {100 * interval[1]:.2f}%" if interval else ""
    spread = f" ± {100 * result.spread:.2f}" if result.spread is not None else ""
    print(f"{title[:1].upper()}{title[1:]} {percent(result.value)}{spread}{within}")
    if result.top1_error is not None:
        print(f"Top-1 error {percent(result.top1_error)}")
    if rows := result.beside():
        paper = Table("the paper's Table 11", f"{title}, %")
        for method, value in rows:
            paper.add_row(escape(method), value)
        print_table(paper)
    seconds = result.seconds
    print(f"{seconds['describing']:.1f} s to describe, {seconds['fitting']:.1f} s to fit", file=sys.stderr)
    if result.model is not None:
        print(f"{result.model} is a MODEL: verydeep predict {shlex.quote(result.model)} photo.jpg")
