"""``predict``: ranked classes of images, as a table, CSV or JSON, with heat maps."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter
from rich.markup import escape
from rich.table import Table

from verydeep.cli.options import Json, Model, prepare_process
from verydeep.cli.output import fetch_models, print_json, print_table, reporting
from verydeep.errors import UsageError, UserError
from verydeep.files import check_output_file, check_outside

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
    "Test scale Q of the heat maps, pixels. [twice the net's]"
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

    from verydeep.report.heatmap import HeatMapFolder, single_place_note
    from verydeep.testing.classifier import Classifier, find_images, write_csv
    from verydeep.weights.resolve import unfinished

    files = find_images(images)
    if options.heatmap is not None:
        for folder in images:
            check_outside(options.heatmap, "--heatmap", folder)
    prepare_process()
    fetch_models(model)
    if note := unfinished(model):
        print(note, file=sys.stderr)
    classifier = Classifier(model, precision=options.precision)
    maps = None
    if options.heatmap is not None:
        maps = HeatMapFolder(options.heatmap, files, classifier.net, options.heatmap_scale)
    predictions, num_failed = [], 0
    with reporting() as reporter:
        for done, file in enumerate(files, start=1):
            try:
                prediction = classifier.predict(file, top=options.top)
                predictions.append(prediction if maps is None else maps.add_to(prediction, file))
            except UserError as error:
                num_failed += 1
                print(f"verydeep: {error}", file=sys.stderr)
            if len(files) > 1:
                reporter.progress("predicting", done, len(files))
        if note := single_place_note(predictions, classifier.net):
            reporter.note(note)
    if options.csv is not None and predictions:
        write_csv(predictions, options.csv)
    if json:
        print_json({"images": [prediction.as_record() for prediction in predictions]})
    elif predictions:
        _print(predictions)
    return 1 if num_failed else 0


def _print(predictions: Sequence["Prediction"]) -> None:
    table = Table("image", "class", "posterior")
    for prediction in predictions:
        for rank, ranked in enumerate(prediction.classes):
            table.add_row("" if rank else escape(prediction.file), escape(ranked.name), f"{ranked.posterior:.4f}")
    print_table(table)
