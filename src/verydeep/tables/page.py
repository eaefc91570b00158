"""The page of the tables: Tables 3 to 6, the claims, curves, error against depth, gain against cost, worst errors."""

import statistics
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from markupsafe import Markup

from verydeep.files import format_number
from verydeep.nets.architecture import ARCHITECTURES
from verydeep.report.pages import Card, Errors, Page, Section, sentence, write_page
from verydeep.report.plots import Point, curves, points
from verydeep.tables.contrasts import BY_DEPTH
from verydeep.tables.layout import lay_out, lay_out_claims, shown_interval
from verydeep.tables.rows import TableCell, TableResults, read_net
from verydeep.tables.verdicts import ClaimResult
from verydeep.testing.metrics import interval95
from verydeep.testing.statistics import estimate

_MOST_CURVES = 9


def write_tables_page(
    file: Path, results: TableResults, claims: Sequence[ClaimResult], shown: Errors | None = None
) -> Path:
    """Writes the page, and gives its file.

    Args:
        file: where.
        results: what it is drawn from.
        claims: what they say of the paper's claims.
        shown: errors of the net shown in detail, where its posteriors are at hand.
    """
    about = results.about
    cells = [cell for cell in results.cells if len(cell.nets) == 1]
    recipe = about.get("recipe") or {}
    page = Page(
        title=f"The tables of the paper on {about['data']}",
        cards=_cards(results, claims),
        remarks=_remarks(results),
        sections=[
            Section("The paper's claims", "claims", _claims(claims)),
            *(Section(laid.title, "table", laid) for laid in lay_out(results)),
            Section("Error against depth", "drawing", _depth(cells)),
            Section("Gain against cost", "drawing", _gains(cells)),
            Section("Learning curves", "drawing", _curves(results)),
            *(shown.sections if shown else []),
            Section("The commands", "commands", [about["command"]] if about.get("command") else []),
            Section(
                "The data",
                "facts",
                {name: about[name] for name in ("contents", "validation", "fingerprint") if name in about},
            ),
            Section("The recipe", "facts", recipe and recipe | {"width": about["width"]}),
            Section(
                "How it was computed",
                "facts",
                about["environment"] | {"began": about["began"], "hours": about["seconds"] / 3600},
            ),
        ],
        footer="Errors are per cent of the images: the mean over the seeds, ± their standard deviation. Intervals hold "
        "with 95% confidence for other images and, where there are several seeds, other seeds. The paper's errors are "
        "those of ILSVRC-2012 with 1000 classes: compare differences, not levels.",
    )
    return write_page(file, page)


def _cards(results: TableResults, claims: Sequence[ClaimResult]) -> list[Card]:
    about = results.about
    seeds = {row.seed for row in results.rows}
    nets = {row.nets[0] for row in results.rows if len(row.nets) == 1}
    count = Counter(one.verdict for one in claims)
    return [
        Card("nets", str(len(nets)), f"{len(seeds)} seed{'s' if len(seeds) > 1 else ''} each at most"),
        Card(f"{about['split']} images", f"{about['num_images']:,}", f"of {len(about['classes']):,} classes"),
        Card("claims supported", f"{count['supported']} of {len(claims)}",
             f"{count['contradicted']} contradicted, {count['undecided']} undecided, "
             f"{count['untestable here']} untestable here"),
    ]  # fmt: skip


def _remarks(results: TableResults) -> list[str]:
    about = results.about
    own = (
        "The weights were selected on validation images."
        if any(row.record.get("selected_on") for row in results.rows)
        else "No weights were selected by their errors: every net is that of its last epoch."
    )
    return ["" if about.get("models") else own, *map(sentence, results.remarks)]


def _claims(claims: Sequence[ClaimResult]) -> dict[str, Any] | None:
    if not claims:
        return None
    return {"laid": lay_out_claims(claims)[0], "pairs": [_parts(one) for one in claims]}


