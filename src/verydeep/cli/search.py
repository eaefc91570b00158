"""``search``: the images of a folder that are most like others, with a sheet of pictures."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter
from rich.markup import escape
from rich.table import Table

from verydeep.cli.options import Damaged, Device, Json, Model, Precision, prepare_process, read_scales
from verydeep.cli.output import fetch_models, print_json, print_table, reporting
from verydeep.cli.plain import print
from verydeep.errors import UsageError, UserError
from verydeep.files import atomic_write, check_output_file

if TYPE_CHECKING:
    from verydeep.transfer.search import SearchResult

_ENDINGS = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG"}


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class SearchOptions:
    top: int = 10
    "Number of similar images to name."
    out: Path | None = None
    "Write a sheet of the pictures to this file (.png or .jpg)."
    layer: str | None = None
    "Any named layer, where images are described now. [relu7 where the net has one, else pool5]"
    test_scales: str | None = None
    "Test scales Q,Q,Q, pixels, where images are described now. [the net's own; at most 160 for convolutions]"
    device: Device = None
    damaged: Damaged = "fail"
    precision: Precision = "fp32"

    def check(self) -> None:
        if self.out is not None:
            if self.out.suffix.lower() not in _ENDINGS:
                raise UsageError(f"--out {self.out}: give a name that ends in .png or .jpg")
            check_output_file(self.out, "--out", "similar.png", any_ending=True)


def search(
    model: Model,
    folder: Annotated[
        str, Parameter(name="FOLDER", help="Images at any depth of a folder, or descriptors that features wrote.")
    ],
    /,
    *images: Annotated[str, Parameter(name="IMAGE", required=True, help="Files, folders or patterns.")],
    options: SearchOptions = SearchOptions(),
    json: Json = False,
) -> None:
    """Find the images of a folder that are most like others, by the descriptors of a net.

    Example: verydeep search vgg16-features photos/ cat.jpg --out similar.png
    """
    options.check()
    scales = None if options.test_scales is None else read_scales(options.test_scales, "--test-scales")

    from verydeep.data.folder import find_images

    files = find_images(images, lambda text: print(text, file=sys.stderr))
    prepare_process()

    from verydeep.testing.descriptors import DescriptorOptions
    from verydeep.transfer import search as searching
    from verydeep.transfer.features_file import is_features_file

    if is_features_file(folder) and (options.layer or scales):
        raise UsageError(f"--layer and --test-scales are those that {folder} was made with: leave them out")
    fetch_models(model)
    with reporting() as reporter:
        results = searching.search(
            model,
            folder,
            files,
            top=options.top,
            options=DescriptorOptions(layer=options.layer, test_scales=scales),
            device=options.device,
            precision=options.precision,
            skip_damaged=options.damaged == "skip",
            progress=reporter.progress,
            note=reporter.note,
        )
    if options.out is not None:
        _write_sheet(results, options.out)
    if json:
        sheet = None if options.out is None else str(options.out)
        print_json({"images": [result.as_record() for result in results], "sheet": sheet})
    else:
        _print(results)


def _write_sheet(results: Sequence["SearchResult"], file: Path) -> None:
    from PIL import Image

    from verydeep.report.sheet import picture_sheet
    from verydeep.testing.classifier import pixels_of

    rows = [
        [
            (Image.fromarray(pixels_of(result.file)), Path(result.file).name),
            *(
                (
                    None if one.pixels is None else Image.fromarray(one.pixels()),
                    f"{one.similarity:.3f} {Path(one.file).name}",
                )
                for one in result.similar
            ),
        ]
        for result in results
    ]
    try:
        with atomic_write(file) as temporary:
            picture_sheet(rows).save(temporary, format=_ENDINGS[file.suffix.lower()])
    except OSError as error:
        raise UserError(f"--out {file} cannot be written: {error.strerror or error}") from error


def _print(results: Sequence["SearchResult"]) -> None:
    table = Table()
    for name in ("image", "similar", "cosine"):
        table.add_column(name, overflow="fold")  # no name is cut short
    for result in results:
        for rank, one in enumerate(result.similar):
            table.add_row("" if rank else escape(result.file), escape(one.file), f"{one.similarity:.4f}")
    print_table(table)
