"""Fills the pages from the package when they are built, so that no table can go stale.

``<!-- table: NAME -->`` becomes a table of the rows of the package, ``<!-- help: VERB -->`` what the verb prints with
``--help``, and ``<!-- results: NAME -->`` the tables of results/NAME.jsonl. Every file of src/verydeep or tests that a
page names is checked, and so is what is written ahead for readers of the repository.
"""

import io
import re
import runpy
from collections.abc import Callable
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.exceptions import PluginError
from mkdocs.structure.files import Files
from mkdocs.structure.pages import Page
from nets_picture import PICTURE, nets_picture
from paper_map import PAGE as MAP_PAGE
from paper_map import StaleMapError, paper_map
from paper_pages import PAPER_TABLES
from result_pages import PAGE as RESULTS_PAGE
from result_pages import RESULTS, growing_rows, result_tables, results_page
from rich.console import Console

import verydeep
from tests.strange_files import ROWS  # result_pages has put the checkout on the path
from verydeep import ARCHITECTURES, PROTOCOLS, RECIPES
from verydeep.cli.app import app
from verydeep.data.boxes.findings import BOX_KINDS
from verydeep.data.doctor.findings import KINDS
from verydeep.data.named import NAMED
from verydeep.files import format_bytes, read_lines
from verydeep.nets.architecture import Geometry, layers
from verydeep.report.plots import curves
from verydeep.tables.markdown import markdown_table
from verydeep.weights.published import PUBLISHED
from verydeep.weights.readers import READERS
from verydeep.weights.writers import TARGETS

_MARKER = re.compile(r"^<!-- (table|help|results): (\S+) -->$", re.MULTILINE)
_SOURCE = re.compile(r"`(?!tests/|benchmarks/|verydeep/)((?:[a-z]+/)*[a-z0-9_]+\.py)`")
_ELSEWHERE = re.compile(r"`(tests/(?:[a-z]+/)*test_[a-z0-9_]+\.py|benchmarks/(?:[a-z]+/)?[a-z0-9_]+\.(?:py|sh))`")


def on_pre_build(*, config: MkDocsConfig) -> None:
    """Checks that what is written ahead is what it would be if it were written now.

    Raises:
        PluginError: it is not.
    """
    written = (
        (PICTURE, nets_picture, "nets_picture.py"),
        (MAP_PAGE, paper_map, "paper_map.py"),
        (RESULTS_PAGE, results_page, "result_pages.py"),
    )
    for file, page, script in written:
        try:
            current = page()
        except StaleMapError as error:
            raise PluginError(str(error)) from error
        if not file.is_file() or file.read_text(encoding="utf-8") != current:
            raise PluginError(f"{file} is out of date: run python docs/{script}")


