"""``cache``: what lies in the cache, with sizes, and the removal of one thing."""

from typing import Annotated

from cyclopts import Parameter
from rich.markup import escape
from rich.table import Table

from verydeep.cli.options import Json
from verydeep.cli.output import print_json, print_table
from verydeep.cli.plain import print
from verydeep.errors import printable
from verydeep.files import cache_folder, format_bytes


def cache(
    *,
    clear: Annotated[str | None, Parameter(help="Remove this from the cache: a name of the list.")] = None,
    json: Json = False,
) -> None:
    """List what lies in the cache, with sizes, or remove one thing from it.

    It is $VERYDEEP_CACHE, or verydeep in the user's cache. What is there can be fetched again.

    Example: verydeep cache
    """
    from verydeep.data.archives import data_folder
    from verydeep.runs.cache import clear as clear_one
    from verydeep.runs.cache import list_cache

    cleared = None if clear is None else clear_one(clear)
    entries = list_cache()
    total = sum(entry.size for entry in entries)
    if json:
        print_json(
            {
                "folder": str(cache_folder()),
                "bytes": total,
                "entries": [entry.as_record() for entry in entries],
                "cleared": None if cleared is None else cleared.as_record(),
            }
        )
    elif cleared is not None:
        print(f"removed {cleared.name} ({format_bytes(cleared.size)}); {format_bytes(total)} are left")
    else:
        table = Table("name", "size", "file")
        for entry in entries:
            note = " (not verydeep's)" if entry.kind == "other" else ""
            table.add_row(
                escape(printable(entry.name)), format_bytes(entry.size), escape(printable(str(entry.path))) + note
            )
        if entries:
            print_table(table)
        print(f"{format_bytes(total)} in {cache_folder()}. Remove one with: verydeep cache --clear NAME")
        if not data_folder().is_relative_to(cache_folder()):
            print(f"Data sets lie in {data_folder()} (VERYDEEP_DATA), which is not of the cache.")
