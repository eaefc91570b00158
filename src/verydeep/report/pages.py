"""Pages as one HTML file each that loads nothing: a test, with its training where that is known, and the tables."""

import functools
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup
from numpy import ndarray

from verydeep.files import atomic_write
from verydeep.machine import now
from verydeep.report import plots
from verydeep.report.heatmap import colour_table
from verydeep.report.worst import WorstError

REPORT_FILE = "report.html"
"""Name of the report in a run folder."""

MOST_CLASSES = 30
"""Classes shown of data sets with more."""


@dataclass(frozen=True)
class Card:
    what: str
    number: str
    below: str


@dataclass(frozen=True)
class Section:
    """A part of a page."""

    heading: str
    kind: str  # a macro of ``sections.html``
    data: Any  # for the macro; a section without is left out

    @property
    def anchor(self) -> str:
        return re.sub("[^a-z0-9]+", "-", self.heading.lower())


@dataclass(frozen=True, kw_only=True)
class Page:
    title: str
    cards: Sequence[Card]
    remarks: Sequence[str]
    sections: Sequence[Section]
    footer: str
    renewed: int | None = None  # seconds after which a browser reads the file again; None for a page that is final


def write_page(file: Path, page: Page) -> Path:
    with atomic_write(file) as temporary:
        temporary.write_text(page_text(page), encoding="utf-8", errors="backslashreplace")  # any file name
    return file


def page_text(page: Page) -> str:
    """Writes a page as one HTML document that loads nothing."""
    kept = [section for section in page.sections if section.data]
    return _templates().get_template("page.html").render(page=page, sections=kept, now=now())


@functools.cache
def _templates() -> jinja2.Environment:
    templates = jinja2.Environment(
        loader=jinja2.PackageLoader("verydeep.report"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    stops = ", ".join(f"rgb({r} {g} {b})" for r, g, b in colour_table()[::51].tolist())
    templates.globals.update(colours=stops, error_bar=lambda *given: Markup(plots.error_bar(*given)))
    templates.filters.update(percent=percent, sentence=sentence, shown=shown)
    return templates


def percent(fraction: float) -> str:
    return f"{100 * fraction:.2f}%"


def sentence(text: str) -> str:
    return f"{text[:1].upper()}{text[1:]}."


def shown(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, str):
        return value
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {shown(inner)}" for key, inner in value.items())
    if isinstance(value, Iterable):
        return ", ".join(map(shown, value))
    return "-" if value is None else f"{value:.6g}" if isinstance(value, float) else json.dumps(value)


@dataclass(frozen=True, kw_only=True)
class Errors:
    classes: Sequence[Mapping[str, Any]]  # the worst first, with the fields of ``testing.metrics.ClassError``
    counts: ndarray = field(repr=False)  # confusion of the worst ``MOST_CLASSES``; a last column for all others
    worst: Sequence[WorstError] = ()
    remark: str = ""  # which test, on a page of several

    @property
    def sections(self) -> list[Section]:
        some = self.classes[:MOST_CLASSES]
        number, many = len(some), len(self.classes)
        which = "All classes" if number == many else f"The worst {number} of {many:,} classes"
        highest = max(row["interval"][1] for row in some)
        names = [row["name"] for row in sorted(some, key=lambda row: row["index"])]
        columns = [*names, "any other class"] if self.counts[:, -1].any() else names
        drawing = plots.confusion(names, columns, self.counts[:, : len(columns)])
        matrix = {"which": which, "drawing": Markup(drawing), "remark": self.remark}
        rows = {"which": which, "rows": some, "highest": highest, "remark": self.remark}
        return [
            Section("Errors by class", "classes", rows),
            Section("Confusion matrix", "matrix", matrix),
            Section("The worst errors", "pictures", self.worst and {"worst": self.worst, "remark": self.remark}),
        ]


def page_of_test(
    title: str,
    record: Mapping[str, Any],
    intervals: Mapping[str, tuple[float, float]],
    errors: Errors,
    *,
    log: Sequence[Mapping[str, Any]] = (),
    commands: Sequence[str] = (),
    facts: Mapping[str, Mapping[str, Any]] | None = None,
    of_training: Sequence[Section] = (),
) -> Page:
    """Lays out the page of a test.

    Args:
        title: which net on which data.
        record: with the keys of ``verydeep evaluate --json``, and ``num_classes``.
        intervals: of ``top1_error`` and ``top5_error``.
        errors: of the test.
        log: lines of the log of the training, where it is known.
        commands: that give the test again.
        facts: tables of names and values, by their titles.
        of_training: sections about the training and its images, where they are known.
    """
    split, selected_on, skipped = record["split"], record["selected_on"], len(record["skipped"])
    cards = [
        Card(
            f"top-{name[3]} error",
            percent(record[name]),
            f"95% interval {100 * low:.2f} to {percent(high)}",
        )
        for name, (low, high) in intervals.items()
    ]
    scales = ", ".join(map(str, record["test_scales"]))
    cards.append(Card(f"{split} images", f"{record['num_images']:,}", f"of {record['num_classes']:,} classes"))
    cards.append(Card("protocol", record["protocol"], f"test scale Q {scales} pixels; {record['seconds']:.1f} seconds"))
    selected = "" if split == "test" else " Nothing was selected on them."
    if selected_on:
        selected = f" The weights were selected on {selected_on} images"
        selected += ": on new images expect a higher error." if selected_on == split else "."
    meaning = {
        "train": "The net learned from these images: the error on new ones is higher.",
        "val": f"Measured on validation images, which the net did not learn from.{selected}",
        "test": f"Measured on test images, which the net did not learn from.{selected}",
    }
    if skipped:
        meaning[split] += f" {skipped:,} damaged image{'s were' if skipped > 1 else ' was'} left out."
    return Page(
        title=title,
        cards=cards,
        remarks=[meaning[split]],
        sections=[
            *sections_of_log(log),
            *errors.sections,
            *of_training,
            Section("The commands", "commands", commands),
            *(Section(heading, "facts", table) for heading, table in (facts or {}).items()),
        ],
        footer="Errors are shares of the images, in per cent; intervals hold the error on many more such images with "
        "95% confidence (Wilson).",
    )


def sections_of_log(log: Sequence[Mapping[str, Any]]) -> list[Section]:
    """The curves of a training and what it ran into, from the lines of its log."""
    return [
        Section("Learning curves", "curves", log and _curves(log)),
        Section("What the training ran into", "findings", _findings(log)),
    ]


def _curves(log: Sequence[Mapping[str, Any]]) -> dict[str, Markup]:
    measured = "validation" if log[0].get("split", "val") == "val" else "some of these images"
    errors = {
        "training": [100 * line["train_error"] for line in log],
        f"{measured}, central crop": [100 * line["val_top1_error"] for line in log],
    }
    return {
        "Top-1 error": Markup(plots.curves("Top-1 error", "%", errors)),
        "Training loss": Markup(plots.curves("Training loss", "", {"loss": [line["loss"] for line in log]})),
    }


def _findings(log: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The findings of the training's health, each kind once, as it was last reported, with its epochs."""
    epochs: dict[str, list[int]] = {}
    last: dict[str, Mapping[str, str]] = {}
    for line in log:
        for finding in line.get("findings", ()):
            epochs.setdefault(finding["kind"], []).append(line["epoch"])
            last[finding["kind"]] = finding
    return [{"finding": last[kind], "epochs": when} for kind, when in epochs.items()]