def on_page_markdown(markdown: str, *, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Replaces the markers of a page and checks the files it names.

    Args:
        markdown: the page as it was written.
        page: its place among the pages.
        config: of the whole documentation.
        files: all of its files.

    Returns:
        The page with its tables.

    Raises:
        PluginError: an unknown marker, or a file that does not exist.
    """
    name = page.file.src_uri
    _check_files(markdown, name, Path(config.config_file_path).parent)
    return _MARKER.sub(lambda found: _filled(found[1], found[2], name), markdown)


def _filled(kind: str, name: str, page: str) -> str:
    if kind == "help":
        return _help(name)
    if kind == "results":
        return result_tables(name)
    if name in PAPER_TABLES:
        return markdown_table(*PAPER_TABLES[name]())
    if name not in TABLES:
        raise PluginError(f"{page}: no table {name!r}: choose one of {', '.join((*TABLES, *PAPER_TABLES))}")
    return TABLES[name]()


def _check_files(markdown: str, page: str, root: Path) -> None:
    """Checks the files that a page names.

    A module is written without the package, as `nets/net.py`; a test or a benchmark in full, as
    `tests/nets/test_net.py`.
    """
    modules = [root / "src" / "verydeep" / module for module in _SOURCE.findall(markdown)]
    for file in modules + [root / file for file in _ELSEWHERE.findall(markdown)]:
        if not file.is_file():
            raise PluginError(f"{page}: {file} does not exist: name the file that took its place")


def _shown(value: object) -> str:
    """Writes the value of a field as a person would."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "-" if value is None else f"{value:g}" if isinstance(value, float) else str(value)


def _architectures() -> str:
    rows = []
    for row in ARCHITECTURES.values():
        inside = layers(Geometry(architecture=row))
        parameters, macs = sum(layer.parameters for layer in inside), sum(layer.macs for layer in inside)
        field = next(layer.receptive_field for layer in inside if layer.name == "pool5")
        rows.append(
            [
                f"`{row.name}`",
                ", ".join(f"`{alias}`" for alias in row.aliases),
                str(row.weight_layers),
                f"{parameters:,}",
                f"{macs / 1e9:.2f}",
                str(field),
                row.remark,
            ]
        )
    head = ["name", "aliases", "weight layers", "parameters", "10⁹ MACs", "receptive field at pool5, pixels", "remark"]
    return markdown_table(head, rows)


def _readers() -> str:
    return markdown_table(["kind", "files"], ([row.name, row.remark] for row in READERS.values()))


def _public_files() -> str:
    rows = runpy.run_path(str(Path(__file__).parents[1] / "tests/public_files.py"))
    read = [[part, kind, how] for part, table in rows["TABLE"].items() for kind, how in table.items()]
    refused = [["files", kind, f"refused as {what}: {remedy}"] for kind, (what, remedy) in rows["REFUSED"].items()]
    return markdown_table(["", "what", "what becomes of it"], [*read, *refused])


def _targets() -> str:
    rows = (
        [
            f"`--to {row.name}`",
            ", ".join(f"`{suffix}`" for suffix in row.suffixes),
            ", ".join(row.architectures),
            _shown(row.batch_norm),
            _shown(row.features_only),
        ]
        for row in TARGETS.values()
    )
    return markdown_table(["", "files", "architectures", "batch norm", "convolutions only"], rows)


def _recipes() -> str:
    columns = [row.as_record() for row in RECIPES.values()]
    fields = [field for field in columns[0] if field != "name"]
    rows = [[f"`{field}`", *(_shown(column[field]) for column in columns)] for field in fields]
    return markdown_table(["field", *(f"`{name}`" for name in RECIPES)], rows)


def _protocols() -> str:
    net = verydeep.VeryDeep("A", num_classes=2, initialisation=None)
    rows = [
        [f"`{row.name}`", row.remark, str(row.forward_passes(net, row.test_scales(net)))] for row in PROTOCOLS.values()
    ]
    return markdown_table(["name", "what the net sees, and what is averaged", "forward passes"], rows)


def _data_sets() -> str:
    rows = [
        [
            f"`{row.name}`",
            f"{row.num_classes:,}",
            ", ".join(f"{count:,} {split}" for split, count in row.counts.items()),
            format_bytes(row.size) + ("" if row.is_free else ", by hand"),
            row.licence,
            f"<{row.homepage}>",
        ]
        for row in NAMED.values()
    ]
    return markdown_table(["name", "classes", "images", "download", "licence", "source"], rows)


def _weights() -> str:
    rows = [
        [
            f"`{row.name}`",
            row.architecture
            + (" with batch norm" if row.batch_norm else "")
            + (", convolutions only" if row.features_only else ""),
            row.publisher,
            f"{100 * row.errors.top1_error:.2f}%, {100 * row.errors.top5_error:.2f}%" if row.errors else "-",
            row.errors.measured if row.errors else "-",
            format_bytes(row.size),
            f"{row.digest.algorithm} `{row.digest.digits[:8]}`" if row.digest else "none published",
        ]
        for row in PUBLISHED.values()
    ]
    return markdown_table(["name", "net", "publisher", "top-1, top-5 error", "measured by", "file", "hash"], rows)


def _findings() -> str:
    return markdown_table(["kind", "severity", "what it means"], [[f"`{kind}`", *row] for kind, row in KINDS.items()])


def _box_findings() -> str:
    return markdown_table(
        ["kind", "severity", "what it means"], [[f"`{kind}`", *row] for kind, row in BOX_KINDS.items()]
    )


def _files() -> str:
    return markdown_table(["kind", "how it is read, or why not"], [[row.what, row.says] for row in ROWS])


def _names() -> str:
    return ", ".join(f"`verydeep.{name}`" for name in sorted(verydeep.__all__, key=str.casefold)) + "."


def _growing() -> str:
    """The nets of benchmarks/growing.py, and their curves."""
    lines = read_lines(RESULTS / "growing.jsonl")
    errors = {
        run: [100 * line["val_top1_error"] for line in lines if line["run"] == run and line["seed"] == 0]
        for run in dict.fromkeys(line["run"] for line in lines)
    }
    return f"{markdown_table(*growing_rows())}\n\n{curves('Validation error, %, seed 0', '%', errors)}\n"


TABLES: dict[str, Callable[[], str]] = {
    "architectures": _architectures,
    "recipes": _recipes,
    "protocols": _protocols,
    "data-sets": _data_sets,
    "weights": _weights,
    "readers": _readers,
    "public-files": _public_files,
    "targets": _targets,
    "names": _names,
    "growing": _growing,
    "findings": _findings,
    "box-findings": _box_findings,
    "files": _files,
}
"""The tables that a page can ask for, by name."""


def _help(verb: str) -> str:
    page = io.StringIO()
    app.help_print(verb.split("-"), console=Console(file=page, width=80))
    return f"```text\n{page.getvalue().strip()}\n```"
