"""``localise``: train a localiser, measure it, and predict the boxes of objects.

Paper: appendix A.
"""

import shlex
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import App, Parameter
from rich.table import Table

from verydeep.cli.options import (
    Damaged,
    Device,
    Json,
    Precision,
    Set,
    Split,
    options_given,
    prepare_process,
    read_changes,
    read_scales,
    split_arguments,
)
from verydeep.cli.output import (
    FEW_IMAGES,
    between,
    fetch_models,
    is_first_process,
    percent,
    print_json,
    print_table,
    reporting,
)
from verydeep.cli.plain import print
from verydeep.errors import UsageError
from verydeep.files import check_output_file
from verydeep.localisation.options import LocaliseOptions

if TYPE_CHECKING:
    from verydeep.localisation.train import TrainedLocaliser

_BOXED_DATA = (
    "Images with boxes: the name shapes; a folder of Pascal VOC, YOLO, LabelMe or ILSVRC; a COCO JSON file; or a CSV "
    "of file,class,x1,y1,x2,y2."
)
BoxedData = Annotated[str, Parameter(name="DATA", help=_BOXED_DATA)]
Classifier = Annotated[
    str | None, Parameter(help="The MODEL that gives the class scores. [the one that the localiser grew from]")
]

localise = App(
    name="localise",
    help="Predict the boxes of objects: train a localiser, measure it, draw its boxes on pictures.",
    usage="Usage: verydeep localise VERB [OPTIONS] [ARGUMENTS]",
    help_flags="--help",
    version_flags=(),
)


def _usage(name: str, arguments: str) -> str:
    return f"Usage: verydeep localise {name} [OPTIONS] {arguments}"


localise.command("verydeep.cli.localise_predict:predict", name="predict", usage=_usage("predict", "MODEL IMAGE..."))


@localise.command(name="train", usage=_usage("train", "[DATA]"))
def train(
    data: BoxedData | None = None,
    /,
    *,
    options: Annotated[LocaliseOptions, Parameter(name="*", parse="^(?!changes$|train_scale$)")] = LocaliseOptions(),
    set: Set = (),
    train_scale: Annotated[
        str | None, Parameter(help="S, or Smin,Smax. [that of the classifier; of new layers 224 to 288, by the crop]")
    ] = None,
    json: Json = False,
) -> int:
    """Train a localiser into a run folder, from a classifier or from the convolutions that come with the package.

    Example: verydeep localise train shapes --out runs/boxes
    """
    scales = None if train_scale is None else read_scales(train_scale, "--train-scale")
    options = replace(
        options, changes=read_changes(set), train_scale=scales[0] if scales and len(scales) == 1 else scales
    )
    if not 0 <= options.seed < 2**64:
        raise UsageError(f"--seed {options.seed}: give a number from 0 to {2**64 - 1}")
    prepare_process()
    options.check(data, options_given(options, besides=("out", "resume", "devices")))
    fetch_models(None if options.init_from is None else str(options.init_from))

    from verydeep.device import find_device
    from verydeep.distributed import launch
    from verydeep.localisation import start

    if options.devices != 1:
        return launch(options.devices, sys.argv[1:], find_device(options.device))
    command = shlex.join(["verydeep", *sys.argv[1:]])
    with reporting() as reporter:
        if data is None:
            assert options.out is not None
            trained = start.resume(options.out, reporter=reporter)
        else:
            trained = start.train(data, options, reporter=reporter, command=command)
    if not is_first_process():
        return 0
    if json:
        print_json(trained.as_record())
    elif trained.finished:
        _print_trained(trained, data)
    if not trained.finished:
        print(f"stopped after epoch {trained.epochs}; everything is saved. Resume with:", file=sys.stderr)
        print(f"  verydeep localise train --resume --out {shlex.quote(str(trained.run))}", file=sys.stderr)
        return 1
    return 0


