"""Opens DATA: a folder, a CSV, shards, a name, or a data set of Python becomes a data set."""

from collections.abc import Callable, Mapping
from pathlib import Path

from verydeep.data.dataset import DataSet
from verydeep.data.folder import open_folder
from verydeep.data.sources import MapStyle
from verydeep.errors import UserError
from verydeep.progress import Progress, ignore_progress

AnyData = str | Path | DataSet | MapStyle | Mapping[str, MapStyle]
"""What ``open_data`` opens."""


def open_data(data: AnyData, progress: Progress = ignore_progress) -> DataSet:
    """Opens a data set.

    Args:
        data: a name; a folder: class folders, or train/ val/ test/ with class folders in them; a CSV with the columns
            file and label, and where wanted split and group; or WebDataset shards: the folder or URL of an index, or a
            pattern such as ``x-{000..009}.tar``. Or a map-style data set of torch or torchvision, a list of pairs
            (image, label), or several by split: ``{"train": first, "test": second}``; an image is one of Pillow, an
            array h,w,3 of uint8 or a tensor 3,h,w (uint8, or floats in 0..1), without random transforms: training
            draws its crops itself. A data set that is open is returned as it is.
        progress: receives the number of shards listed, where they have no index, or of labels read.

    Raises:
        UserError: there is no such data set, or what it names does not make one.
    """
    if isinstance(data, DataSet):
        return data
    if not isinstance(data, str | Path):
        from verydeep.data.mapped import open_mapped  # imports torch

        return open_mapped(data, progress)
    from verydeep.data.named import BUILT_IN, NAMED, find_named, open_named  # not imported for predict: 20 ms
    from verydeep.data.shards.dataset import is_shards, open_shards
    from verydeep.data.table import is_table, open_table

    name, path = str(data), Path(data)
    if is_shards(name):
        return open_shards(name, progress)
    if path.is_dir() or is_table(path):
        try:
            return open_folder(path) if path.is_dir() else open_table(path)
        except UserError:
            from verydeep.data.boxes.open import has_boxes

            if not has_boxes(path):
                raise
            raise UserError(
                f"{path} has boxes around objects, and this takes images of classes: verydeep localise train {path} "
                "learns to find the objects"
            ) from None
    if name in BUILT_IN:
        return BUILT_IN[name]()
    if row := find_named(name):
        return open_named(row)
    what = f"{path} is a file" if path.is_file() else f"no data {name!r}"
    names = ", ".join([*BUILT_IN, *NAMED])
    raise UserError(
        f"{what}: give a folder of class folders, a CSV, WebDataset shards (x-{{000..009}}.tar), or a name ({names})"
    )


def note_passed_over(data: DataSet, note: Callable[[str], None] | None) -> None:
    """Calls ``note`` with what a data set leaves out of its folder, and the remedy."""
    for message, remedy in data.passed_over:
        if note is not None:
            note(f"data: {message}; {remedy}")


def source_of(data: AnyData) -> str:
    """What a run calls its data: the name or path that opens them, or <NAME> of data that were given in Python."""
    if isinstance(data, str | Path):
        return str(data)
    return f"<{data.name if isinstance(data, DataSet) else type(data).__name__}>"
