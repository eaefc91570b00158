"""``predict``: ranked classes of images, as a table, CSV or JSON, with heat maps."""

import csv
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter
from rich.markup import escape
from rich.table import Table

from verydeep.cli.options import Device, Json, Model, prepare_process
from verydeep.cli.output import fetch_models, print_json, print_table, reporting
from verydeep.errors import UsageError, UserError
from verydeep.files import atomic_write, check_output_file, check_outside

if TYPE_CHECKING:
    from verydeep.testing.classifier import Prediction


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class PredictOptions:
    """The options of ``predict``."""

    top: int = 5
    "Number of classes to name."
    csv: Path | None = None
    "Write a table, one line per image and rank, to this file."
    heatmap: Path | None = None
    "Write where each image shows its first class, as PNG files, to this folder."
    heatmap_scale: int | None = None
    "Test scale Q of the heat maps, pixels. [that of the prediction]"
    protocol: str = "single"
    "How posteriors are computed: single, centre, multi-scale ... as for evaluate."
    device: Device = None
    precision: str = "fp32"
    "fp32, bf16, or auto: the faster of the two, by a rule over the machine."

    def check(self) -> None:
        """Raises UsageError where an option cannot be right."""
        if self.top < 1:
            raise UsageError(f"--top {self.top}: name at least one class")
        if self.heatmap_scale is not None and self.heatmap is None:
            raise UsageError("--heatmap-scale is of heat maps: give --heatmap with a folder for them")
        if self.csv is not None:
            check_output_file(self.csv, "--csv", "answers.csv")


def predict(
    model: Model,
    /,
    *images: Annotated[str, Parameter(name="IMAGE", required=True, help="Files, folders or patterns.")],
    options: PredictOptions = PredictOptions(),
    json: Json = False,
) -> int:
    """Say what images show, the most likely classes first.

    Example: verydeep predict runs/digits photo.jpg more-photos/ --top 3
    """
    options.check()

    from verydeep.cli.heatmap_files import HeatMapFolder
    from verydeep.data.folder import find_images
    from verydeep.images.decode import read_image
    from verydeep.testing.classifier import Classifier
    from verydeep.weights.resolve import unfinished

    files = find_images(images)
    if options.heatmap is not None:
        for folder in images:
            check_outside(options.heatmap, "--heatmap", folder)
    prepare_process()
    fetch_models(model)
    if note := unfinished(model):
        print(note, file=sys.stderr)
    classifier = Classifier(model, protocol=options.protocol, device=options.device, precision=options.precision)
    maps = None
    if options.heatmap is not None:
        maps = HeatMapFolder(options.heatmap, files, classifier, options.heatmap_scale)
    predictions, num_failed = [], 0
    with reporting() as reporter:
        for done, file in enumerate(files, start=1):
            try:
                image = read_image(file)
                prediction = replace(classifier.predict(image, top=options.top), file=str(file))
                if maps is not None:
                    maps.write(prediction, image, file)
                predictions.append(prediction)
            except UserError as error:
                num_failed += 1
                print(f"verydeep: {error}", file=sys.stderr)
            if len(files) > 1:
                reporter.progress("predicting", done, len(files))
        if maps is not None and (note := maps.note):
            reporter.note(note)
    if options.csv is not None and predictions:
        _write_csv(predictions, options.csv)
    if json:
        records = [
            prediction.as_record() | ({} if maps is None else maps.record(prediction)) for prediction in predictions
        ]
        print_json({"images": records})
    elif predictions:
        _print(predictions)
    return 1 if num_failed else 0


def _print(predictions: Sequence["Prediction"]) -> None:
    table = Table("image", "class", "posterior")
    for prediction in predictions:
        for rank, ranked in enumerate(prediction.classes):
            table.add_row("" if rank else escape(prediction.file), escape(ranked.name), f"{ranked.posterior:.4f}")
    print_table(table)


def _write_csv(predictions: Sequence["Prediction"], file: Path) -> None:
    """Writes predictions as a table: one line per image and rank.

    Raises:
        UserError: the file cannot be written.
    """
    try:
        with (
            atomic_write(file) as temporary,
            temporary.open("w", newline="", encoding="utf-8", errors="backslashreplace") as lines,  # any file name
        ):
            writer = csv.writer(lines)
            writer.writerow(["file", "rank", "class", "index", "posterior"])
            for prediction in predictions:
                for rank, ranked in enumerate(prediction.classes, start=1):
                    writer.writerow([prediction.file, rank, ranked.name, ranked.index, f"{ranked.posterior:.6g}"])
    except OSError as error:
        raise UserError(f"--csv {file} cannot be written: {error.strerror or error}") from error
