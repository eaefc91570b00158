"""The command line of data: public sets by name, shards, and what is wrong with a set.

torch is imported inside the verbs that need it, as in the command line itself.
"""

from pathlib import Path
from typing import Annotated

import typer

from verydeep.cli.json_answer import JsonOption, print_json
from verydeep.cli.options import DATA_HELP, DamagedOption, skips_damaged


def fetch(
    names: Annotated[
        list[str] | None, typer.Argument(metavar="NAME", help="Public data sets; without a name they are listed.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Download public data sets by name, check and unpack them, so that they can stand where a folder does.

    They lie in $VERYDEEP_DATA, or else in the user's cache. Nothing else downloads them.

    Example: verydeep fetch cifar10
    """
    from verydeep.cli.printed import print_fetched, print_named_sets
    from verydeep.cli.terminal import reporting
    from verydeep.data.archives import data_folder
    from verydeep.data.dataset import describe
    from verydeep.data.named import NAMED, known
    from verydeep.data.named import fetch as fetch_one

    rows = [known(name) for name in names] if names else list(NAMED.values())
    for row in rows if names else ():
        with reporting() as reporter:
            data = fetch_one(row.name, progress=reporter.progress)
        if not as_json:
            print_fetched(row, describe(data))
    if as_json:
        print_json({"folder": str(data_folder()), "sets": [row.as_record() for row in rows]})
    elif not names:
        print_named_sets(rows, data_folder())


def shards(
    data: Annotated[str, typer.Argument(help=DATA_HELP)],
    out: Annotated[Path, typer.Argument(help="A new folder.")],
    size: Annotated[str, typer.Option(help="Bytes of a shard at most; K, M and G are powers of 1,024.")] = "512M",
    damaged: DamagedOption = "fail",
    as_json: JsonOption = False,
) -> None:
    """Write WebDataset shards with an index; train and evaluate take them as DATA, from disk or http(s).

    Example: verydeep shards digits shards/digits
    """
    skip_damaged = skips_damaged(damaged)

    from verydeep.cli.printed import print_shards
    from verydeep.cli.terminal import reporting
    from verydeep.data.image_set import describe_skipped
    from verydeep.data.shard_writer import write_shards

    with reporting() as reporter:
        written = write_shards(data, out, size=size, skip_damaged=skip_damaged, progress=reporter.progress)
        if written.skipped:
            reporter.note(describe_skipped(written.skipped))
    if as_json:
        print_json(written.as_record())
    else:
        print_shards(written)


def doctor(
    data: Annotated[str, typer.Argument(help="A folder: class folders, or train/ val/ test/, or only images.")],
    as_json: JsonOption = False,
) -> None:
    """Say what is wrong with a data set, before it costs a night; exit with 1 if something is fatal.

    Example: verydeep doctor photos
    """
    from verydeep.cli.terminal import reporting
    from verydeep.data.doctor import examine

    with reporting() as reporter:
        diagnosis = examine(data, reporter.progress)
    if as_json:
        print_json(diagnosis.as_record())
    else:
        from verydeep.cli.printed import print_diagnosis

        print_diagnosis(diagnosis)
    if diagnosis.is_fatal:
        raise typer.Exit(1)