def _parts(claim: ClaimResult) -> list[str]:
    """The parts of a claim with their intervals, and the pairs that they are made of."""
    lines = []
    for one in claim.parts:
        seeds = ", ".join(f"{100 * value:+.2f}" for value in one.estimate.of_seeds)
        lines.append(
            f"{one.part.title}: {100 * one.estimate.difference:+.2f} ({shown_interval(one.interval)}); by seed: {seeds}"
        )
        if len(one.pairs) > 1:
            lines += [
                f"of these {pair.title}: {100 * difference:+.2f}"
                for pair, difference in zip(one.part.pairs, one.pairs, strict=True)
            ]
    return lines


def _interval(cell: TableCell) -> tuple[float, float]:
    if len(cell.rows) == 1:
        return interval95(cell.errors()[0], len(cell.rows[0].wrong))
    return estimate(cell.wrong().astype(float)).interval()


def _drawing(caption: str, drawing: str) -> dict[str, str]:
    return {"caption": caption, "drawing": Markup(drawing)}


def _depth(cells: Sequence[TableCell]) -> dict[str, str] | None:
    """Error of the dense test at one scale against the number of weight layers, a line for each training scale."""
    series: dict[str, list[Point]] = {}
    for one in (one for one in cells if one.protocol == "single"):
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
        return None
    lines = {name: sorted(line, key=lambda point: point.x) for name, line in series.items()}
    return _drawing(
        "Top-1 error by protocol single, with its 95% interval; lines join A, B, D and E.",
        points("Error against depth", "%", "weight layers", lines, marks=dict(sorted(depths.items()))),
    )


def _gains(cells: Sequence[TableCell]) -> dict[str, str] | None:
    """What each protocol gains on the central crop, against its time, a line for each net."""
    series: dict[str, list[Point]] = {}
    marks: dict[float, str] = {}
    for centre in (one for one in cells if one.protocol == "centre"):
        base = statistics.mean(row.record["seconds"] for row in centre.rows)
        for one in (one for one in cells if one.nets == centre.nets and one.seeds == centre.seeds and base):
            cost = statistics.mean(row.record["seconds"] for row in one.rows) / base
            found = estimate(one.wrong().astype(float) - centre.wrong())
            low, high = (-100 * bound for bound in reversed(found.interval()))
            gain = -100 * found.difference
            name = (
                f"{one.title}: {gain:+.2f} points ({low:+.2f} to {high:+.2f}) at {format_number(cost)} times the time"
            )
            series.setdefault(centre.nets[0].title, []).append(Point(cost, gain, low, high, name))
            marks.setdefault(cost, "")
    if not any(len(line) > 1 for line in series.values()):
        return None
    lines = {name: sorted(line, key=lambda point: point.x) for name, line in list(series.items())[:_MOST_CURVES]}
    ticks = {number: f"{number:g}x" for number in (1.0, 3.0, 10.0, 30.0, 100.0) if number <= 1.5 * max(marks)}
    across = "time, as a multiple of the central crop's"
    return _drawing(
        "Points of top-1 error that a protocol gains on the central crop, with 95% intervals, against the time that it "
        "took: central crop, single, multi-scale and, of nets trained with scale jitter, multi-crop and both.",
        points("Gain against cost", "", across, lines, marks=ticks, logarithmic=True),
    )


def _curves(results: TableResults) -> dict[str, str] | None:
    """Validation errors over the epochs, the mean over the seeds."""
    by_net: dict[str, list[list[float]]] = {}
    for training in results.trainings:
        name = read_net(training["net"]).title
        by_net.setdefault(name, []).append([100 * line["val_top1_error"] for line in training["log"]])
    if not by_net:
        return None
    lines = {
        name: [statistics.mean(values) for values in zip(*of_seeds, strict=False)]
        for name, of_seeds in list(by_net.items())[:_MOST_CURVES]
    }
    more = f" The first {_MOST_CURVES} of {len(by_net)} nets." if len(by_net) > _MOST_CURVES else ""
    return _drawing(
        f"Top-1 error on the validation images by the central crop, after each epoch, the mean over the seeds.{more}",
        curves("Validation error", "%", lines),
    )
