"""A test as one page: its errors, the worst mistakes, the curves and recipe of the training. No network is needed."""

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from importlib.resources import files
from pathlib import Path
from typing import Any

from verydeep.evaluation.errors import interval95
from verydeep.evaluation.result import Result
from verydeep.files import atomic_write
from verydeep.machine import now
from verydeep.report.charts import chart
from verydeep.report.report_errors import confusion_matrix, errors_by_class, percent, pictures
from verydeep.report.worst import Mistake

REPORT_FILE = "report.html"
"""Name of the report in a run folder."""

_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
"""What the page may load: nothing, from nowhere."""


@dataclass(frozen=True, kw_only=True)
class Report:
    """What a report tells.

    Attributes:
        title: which net on which data.
        result: of the test.
        selected_on: the split that the weights were selected on.
        mistakes: the worst, with pictures.
        log: lines of the log of the training; empty where there is none.
        commands: that give it again.
        facts: tables of names and values, by their titles.
    """

    title: str
    result: Result
    selected_on: str | None
    mistakes: Sequence[Mistake] = ()
    log: Sequence[Mapping[str, Any]] = ()
    commands: Sequence[str] = ()
    facts: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)


def write_report(file: Path, report: Report) -> Path:
    """Writes a report.

    Args:
        file: where.
        report: what it tells.

    Returns:
        The file.
    """
    with atomic_write(file) as temporary:
        temporary.write_text(page(report), encoding="utf-8")
    return file


def page(report: Report) -> str:
    """Writes the page of a report: one HTML document that loads nothing."""
    return document(
        report.title,
        _summary(report),
        {
            "Learning curves": _curves(report.log),
            "What the training ran into": _findings(report.log),
            "Errors by class": errors_by_class(report.result),
            "Confusion matrix": confusion_matrix(report.result),
            "The worst mistakes": pictures(report.mistakes),
            "The commands": commands(report.commands),
            **{title: facts(table) for title, table in report.facts.items() if table},
        },
        "Errors are shares of the images, in per cent; intervals hold the error on many more such images with 95% "
        "confidence (Wilson).",
    )


def document(title: str, summary: str, sections: Mapping[str, str], footer: str) -> str:
    """Writes an HTML document that loads nothing.

    Args:
        title: of the page.
        summary: HTML, at its top.
        sections: HTML by heading; empty ones are left out.
        footer: HTML, at its foot.
    """
    kept = {heading: text for heading, text in sections.items() if text}
    anchors = {heading: re.sub("[^a-z0-9]+", "-", heading.lower()) for heading in kept}
    links = "".join(f'<a href="#{anchors[heading]}">{escape(heading)}</a>' for heading in kept)
    body = "\n".join(
        f'<section id="{anchors[heading]}"><h2>{escape(heading)}</h2>\n{text}</section>'
        for heading, text in kept.items()
    )
    style = files("verydeep.report").joinpath("report.css").read_text(encoding="utf-8")
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{escape(title)}</title>'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}"><link rel="icon" href="data:,">'
        f'<meta name="viewport" content="width=device-width, initial-scale=1"><style>\n{style}</style></head>\n'
        f"<body>\n<header><h1>{escape(title)}</h1>\n{summary}\n<nav>{links}</nav></header>\n{body}\n"
        f"<footer>Written by verydeep on {escape(now())}. {footer}</footer>\n</body></html>\n"
    )


def commands(lines: Sequence[str]) -> str:
    """Commands, to be copied; empty where there are none."""
    return f"<pre>{escape(chr(10).join(lines))}</pre>" if lines else ""


def card(what: str, number: str, below: str) -> str:
    """A number that stands out, with what it is above it and more of it below."""
    return (
        f'<div class="card"><div class="what">{escape(what)}</div><div class="number">{escape(number)}</div>'
        f'<div class="what">{escape(below)}</div></div>'
    )


