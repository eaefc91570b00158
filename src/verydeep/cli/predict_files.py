"""The files that ``verydeep predict`` reads and writes."""

import csv
import glob
from collections.abc import Iterable, Sequence
from pathlib import Path

from verydeep.data.folder import natural_key
from verydeep.errors import UserError
from verydeep.files import atomic_write
from verydeep.images.decode import is_image_file
from verydeep.testing.classifier import Prediction


def find_images(arguments: Iterable[str]) -> list[Path]:
    """Finds the image files that files, folders and patterns name.

    Raises:
        UserError: one of them names no image.
    """
    found: list[Path] = []
    for argument in arguments:
        path = Path(argument)
        if path.is_dir():
            inside = sorted(
                (file for file in path.rglob("*") if is_image_file(file)), key=lambda f: natural_key(str(f))
            )
            if not inside:
                raise UserError(f"no images in {path}")
            found += inside
        elif path.exists() or not glob.has_magic(argument):
            found.append(path)
        else:
            matches = sorted(glob.glob(argument, recursive=True), key=natural_key)  # noqa: PTH207 - also absolute patterns
            if not matches:
                raise UserError(f"no files match {argument!r}")
            found += [Path(match) for match in matches]
    return found


def write_csv(predictions: Sequence[Prediction], file: Path) -> None:
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
