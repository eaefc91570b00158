"""``localise``: train a localiser, measure it, and predict the boxes of objects.

Paper: appendix A.
"""

import json as json_format
import shlex
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import App, Parameter
from rich.markup import escape
from rich.table import Table

from verydeep.cli.options import (
    Damaged,
    Device,
    Json,
    Model,
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
from verydeep.cli.predict import picture_names
from verydeep.errors import UsageError, UserError
from verydeep.files import atomic_write, check_output_file, check_outside
from verydeep.localisation.options import LocaliseOptions

if TYPE_CHECKING:
    from verydeep.localisation.predict import LocalisedObject
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


def _verb(name: str, arguments: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    return localise.command(name=name, usage=f"Usage: verydeep localise {name} [OPTIONS] {arguments}".rstrip())


@_verb("train", "[DATA]")
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


@_verb("evaluate", "MODEL... DATA")
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


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class PredictOptions:
    classifier: Classifier = None
    top: int = 5
    "Number of classes to name, each with its box."
    out: Path | None = None
    "Write each picture with its boxes, names and scores to this folder."
    coco: Path | None = None
    "Write the boxes as COCO results to this file (.json)."
    test_scales: str | None = None
    "Test scales Q,Q,Q, pixels. [those tuned, else from the training scale]"
    device: Device = None
    precision: Precision = "fp32"
    damaged: Annotated[
        Literal["fail", "skip"],
        Parameter(help="What of damaged images, which are named: exit with 1 in the end, or skip and count them."),
    ] = "fail"

    def check(self) -> None:
        if self.top < 1:
            raise UsageError(f"--top {self.top}: name at least one class")
        if self.coco is not None:
            check_output_file(self.coco, "--coco", "boxes.json")
        if self.out is not None and self.out.exists() and not self.out.is_dir():
            raise UsageError(f"--out {self.out} is a file: give a folder for the pictures")


@_verb("predict", "MODEL IMAGE...")
def predict(
    model: Model,
    /,
    *images: Annotated[str, Parameter(name="IMAGE", required=True, help="Files, folders or patterns.")],
    options: PredictOptions = PredictOptions(),
    json: Json = False,
) -> int:
    """Say what images show and where: a box for each of the most likely classes.

    Example: verydeep localise predict runs/boxes photo.jpg photos/ --out overlays
    """
    options.check()
    scales = None if options.test_scales is None else read_scales(options.test_scales, "--test-scales")

    from verydeep.data.folder import find_images
    from verydeep.data.image_set import describe_skipped
    from verydeep.images.decode import DamagedImageError, naming, read_image
    from verydeep.localisation.localiser import Localiser
    from verydeep.localisation.predict import Predictor
    from verydeep.weights.resolve import unfinished

    files = find_images(images, lambda text: print(text, file=sys.stderr))
    if options.out is not None:
        for folder in images:
            check_outside(options.out, "--out", folder)
    prepare_process()
    fetch_models(model, options.classifier)
    if note := unfinished(model):
        print(note, file=sys.stderr)
    localiser = Localiser.load(model)
    predictor = Predictor(
        localiser,
        options.classifier or localiser.classifier,
        test_scales=scales,
        device=options.device,
        precision=options.precision,
    )
    pictures = _picture_files(options.out, files)
    found: dict[Path, list[LocalisedObject]] = {}
    skipped: list[str] = []
    failed = False
    with reporting() as reporter:
        for done, file in enumerate(files, start=1):
            try:
                image = read_image(file)
                with naming(str(file)):
                    found[file] = predictor.predict(image, options.top)
                if pictures:
                    _write_picture(image, found[file], pictures[file])
            except DamagedImageError as error:
                skipped.append(str(file))
                print(f"verydeep: {error}", file=sys.stderr)
            except UserError as error:
                failed = True
                print(f"verydeep: {error}", file=sys.stderr)
            if len(files) > 1:
                reporter.progress("localising", done, len(files))
        if skipped and options.damaged == "skip":
            reporter.note(describe_skipped(skipped))
    if options.coco is not None:
        _write_coco(found, options.coco)
    records = [
        {"file": str(file), "objects": [one.as_record() for one in objects]}
        | ({"picture": str(pictures[file])} if pictures else {})
        for file, objects in found.items()
    ]
    if json:
        print_json({"images": records} | ({"skipped": skipped} if options.damaged == "skip" else {}))
    elif found:
        _print_objects(found)
    return 1 if failed or (skipped and options.damaged == "fail") else 0


def _picture_files(folder: Path | None, files: Sequence[Path]) -> dict[Path, Path]:
    if folder is None:
        return {}
    if folder.resolve() in {file.resolve().parent for file in files}:
        raise UsageError(f"--out {folder} holds the images themselves: give another folder")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"--out {folder} cannot be made: {error.strerror or error}") from error
    return dict(zip(files, picture_names(folder, files), strict=True))


def _write_picture(image: Any, objects: Sequence["LocalisedObject"], file: Path) -> None:  # noqa: ANN401 - Pillow's
    from verydeep.localisation.overlay import draw_objects

    try:
        with atomic_write(file) as temporary:
            draw_objects(image, objects).save(temporary, format="PNG")
    except OSError as error:
        raise UserError(f"--out {file} cannot be written: {error.strerror or error}") from error


def _write_coco(found: dict[Path, list["LocalisedObject"]], out: Path) -> None:
    """Writes COCO results: the number in a file's name is its image's, and categories count from 1."""
    rows = [
        {
            "image_id": int(file.stem) if file.stem.isdecimal() else file.name,
            "category_id": one.index + 1,
            "bbox": [one.box[0], one.box[1], one.box[2] - one.box[0], one.box[3] - one.box[1]],
            "score": one.score,
        }
        for file, objects in found.items()
        for one in objects
    ]
    try:
        with atomic_write(out) as temporary:
            temporary.write_text(json_format.dumps(rows), encoding="utf-8")
    except OSError as error:
        raise UserError(f"--coco {out} cannot be written: {error.strerror or error}") from error


def _print_objects(found: dict[Path, list["LocalisedObject"]]) -> None:
    table = Table("image", "class", "score", "left", "top", "right", "bottom")
    for file, objects in found.items():
        for rank, one in enumerate(objects):
            edges = [f"{edge:.0f}" for edge in one.box]
            table.add_row("" if rank else escape(str(file)), escape(one.name), f"{one.score:.4f}", *edges)
    print_table(table)
