"""The page of the tables: Tables 3 to 6, the claims, curves, error against depth, gain against cost, worst mistakes."""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field
from html import escape
from pathlib import Path

from verydeep.evaluation.errors import interval95
from verydeep.evaluation.nested import Term, contrast, nested_difference
from verydeep.evaluation.result import Result
from verydeep.files import atomic_write
from verydeep.nets.architecture import ARCHITECTURES
from verydeep.report.charts import chart
from verydeep.report.report import card, commands, document, facts, sentence
from verydeep.report.report_errors import confusion_matrix, errors_by_class, pictures
from verydeep.report.scatter import Point, scatter
from verydeep.report.worst import Mistake
from verydeep.tables.claims import BY_DEPTH, Tested
from verydeep.tables.layout import LaidTable, lay_out, lay_out_claims
from verydeep.tables.results import Results
from verydeep.tables.rows import Setting, TableNet

_MOST_CURVES = 9
_QUICK = 999
"""Resamples for the intervals of a drawing."""


@dataclass(frozen=True, kw_only=True)
class Shown:
    """One net of the tables, shown in detail.

    Attributes:
        title: which, and how it was tested.
        result: of the test.
        mistakes: the worst.
    """

    title: str
    result: Result
    mistakes: Sequence[Mistake] = field(default=(), repr=False)


def write_tables_report(file: Path, results: Results, claims: Sequence[Tested], shown: Shown | None = None) -> Path:
    """Writes the page.

    Args:
        file: where.
        results: what it is drawn from.
        claims: what they say of the paper's claims.
        shown: the net shown in detail, where its posteriors are at hand.

    Returns:
        The file.
    """
    with atomic_write(file) as temporary:
        temporary.write_text(tables_page(results, claims, shown), encoding="utf-8")
    return file


def tables_page(results: Results, claims: Sequence[Tested], shown: Shown | None = None) -> str:
    """Writes the page as one HTML document that loads nothing."""
    about = results.about
    settings = [one for one in results.settings if len(one.nets) == 1]
    detail = f'<p class="soft">{escape(shown.title)}.</p>' if shown else ""
    recipe = about.get("recipe") or {}
    return document(
        f"The tables of the paper on {about['data']}",
        _summary(results, claims),
        {
            "The paper's claims": _claims(claims),
            **{laid.title: f'<p class="soft">{sentence(laid.caption)}</p>{_table(laid)}' for laid in lay_out(results)},
            "Error against depth": _depth(settings),
            "Gain against cost": _gains(settings),
            "Learning curves": _curves(results),
            "Errors by class": detail + errors_by_class(shown.result) if shown else "",
            "Confusion matrix": detail + confusion_matrix(shown.result) if shown else "",
            "The worst mistakes": detail + pictures(shown.mistakes) if shown and shown.mistakes else "",
            "The commands": commands([about["command"]] if about.get("command") else []),
            "The data": facts(
                {name: about[name] for name in ("contents", "validation", "fingerprint") if name in about}
            ),
            "The recipe": facts(recipe | {"width": about["width"]}) if recipe else "",
            "How it was computed": facts(
                about["environment"] | {"began": about["began"], "hours": about["seconds"] / 3600}
            ),
        },
        "Errors are per cent of the images: the mean over the seeds, ± their standard deviation. Intervals hold with "
        "95% confidence for other images and, where there are several seeds, other seeds. The paper's errors are "
        "those of ILSVRC-2012 with 1000 classes: compare differences, not levels.",
    )


def _summary(results: Results, claims: Sequence[Tested]) -> str:
    about = results.about
    seeds = {row.seed for row in results.rows}
    nets = {row.nets[0] for row in results.rows if len(row.nets) == 1}
    decided = sum(one.verdict == "supported" for one in claims)
    against = sum(one.verdict == "contradicted" for one in claims)
    cards = [
        card("nets", str(len(nets)), f"{len(seeds)} seed{'s' if len(seeds) > 1 else ''} each at most"),
        card(f"{about['split']} images", f"{about['num_images']:,}", f"of {len(about['classes']):,} classes"),
        card("claims supported", f"{decided} of {len(claims)}",
             f"{against} contradicted, {len(claims) - decided - against} undecided"),
    ]  # fmt: skip
    own = (
        "The weights were selected on validation images."
        if any(row.record.get("selected_on") for row in results.rows)
        else "No weights were selected by their errors: every net is that of its last epoch."
    )
    if about.get("models"):
        own = ""
    remarks = "".join(f'<p class="soft">{sentence(text)}</p>' for text in about.get("remarks", ()))
    return f'<div class="cards">{"".join(cards)}</div>\n<p class="soft">{own}</p>{remarks}'


def _table(laid: LaidTable) -> str:
    body = "".join(
        f"<tr>{''.join(_cell(laid, 'td', number, text) for number, text in enumerate(row))}</tr>" for row in laid.rows
    )
    return f'<div class="wide"><table>{_head(laid)}<tbody>{body}</tbody></table></div>'


def _head(laid: LaidTable) -> str:
    cells = "".join(_cell(laid, "th", number, name) for number, name in enumerate(laid.columns))
    return f"<thead><tr>{cells}</tr></thead>"


def _cell(laid: LaidTable, tag: str, number: int, text: str) -> str:
    kind = ' class="number"' if number >= laid.first_number else ""
    return f"<{tag}{kind}>{escape(text)}</{tag}>"