def _print_trained(trained: "TrainedLocaliser", data: str | None) -> None:
    assert trained.localisation_error is not None
    few = ""
    if trained.num_images < FEW_IMAGES:
        few = f", so few that the error may be {between(trained.localisation_error, trained.num_images)}"
    print(
        f"{trained.model}: localisation error {percent(trained.localisation_error)}, given the true class, on "
        f"{trained.num_images:,} {trained.split} images by {trained.protocol}{few}"
    )
    print(f"{trained.run / 'report.html'} shows the curves. Next:")
    run, given = shlex.quote(str(trained.run)), shlex.quote(data) if data else "DATA"
    print(f"  verydeep localise evaluate {run} {given} --protocol full")
    print(f"  verydeep localise predict {run} IMAGE... --out overlays")


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class EvaluateOptions:
    protocol: Literal["centre", "full"] = "centre"
    """centre: the box of the true class in the central crop. full: boxes from every position and scale, merged, and
    rated by the class scores; gives the top-1 and top-5 localisation errors too."""
    classifier: Classifier = None
    test_scales: str | None = None
    "Test scales Q,Q,Q, pixels. [those tuned, else from the training scale]"
    tune: bool = False
    "Choose the threshold of merging and the test scales on the validation images, and keep them beside the model."
    split: Split = None
    report: Path | None = None
    "Write a page with the boxes on pictures, the worst misses and the paper's tables to this file (.html)."
    device: Device = None
    precision: Precision = "fp32"
    damaged: Damaged = "fail"


@localise.command(name="evaluate", usage=_usage("evaluate", "MODEL... DATA"))
def evaluate(
    *arguments: Annotated[
        str,
        Parameter(
            name="MODEL... DATA",
            required=True,
            help=f"Localisers, whose boxes are united where there are several; then the data. {_BOXED_DATA}",
        ),
    ],
    options: EvaluateOptions = EvaluateOptions(),
    json: Json = False,
) -> None:
    """Measure a localiser on data with boxes: the share of images whose box overlaps no object by more than half.

    Example: verydeep localise evaluate runs/boxes shapes
    """
    scales = None if options.test_scales is None else read_scales(options.test_scales, "--test-scales")
    models, data = split_arguments(arguments, "runs/boxes shapes")
    if options.report is not None:
        check_output_file(options.report, "--report", "report.html")
    if options.tune and len(models) > 1:
        raise UsageError("--tune: give one localiser, each is tuned by itself")
    prepare_process()
    fetch_models(*models, options.classifier)

    from verydeep.data.boxes.open import open_boxed
    from verydeep.device import find_device
    from verydeep.distributed import process_group
    from verydeep.localisation.evaluate import evaluate_localiser
    from verydeep.localisation.localiser import Localiser, save_tuned
    from verydeep.localisation.tune import tune
    from verydeep.weights.resolve import unfinished

    with reporting() as reporter, process_group(find_device(options.device)):
        for note in filter(None, map(unfinished, models)):
            reporter.note(note)
        localisers = [Localiser.load(model) for model in models]
        opened = open_boxed(data, skip_damaged=options.damaged == "skip", progress=reporter.progress)
        if options.tune:
            tuned = tune(
                localisers[0],
                opened.val,
                classifier=options.classifier,
                test_scales=scales,
                device=options.device,
                precision=options.precision,
                progress=reporter.progress,
            )
            localisers[0].merge_threshold, localisers[0].test_scales = tuned.merge_threshold, tuned.test_scales
            chosen = {"merge_threshold": tuned.merge_threshold, "test_scales": list(tuned.test_scales)}
            if is_first_process():
                file = save_tuned(models[0], **chosen)
                reporter.note(
                    f"chosen on {len(opened.val):,} validation images: boxes are merged above an IoU of "
                    f"{tuned.merge_threshold:g}, Q = {', '.join(map(str, tuned.test_scales))}; kept in {file}"
                )
        images = opened.split(options.split)
        result = evaluate_localiser(
            localisers,
            images,
            protocol=options.protocol,
            test_scales=scales,
            classifier=options.classifier,
            device=options.device,
            precision=options.precision,
            progress=reporter.progress,
        )
    record = result.as_record()
    if not is_first_process():
        return
    if options.report is not None:
        from verydeep.localisation.report import write_localisation_report

        title = f"{' + '.join(models)} on {opened.name}"
        command = shlex.join(["verydeep", *sys.argv[1:]])
        write_localisation_report(options.report, result, images, title=title, commands=[command])
    if json:
        print_json(record)
    else:
        _print_errors(record)


def _print_errors(record: dict[str, Any]) -> None:
    from verydeep.testing.metrics import interval95

    table = Table("protocol", "split", "images", "localisation error", "95% interval", "top-1 error", "top-5 error")
    low, high = interval95(record["localisation_error"], record["num_images"])
    table.add_row(
        record["protocol"],
        record["split"],
        f"{record['num_images']:,}",
        percent(record["localisation_error"]),
        f"{100 * low:.2f} to {100 * high:.2f}%",
        percent(record.get("top1_localisation_error")),
        percent(record.get("top5_localisation_error")),
    )
    print_table(table)
    print("The localisation error is given the true class; top-1 and top-5 errors need the right class too.")
