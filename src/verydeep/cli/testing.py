"""The command line of testing: error rates, the paper's tables, and what single images show.

torch is imported inside the verbs, as in the command line itself.
"""

import shlex
import sys
from pathlib import Path
from typing import Annotated

import typer

from verydeep.cli.json_answer import JsonOption, print_json
from verydeep.cli.options import (
    DATA_HELP,
    DamagedOption,
    DeviceOption,
    fetch_weights,
    options_given,
    prepare_process,
    read_changes,
    read_scales,
    skips_damaged,
)
from verydeep.errors import UsageError, UserError
from verydeep.files import check_output_file, check_outside


def evaluate(
    arguments: Annotated[
        list[str],
        typer.Argument(
            metavar="MODEL... DATA",
            help="Model files, run folders, published names or saved posteriors, several of which are fused; then the "
            f"data: {DATA_HELP[0].lower()}{DATA_HELP[1:]} Saved posteriors alone need no data.",
        ),
    ],
    protocol: Annotated[
        str,
        typer.Option(
            help="centre, ten-crop, single (dense over the whole image and its mirror), multi-scale, multi-crop, "
            "dense+multi-crop, caffe or adaptive."
        ),
    ] = "single",
    test_scales: Annotated[
        str | None, typer.Option(help="Test scales Q,Q,Q, pixels. [the protocol's, from the net's training scale]")
    ] = None,
    split: Annotated[str | None, typer.Option(help="train, val or test. [test where there is one, else val]")] = None,
    save: Annotated[Path | None, typer.Option(help="Write the posteriors to this safetensors file.")] = None,
    compare: Annotated[
        bool, typer.Option("--compare", help="Compare every two models on the same images: difference, interval, test.")
    ] = False,
    per_class: Annotated[bool, typer.Option("--per-class", help="Give the error of each class too.")] = False,
    report: Annotated[
        Path | None,
        typer.Option(help="Write a page with the errors and the worst of them in pictures to this file (.html)."),
    ] = None,
    device: DeviceOption = None,
    damaged: DamagedOption = "fail",
    as_json: JsonOption = False,
) -> None:
    """Measure the error rates of a net on a data set, or of several nets whose posteriors are averaged.

    Example: verydeep evaluate runs/digits digits --protocol single
    """
    scales = None if test_scales is None else read_scales(test_scales, "--test-scales")
    skip_damaged = skips_damaged(damaged)
    prepare_process()

    from verydeep.cli.printed import print_evaluation
    from verydeep.cli.terminal import reporting
    from verydeep.cli.tested import measure_all
    from verydeep.data.image_set import describe_skipped
    from verydeep.device import find_device
    from verydeep.distributed import process_group
    from verydeep.runs.evaluation_report import write_evaluation_report
    from verydeep.weights.resolve import unfinished

    if report is not None:
        if len(arguments) != 2:
            raise UsageError("--report: give one model and the data")
        check_output_file(report, "--report", "report.html")
    fetch_weights(*arguments[:-1])
    with reporting() as reporter, process_group(find_device(device)):
        for note in filter(None, map(unfinished, arguments[:-1])):
            reporter.note(note)
        tested = measure_all(
            arguments,
            compare_pairs=compare,
            save=save,
            protocol=protocol,
            test_scales=scales,
            split=split,
            device=device,
            skip_damaged=skip_damaged,
            progress=reporter.progress,
            note=reporter.note,
        )
        if skipped := tested.fused.skipped:
            reporter.note(describe_skipped(skipped))
    from verydeep.distributed import launched

    if not launched().is_first:
        return
    if report is not None:
        write_evaluation_report(
            report, tested.fused, arguments[0], arguments[1], shlex.join(["verydeep", *sys.argv[1:]])
        )
        print(f"{report} shows the errors and the worst of them in pictures", file=sys.stderr)
    if as_json:
        print_json(tested.as_record(per_class=per_class))
    else:
        print_evaluation(tested, per_class=per_class)


_OF_TESTING = ("data", "models", "split", "out", "plan", "device", "damaged", "as_json")
"""Parameters of ``tables`` that say how to test."""