def _claims(claims: Sequence[Tested]) -> str:
    if not claims:
        return ""
    laid = lay_out_claims(claims)
    rows = []
    for one, cells in zip(claims, laid.rows, strict=True):
        pairs = "".join(
            f"<li>{escape(pair.title)}: {100 * found.difference:+.2f} "
            f"({100 * found.interval95[0]:+.2f} to {100 * found.interval95[1]:+.2f})</li>"
            for pair, found in one.pairs
        )
        detail = f"<details><summary>{escape(cells[0])}</summary><ul>{pairs}</ul></details>"
        numbers = "".join(_cell(laid, "td", number, text) for number, text in enumerate(cells) if number >= 2)
        rows.append(f'<tr><td>{detail}</td><td class="{one.verdict}">{one.verdict}</td>{numbers}</tr>')
    return (
        f'<p class="soft">{sentence(laid.caption)} A claim opens to its pairs.</p><div class="claims">'
        f"<table>{_head(laid)}<tbody>{''.join(rows)}</tbody></table></div>"
    )


def _interval(setting: Setting) -> tuple[float, float]:
    if len(setting.rows) == 1:
        return interval95(setting.errors()[0], len(setting.rows[0].wrong))
    return nested_difference([Term(1.0, setting.wrong().astype(float))], resamples=_QUICK).interval95


def _depth(settings: Sequence[Setting]) -> str:
    """Error of the dense test at one scale against the number of weight layers, a line for each training scale."""
    series: dict[str, list[Point]] = {}
    for one in (one for one in settings if one.protocol == "single"):
        net = one.nets[0]
        low, high = _interval(one)
        error = statistics.mean(one.errors())
        depth = ARCHITECTURES[net.architecture].weight_layers
        name = f"{one.title}: {100 * error:.2f}% ({100 * low:.2f} to {100 * high:.2f})"
        line = "" if net.architecture in BY_DEPTH else f"{net.name}, "
        series.setdefault(f"{line}S = {net.shown_scale}", []).append(
            Point(depth, 100 * error, 100 * low, 100 * high, name)
        )
    depths = {point.x: f"{point.x:g}" for line in series.values() for point in line}
    if len(depths) < 2:
        return ""
    lines = {name: sorted(line, key=lambda point: point.x) for name, line in series.items()}
    drawing = scatter("Error against depth", "%", "weight layers", lines, marks=dict(sorted(depths.items())))
    return (
        '<p class="soft">Top-1 error by protocol single, with its 95% interval; lines join A, B, D and E.</p>'
        f'<figure class="card drawing">{drawing}</figure>'
    )


def _gains(settings: Sequence[Setting]) -> str:
    """What each protocol gains on the central crop, against its work, a line for each net."""
    series: dict[str, list[Point]] = {}
    marks: dict[float, str] = {}
    for centre in (one for one in settings if one.protocol == "centre"):
        base = centre.rows[0].record["macs"]
        for one in (one for one in settings if one.nets == centre.nets and one.seeds == centre.seeds and base):
            cost = one.rows[0].record["macs"] / base
            found = nested_difference(contrast(centre.wrong(), one.wrong(), same_nets=True), resamples=_QUICK)
            low, high = (-100 * bound for bound in reversed(found.interval95))
            gain = -100 * found.difference
            name = f"{one.title}: {gain:+.2f} points ({low:+.2f} to {high:+.2f}) at {cost:.3g} times the work"
            series.setdefault(centre.nets[0].title, []).append(Point(cost, gain, low, high, name))
            marks.setdefault(cost, "")
    if not any(len(line) > 1 for line in series.values()):
        return ""
    shown = {name: sorted(line, key=lambda point: point.x) for name, line in list(series.items())[:_MOST_CURVES]}
    ticks = {number: f"{number:g}x" for number in (1.0, 3.0, 10.0, 30.0, 100.0) if number <= 1.5 * max(marks)}
    drawing = scatter(
        "Gain against cost", "", "work, as a multiple of the central crop's", shown, marks=ticks, logarithmic=True
    )
    return (
        '<p class="soft">Points of top-1 error that a protocol gains on the central crop, with 95% intervals, against '
        "its multiplications: from left to right central crop, single, multi-scale and, of nets trained with scale "
        "jitter, multi-crop and both.</p>"
        f'<figure class="card drawing">{drawing}</figure>'
    )


def _curves(results: Results) -> str:
    """Validation errors over the epochs, the mean over the seeds."""
    by_net: dict[str, list[list[float]]] = {}
    for training in results.trainings:
        name = TableNet.model_validate(training["net"]).title
        by_net.setdefault(name, []).append([100 * line["val_top1_error"] for line in training["log"]])
    if not by_net:
        return ""
    curves = {
        name: [statistics.mean(values) for values in zip(*lines, strict=False)]
        for name, lines in list(by_net.items())[:_MOST_CURVES]
    }
    more = f" The first {_MOST_CURVES} of {len(by_net)} nets." if len(by_net) > _MOST_CURVES else ""
    return (
        '<p class="soft">Top-1 error on the validation images by the central crop, after each epoch, the mean over the '
        f'seeds.{more}</p><figure class="card drawing">{chart("Validation error", "%", curves)}</figure>'
    )
