"""``fetch``, ``shards`` and ``doctor``: public data sets by name, shards, and what is wrong with a data set."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter
from rich.markup import escape
from rich.table import Table

from verydeep.cli.options import Damaged, Data, Json
from verydeep.cli.output import print_json, print_table, reporting
from verydeep.cli.plain import print
from verydeep.files import format_bytes

if TYPE_CHECKING:
    from verydeep.data.doctor import Diagnosis
    from verydeep.data.named import NamedSet
    from verydeep.data.shard_writer import Written


def fetch(
    *names: Annotated[str, Parameter(name="NAME", help="Public data sets; without a name they are listed.")],
    json: Json = False,
) -> None:
    """Download public data sets by name, check and unpack them, so that they can stand where a folder does.

    They lie in $VERYDEEP_DATA, or else in the user's cache. Nothing else downloads them.

    Example: verydeep fetch cifar10
    """
    from verydeep.data.archives import data_folder
    from verydeep.data.dataset import describe
    from verydeep.data.multi_label import describe_multi_label, open_multi_label
    from verydeep.data.named import NAMED, fetch_named, known, open_named

    rows = [known(name) for name in names] if names else list(NAMED.values())
    for row in rows if names else ():
        with reporting() as reporter:
            fetch_named(row.name, progress=reporter.progress)
        several = open_multi_label(row.name) if row.multi_label else None
        described = describe_multi_label(several) if several else describe(open_named(row))
        if not json:
            _print_fetched(row, described)
    if json:
        print_json({"folder": str(data_folder()), "sets": [row.as_record() for row in rows]})
    elif not names:
        _print_named_sets(rows, data_folder())


def _print_named_sets(rows: Sequence["NamedSet"], folder: Path) -> None:
    table = Table("name", "classes", "images", "download", "here")
    table.add_column("source and licence", min_width=44, overflow="fold")
    for row in rows:
        table.add_row(
            row.name,
            f"{row.num_classes:,}",
            ", ".join(f"{count:,} {split}" for split, count in row.counts.items()),
            format_bytes(row.size),
            "yes" if row.is_here else "" if row.is_free else "by hand",
            f"{row.homepage}\n{escape(row.licence)}",
        )
    print_table(table)
    print(f"in {folder} (set VERYDEEP_DATA for another folder); digits, clothes and shapes come with the package")


def _print_fetched(row: "NamedSet", description: str) -> None:
    print(f"{description}, in {row.folder}")
    print(f"licence: {row.licence} ({row.homepage}). Next:")
    print(f"  verydeep transfer vgg16-features {row.name}" if row.multi_label else f"  verydeep train {row.name}")


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class ShardsOptions:
    size: str = "512M"
    "Bytes of a shard at most; K, M and G are powers of 1,024."
    damaged: Damaged = "fail"


def shards(
    data: Data,
    /,
    out: Annotated[Path, Parameter(help="A new folder; with --out or without.")],
    *,
    options: ShardsOptions = ShardsOptions(),
    json: Json = False,
) -> None:
    """Write WebDataset shards with an index, to be read from disk, http(s), s3, gs, az or hf.

    Example: verydeep shards digits shards/digits
    """
    from verydeep.data.image_set import describe_skipped
    from verydeep.data.shard_writer import write_shards

    with reporting() as reporter:
        skip = options.damaged == "skip"
        written = write_shards(
            data, out, size=options.size, skip_damaged=skip, progress=reporter.progress, note=reporter.note
        )
        if written.skipped:
            reporter.note(describe_skipped(written.skipped))
    if json:
        print_json(written.as_record())
    else:
        _print_shards(written)


def _print_shards(written: "Written") -> None:
    counts = ", ".join(
        f"{number:,} {split} images in {written.shards[split]} shard{'s' if written.shards[split] > 1 else ''}"
        for split, number in written.images.items()
    )
    print(f"{written.out}: {counts}, {written.bytes / 1e6:,.1f} MB, and {written.index}. Next:")
    print(f"  verydeep train {written.out}")


def doctor(
    data: Annotated[
        str,
        Parameter(
            name="DATA",
            help="A folder: class folders, or train/ val/ test/, or only images; or a CSV. Or data with boxes (Pascal "
            "VOC, COCO, YOLO, LabelMe, CSV).",
        ),
    ],
    /,
    *,
    json: Json = False,
) -> int:
    """Say what is wrong with a data set, before it costs a night; exit with 1 if something is fatal.

    Example: verydeep doctor photos
    """
    from verydeep.data.doctor import examine

    with reporting() as reporter:
        diagnosis = examine(data, reporter.progress)
    if json:
        print_json(diagnosis.as_record())
    else:
        _print_diagnosis(diagnosis)
    return 1 if diagnosis.is_fatal else 0


def _print_diagnosis(diagnosis: "Diagnosis") -> None:
    splits = ", ".join(f"{number:,} {split}" for split, number in diagnosis.splits.items())
    num_classes = len(diagnosis.classes)
    classes = f"{num_classes} class{'es' if num_classes > 1 else ''}, " if num_classes else ""
    print(f"{diagnosis.data}: {classes}{splits} images" if splits else f"{diagnosis.data} cannot be opened")
    if not diagnosis.findings:
        print("Nothing was found.")
        return
    table = Table("severity", "kind", "files", "what was found, and the remedy", show_lines=True)
    for finding in diagnosis.findings:
        few = ", ".join(finding.files[:3]) + (", ..." if len(finding.files) > 3 else "")
        text = [f"{finding.message}.", *([few] if few else []), f"Remedy: {finding.remedy}."]
        number = f"{len(finding.files):,}" if finding.files else "-"
        table.add_row(finding.severity, finding.kind, number, escape("\n".join(_on_one_line(line) for line in text)))
    print_table(table)
    if diagnosis.is_fatal:
        print("Mend what is fatal before you train.")


def _on_one_line(text: str) -> str:
    """Makes a line with names of files safe to print, whatever bytes they have."""
    return "".join(letter if letter.isprintable() else "?" for letter in text)
