"""Opens DATA: a folder, a CSV, shards, or a name becomes a data set."""

from pathlib import Path

from verydeep.data.dataset import DataSet
from verydeep.data.folder import open_folder
from verydeep.errors import UserError
from verydeep.progress import Progress, ignore_progress


def open_data(data: str | Path, progress: Progress = ignore_progress) -> DataSet:
    """Opens a data set.

    Args:
        data: a name; a folder: class folders, or train/ val/ test/ with class folders in them; a CSV with the columns
            file and label, and where wanted split and group; or WebDataset shards: the folder or URL of an index, or a
            pattern such as ``x-{000..009}.tar``.
        progress: receives the number of shards listed, where they have no index.

    Raises:
        UserError: there is no such data set, or what it names does not make one.
    """
    from verydeep.data.named import BUILT_IN, NAMED, find_named, open_named  # not imported for predict: 20 ms
    from verydeep.data.shards.dataset import is_shards, open_shards
    from verydeep.data.table import is_table, open_table

    name, path = str(data), Path(data)
    if is_shards(name):
        return open_shards(name, progress)
    if path.is_dir():
        return open_folder(path)
    if is_table(path):
        return open_table(path)
    if name in BUILT_IN:
        return BUILT_IN[name]()
    if row := find_named(name):
        return open_named(row)
    what = f"{path} is a file" if path.is_file() else f"no data {name!r}"
    names = ", ".join([*BUILT_IN, *NAMED])
    raise UserError(
        f"{what}: give a folder of class folders, a CSV, WebDataset shards (x-{{000..009}}.tar), or a name ({names})"
    )
