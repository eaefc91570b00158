"""``predict``: ranked classes of images, as a table, CSV or JSON, with heat maps."""

import csv
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import Parameter
from rich.markup import escape
from rich.table import Table

from verydeep.cli.options import Device, Json, Model, Precision, Ray, RayWorkers, prepare_process
from verydeep.cli.output import fetch_models, print_json, print_table, reporting
from verydeep.cli.plain import print
from verydeep.cli.ray import write_predictions
from verydeep.errors import UsageError, UserError
from verydeep.files import atomic_write, check_output_file, check_outside
from verydeep.paper.constants import TOTAL_STRIDE

if TYPE_CHECKING:
    from PIL import Image

    from verydeep.testing.classifier import Classifier, Prediction, ScoreMap


_FEW_POSITIONS = 6
"""Along the shorter side: with fewer a map shows little of where a class is."""


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class PredictOptions:
    top: int = 5
    "Number of classes to name."
    csv: Path | None = None
    "Write a table, one line per image and rank, to this file."
    sort_into: Path | None = None
    "Link or copy each image into a folder for its class in this folder."
    unsure: float | None = None
    "With --sort-into: images whose first class has a posterior below this go into the folder unsure."
    heatmap: Path | None = None
    "Write where each image shows its first class, as PNG files, to this folder."
    heatmap_scale: int | None = None
    "Test scale Q of the heat maps, pixels. [that of the prediction]"
    ray: Ray = None
    ray_workers: RayWorkers = None
    out: Path | None = None
    "With --ray: write classes and posteriors to this file (.parquet)."
    protocol: str = "single"
    "How posteriors are computed: single, centre, multi-scale ... as for evaluate."
    device: Device = None
    damaged: Annotated[
        Literal["fail", "skip"],
        Parameter(help="What of damaged images, which are named: exit with 1 in the end, or skip and count them."),
    ] = "fail"
    precision: Precision = "fp32"

    def check(self) -> None:
        if self.top < 1:
            raise UsageError(f"--top {self.top}: name at least one class")
        if self.heatmap_scale is not None and self.heatmap is None:
            raise UsageError("--heatmap-scale is of heat maps: give --heatmap with a folder for them")
        if self.unsure is not None and self.sort_into is None:
            raise UsageError("--unsure is of sorted images: give --sort-into with a folder for them")
        if self.unsure is not None and not 0 < self.unsure <= 1:
            raise UsageError(f"--unsure {self.unsure:g}: give a posterior above 0 and at most 1, such as 0.8")
        if self.sort_into is not None and self.sort_into.exists() and not self.sort_into.is_dir():
            raise UsageError(f"--sort-into {self.sort_into} is a file: give a folder")
        if self.csv is not None:
            check_output_file(self.csv, "--csv", "answers.csv")
        if (self.ray is None) != (self.out is None) or (self.ray is None and self.ray_workers is not None):
            raise UsageError("--ray and --out FILE.parquet go together: give both, or write a table by --csv")
        if self.out is not None:
            check_output_file(self.out, "--out", "answers.parquet")
            if self.csv is not None or self.heatmap is not None:
                raise UsageError("--ray writes one parquet file: leave --csv and --heatmap out")


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

    from verydeep.data.folder import find_images
    from verydeep.data.image_set import describe_skipped
    from verydeep.data.sorting import SortedFolder
    from verydeep.images.decode import MANY_BITS, DamagedImageError, has_many_bits, naming, read_image
    from verydeep.testing.classifier import Classifier
    from verydeep.weights.resolve import unfinished

    files = find_images(images, lambda text: print(text, file=sys.stderr))
    for option, out in (("--heatmap", options.heatmap), ("--sort-into", options.sort_into)):
        for folder in images:
            if out is not None:
                check_outside(out, option, folder)
    prepare_process()
    fetch_models(model)
    if note := unfinished(model):
        print(note, file=sys.stderr)
    if options.ray is not None and options.out is not None:
        chosen = {key: getattr(options, key) for key in ("top", "device", "protocol", "precision")}
        return write_predictions(options.ray, options.ray_workers, model, files, options.out, json=json, **chosen)
    classifier = Classifier(model, protocol=options.protocol, device=options.device, precision=options.precision)
    map_files: dict[Path, Path] = {}
    if options.heatmap is not None:
        map_files = _heatmap_files(options.heatmap, files, classifier, options.heatmap_scale)
    sorted_folder = None
    if options.sort_into is not None:
        sorted_folder = SortedFolder(options.sort_into, classifier.classes, options.unsure)
    predictions: list[Prediction] = []
    records: list[dict[str, Any]] = []
    skipped: list[str] = []
    failed, deep = False, 0
    with reporting() as reporter:
        for done, file in enumerate(files, start=1):
            try:
                image = read_image(file)
                deep += has_many_bits(file)
                with naming(str(file)):
                    prediction = replace(classifier.predict(image, top=options.top), file=str(file))
                record = prediction.as_record()
                if options.heatmap is not None:
                    scores = _score_map(classifier, prediction, image, options.heatmap_scale)
                    record["heatmap"] = _write_heatmap(scores, prediction.classes[0].index, image, map_files[file])
                if sorted_folder is not None:
                    first = prediction.classes[0]
                    record["sorted_into"] = str(sorted_folder.put(file, first.index, first.posterior))
                predictions.append(prediction)
                records.append(record)
            except DamagedImageError as error:
                skipped.append(str(file))
                print(f"verydeep: {error}", file=sys.stderr)
            except UserError as error:
                failed = True
                print(f"verydeep: {error}", file=sys.stderr)
            if len(files) > 1:
                reporter.progress("predicting", done, len(files))
        if options.heatmap is not None and (
            note := _note_on_few_positions(records, classifier.net.geometry.smallest_side)
        ):
            reporter.note(note)
        if sorted_folder is not None and records:
            reporter.note(_describe_sorted(sorted_folder.folder, [Path(one["sorted_into"]) for one in records]))
        if deep:
            reporter.note(f"{deep:,} of the images have more than 8 bits a channel, {MANY_BITS}")
        if skipped and options.damaged == "skip":
            reporter.note(describe_skipped(skipped))
    if options.csv is not None and predictions:
        _write_csv(predictions, options.csv)
    if json:
        print_json({"images": records} | ({"skipped": skipped} if options.damaged == "skip" else {}))
    elif predictions:
        _print(predictions)
    return 1 if failed or (skipped and options.damaged == "fail") else 0