def _summary(report: Report) -> str:
    result = report.result
    record = result.as_record()
    count = len(result.labels)
    cards = []
    for name in ("top1_error", "top5_error"):
        if record[name] is not None:
            low, high = interval95(record[name], count)
            below = f"95% interval {100 * low:.2f} to {percent(high)}"
            cards.append(card(f"top-{name[3]} error", percent(record[name]), below))
    scales = ", ".join(map(str, record["test_scales"]))
    cards.append(card(f"{result.split} images", f"{count:,}", f"of {len(result.classes):,} classes"))
    cards.append(card("protocol", record["protocol"], f"test scale Q {scales} pixels; {result.seconds:.1f} seconds"))
    own = (
        f"The weights were selected on {escape(report.selected_on)} images"
        + (": on new images expect a higher error." if report.selected_on == result.split else ".")
        if report.selected_on
        else "Nothing was selected on them."
    )
    meaning = {
        "train": "The net learned from these images: the error on new ones is higher.",
        "val": f"Measured on validation images, which the net did not learn from. {own}",
        "test": f"Measured on test images, which the net did not learn from. {own if report.selected_on else ''}",
    }
    number = len(result.skipped)
    skipped = f" {number:,} damaged image{'s were' if number > 1 else ' was'} left out." if number else ""
    return f'<div class="cards">{"".join(cards)}</div>\n<p class="soft">{meaning[result.split]}{skipped}</p>'


def _curves(log: Sequence[Mapping[str, Any]]) -> str:
    if not log:
        return ""
    measured = "validation" if log[0].get("split", "val") == "val" else "some of these images"
    errors = {
        "training": [100 * line["train_error"] for line in log],
        f"{measured}, central crop": [100 * line["val_top1_error"] for line in log],
    }
    loss = chart("Training loss", "", {"loss": [line["loss"] for line in log]})
    return (
        '<p class="soft">The training error is that of the random crops while the net learned from them, with '
        "dropout.</p>"
        f'<div class="pair"><figure class="card"><h3>Top-1 error</h3>{chart("Top-1 error", "%", errors)}</figure>'
        f'<figure class="card"><h3>Training loss</h3>{loss}</figure></div>'
    )


def _findings(log: Sequence[Mapping[str, Any]]) -> str:
    """What the convergence doctor said, each kind once, as it said it last, with its epochs."""
    epochs: dict[str, list[int]] = {}
    last: dict[str, Mapping[str, str]] = {}
    for line in log:
        for finding in line.get("findings", ()):
            epochs.setdefault(finding["kind"], []).append(line["epoch"])
            last[finding["kind"]] = finding
    return "".join(_finding(last[kind], told) for kind, told in epochs.items())


def _finding(finding: Mapping[str, str], epochs: Sequence[int]) -> str:
    when = f"epoch {epochs[0]}" if len(epochs) == 1 else f"{len(epochs)} times, epochs {epochs[0]} to {epochs[-1]}"
    return (
        f'<div class="finding"><h3>{escape(finding["kind"].replace("-", " "))} <span class="soft">({when})</span></h3>'
        f"<p>{' '.join(sentence(finding[part]) for part in ('saw', 'means', 'helps'))}</p></div>"
    )


def sentence(text: str) -> str:
    """A line of text as a sentence of a page."""
    return escape(f"{text[:1].upper()}{text[1:]}.")


def facts(rows: Mapping[str, Any]) -> str:
    """Names and values in columns."""
    pairs = "".join(
        f"<div><dt>{escape(str(name).replace('_', ' '))}</dt><dd>{escape(_shown(value))}</dd></div>"
        for name, value in rows.items()
    )
    return f"<dl>{pairs}</dl>"


def _shown(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, str):
        return value
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {_shown(inner)}" for key, inner in value.items())
    if isinstance(value, Iterable):
        return ", ".join(map(_shown, value))
    return "-" if value is None else f"{value:.6g}" if isinstance(value, float) else json.dumps(value)