def tables(
    context: typer.Context,
    data: Annotated[str | None, typer.Argument(help=DATA_HELP)] = None,
    architectures: Annotated[
        str, typer.Option(help="Columns of Table 1, such as A,A-LRN,B,C,D,E; B-5x5 too.")
    ] = "A,A-LRN,B,C,D,E",
    models: Annotated[str | None, typer.Option(help="Test these models, MODEL,MODEL,..., and train nothing.")] = None,
    results: Annotated[
        Path | None, typer.Option("--from", help="Only print what is in these results (a file, or its folder).")
    ] = None,
    seeds: Annotated[int, typer.Option(help="Trainings of each net.")] = 1,
    batch_norm: Annotated[bool, typer.Option("--batch-norm", help="A batch norm after every convolution.")] = False,
    width: Annotated[float, typer.Option(help="Factor on the channels of every layer.")] = 1.0,
    crop: Annotated[
        int | None, typer.Option(help="Side of the training crop. [32 for digits and cifar, else 224]")
    ] = None,
    train_scale: Annotated[
        list[str] | None,
        typer.Option(help="S, or Smin,Smax, for every net; repeatable. [those of the paper's Table 3, x crop / 224]"),
    ] = None,
    epochs: Annotated[int | None, typer.Option(help="Passes over the training images. [the recipe's]")] = None,
    recipe: Annotated[
        str, typer.Option(help="paper, small-images, quick ... or a JSON file; the same for every net.")
    ] = "small-images",
    set_: Annotated[list[str] | None, typer.Option("--set", help="Change a field of the recipe: key=value.")] = None,
    split: Annotated[str | None, typer.Option(help="train, val or test. [test where there is one, else val]")] = None,
    out: Annotated[Path | None, typer.Option(help="The folder of everything. [runs/tables-DATA]")] = None,
    plan: Annotated[
        bool, typer.Option("--plan", help="Only say how long it would take; measured for a moment.")
    ] = False,
    device: DeviceOption = None,
    precision: Annotated[str | None, typer.Option(help="fp32 or bf16, of the trainings. [the faster]")] = None,
    damaged: DamagedOption = "fail",
    as_json: JsonOption = False,
) -> None:
    """Train what is missing and print the paper's Tables 3 to 6 for a data set, beside the paper's numbers.

    The same command goes on where it was interrupted, and does nothing twice.

    Example: verydeep tables digits --architectures A,B --seeds 2 --width 0.25 --epochs 2 --out runs/tables
    """
    changes = read_changes(set_ or []) | ({"epochs": epochs} if epochs is not None else {})
    scales = [read_scales(text, "--train-scale") for text in train_scale or []]
    skip_damaged = skips_damaged(damaged)
    prepare_process()

    from verydeep.runs.options import ComputeOptions
    from verydeep.tables.grid import Asked, named_list, scale_bounds
    from verydeep.tables.verb import plan_and_print, run, show

    if results is not None:
        if data is not None or models is not None:
            raise UsageError("--from prints results that are there: give neither data nor models with it")
        show(results, out, as_json=as_json)
        return
    if data is None:
        raise UsageError("which data? Give a folder, or a name such as digits, or --from with results")
    if models is not None and (of_training := options_given(context, besides=_OF_TESTING)):
        raise UsageError(f"{of_training[0]} is of trainings, and --models are trained: leave one of them out")
    asked = Asked(
        data=data,
        out=out or Path("runs") / f"tables-{Path(data).name}",
        models=named_list(models, "--models") if models is not None else (),
        architectures=named_list(architectures, "--architectures"),
        train_scales=tuple(scale_bounds(scale) for scale in scales),
        seeds=seeds,
        batch_norm=batch_norm,
        width=width,
        crop=crop,
        recipe=recipe,
        changes=changes,
        split=split,
        execution=ComputeOptions(device=device, precision=precision),
        skip_damaged=skip_damaged,
        command=shlex.join(["verydeep", *sys.argv[1:]]),
    )
    check_outside(asked.out, "--out", data)
    fetch_weights(*asked.models)
    if plan:
        plan_and_print(asked, as_json=as_json)
    elif not run(asked, as_json=as_json):
        raise typer.Exit(1)


def predict(
    model: Annotated[str, typer.Argument(help="A model file, a run folder or a published name.")],
    images: Annotated[list[str], typer.Argument(help="Files, folders or patterns.")],
    top: Annotated[int, typer.Option(min=1, help="Number of classes to name.")] = 5,
    csv: Annotated[Path | None, typer.Option(help="Write a table, one line per image and rank, to this file.")] = None,
    heatmap: Annotated[
        Path | None, typer.Option(help="Write where each image shows its first class, as PNG files, to this folder.")
    ] = None,
    heatmap_scale: Annotated[
        int | None, typer.Option(help="Test scale Q of the heat maps, pixels. [that of the prediction]")
    ] = None,
    protocol: Annotated[
        str, typer.Option(help="How posteriors are computed: single, centre, multi-scale ... as for evaluate.")
    ] = "single",
    device: DeviceOption = None,
    precision: Annotated[
        str, typer.Option(help="fp32, bf16, or auto: the faster of the two, by a rule over the machine.")
    ] = "fp32",
    as_json: JsonOption = False,
) -> None:
    """Say what images show, the most likely classes first.

    Example: verydeep predict runs/digits photo.jpg more-photos/ --top 3
    """
    if heatmap_scale is not None and heatmap is None:
        raise UsageError("--heatmap-scale is of heat maps: give --heatmap with a folder for them")

    from dataclasses import replace

    from verydeep.cli.heatmap_files import HeatMapFolder
    from verydeep.cli.predict_files import find_images, write_csv
    from verydeep.cli.printed import print_predictions
    from verydeep.cli.terminal import reporting
    from verydeep.images.decode import read_image
    from verydeep.testing.classifier import Classifier
    from verydeep.weights.resolve import unfinished

    files = find_images(images)
    if csv is not None:
        check_output_file(csv, "--csv", "answers.csv")
    if heatmap is not None:
        for folder in images:
            check_outside(heatmap, "--heatmap", folder)
    prepare_process()
    fetch_weights(model)
    if note := unfinished(model):
        print(note, file=sys.stderr)
    classifier = Classifier(model, protocol=protocol, device=device, precision=precision)
    maps = None if heatmap is None else HeatMapFolder(heatmap, files, classifier, heatmap_scale)
    predictions, failed = [], 0
    with reporting() as reporter:
        for done, file in enumerate(files, start=1):
            try:
                image = read_image(file)
                prediction = replace(classifier.predict(image, top=top), file=str(file))
                if maps is not None:
                    maps.write(prediction, image, file)
                predictions.append(prediction)
            except UserError as error:
                failed += 1
                print(f"verydeep: {error}", file=sys.stderr)
            if len(files) > 1:
                reporter.progress("predicting", done, len(files))
        if maps is not None and (note := maps.note):
            reporter.note(note)
    if csv is not None and predictions:
        write_csv(predictions, csv)
    if as_json:
        records = [
            prediction.as_record() | ({} if maps is None else maps.record(prediction)) for prediction in predictions
        ]
        print_json({"images": records})
    elif predictions:
        print_predictions(predictions)
    if failed:
        raise typer.Exit(1)