def _describe_sorted(folder: Path, files: Sequence[Path]) -> str:
    counts = Counter(file.parent.name for file in files)
    return f"{folder}: " + ", ".join(f"{count:,} {name}" for name, count in sorted(counts.items()))


def _heatmap_files(
    folder: Path, images: Sequence[Path], classifier: "Classifier", test_scale: int | None
) -> dict[Path, Path]:
    """Checks that heat maps can be made, makes their folder, and names the file of each image's."""
    from verydeep.testing.protocols import check_scales

    if classifier.transferred is not None:
        raise UsageError(
            f"--heatmap: {classifier.transferred.folder} classifies descriptors and has no score map: transfer with "
            "one net at one scale writes a model that has one"
        )
    protocol = classifier.test.protocol
    if test_scale is not None:
        check_scales(classifier.net, [test_scale])
    elif protocol.rounds_up or not any(method.is_dense for method in protocol.methods):
        raise UsageError(
            f"--heatmap: protocol {protocol.name} has no score map: give --heatmap-scale, or --protocol single"
        )
    if folder.resolve() in {image.resolve().parent for image in images}:
        raise UsageError(f"--heatmap {folder} holds the images themselves: give another folder")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"--heatmap {folder} cannot be made: {error.strerror or error}") from error
    return dict(zip(images, picture_names(folder, images), strict=True))


def picture_names(folder: Path, images: Sequence[Path]) -> list[Path]:
    """Images of the same name get -2, -3 ... after it."""
    taken: set[str] = set()
    files = []
    for image in images:
        name, number = image.stem, 1
        while name in taken:
            number += 1
            name = f"{image.stem}-{number}"
        taken.add(name)
        files.append(folder / f"{name}.png")
    return files


def _score_map(
    classifier: "Classifier", prediction: "Prediction", image: "Image.Image", test_scale: int | None
) -> "ScoreMap":
    """The map that the posteriors come from, or one at another test scale."""
    from numpy import asarray

    from verydeep.testing.classifier import score_map_at

    if test_scale is None:
        assert prediction.score_map is not None
        return prediction.score_map
    try:
        return score_map_at(classifier.backend, asarray(image), test_scale)
    except UserError as error:
        raise UserError(f"{prediction.file}: {error}") from error


def _write_heatmap(scores: "ScoreMap", index: int, image: "Image.Image", file: Path) -> dict[str, Any]:
    """Writes the map of one class over its image, and returns its record for JSON."""
    from verydeep.runs.evaluation_report import heat_map

    map_ = heat_map(scores, index)
    try:
        with atomic_write(file) as temporary:
            map_.over(image).save(temporary, format="PNG")
    except OSError as error:
        raise UserError(f"--heatmap {file} cannot be written: {error.strerror or error}") from error
    return {
        "file": str(file),
        "test_scale": scores.test_scale,
        "positions": list(map_.scores.shape),
        "lowest": float(map_.scores.min()),
        "highest": float(map_.scores.max()),
    }


def _note_on_few_positions(records: Sequence[dict[str, Any]], smallest_side: int) -> str | None:
    few = [record for record in records if min(record["heatmap"]["positions"]) < _FEW_POSITIONS]
    if not few:
        return None
    more = f" (and {len(few) - 1} more)" if len(few) > 1 else ""
    rows, columns = few[0]["heatmap"]["positions"]
    scale = smallest_side + TOTAL_STRIDE * (_FEW_POSITIONS - 1)
    return (
        f"{few[0]['file']}{more}: at this test scale the score map has {rows}x{columns} positions, and the heat map "
        f"shows little of where the class is: give --heatmap-scale {scale} for {_FEW_POSITIONS} positions along the "
        "shorter side"
    )


def _print(predictions: Sequence["Prediction"]) -> None:
    table = Table("image", "class", "posterior")
    for prediction in predictions:
        for rank, ranked in enumerate(prediction.classes):
            table.add_row("" if rank else escape(prediction.file), escape(ranked.name), f"{ranked.posterior:.4f}")
    print_table(table)


def _write_csv(predictions: Sequence["Prediction"], file: Path) -> None:
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
