"""``localise predict``: the boxes of objects, in a table, as COCO results and on pictures.

Paper: appendix A.
"""

import json as json_format
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import Parameter
from rich.markup import escape
from rich.table import Table

from verydeep.cli.localise import Classifier
from verydeep.cli.options import (
    Device,
    Json,
    Model,
    Precision,
    prepare_process,
    read_scales,
)
from verydeep.cli.output import (
    fetch_models,
    print_json,
    print_table,
    reporting,
)
from verydeep.cli.plain import print
from verydeep.cli.predict import picture_names
from verydeep.errors import UsageError, UserError
from verydeep.files import atomic_write, check_output_file, check_outside

if TYPE_CHECKING:
    from verydeep.localisation.predict import LocalisedObject


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
