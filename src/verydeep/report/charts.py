"""Drawings as SVG: curves, errors with their intervals, confusion matrices.

Lines and words take the colour of the page's text, so that they can be read on a light and on a dark page alike.
"""

import math
from collections.abc import Mapping, Sequence
from html import escape

from numpy import ndarray

WIDTH, HEIGHT = 520, 230
LEFT, RIGHT, TOP, _BOTTOM = 56, 16, 14, 44
LEGEND_LINE = 20
"""Of a drawing: its size without legend, its margins, the height of a line of the legend."""

_LEGEND_COLUMNS = 2
COLOURS = (
    "#3b7dc4", "#d9702b", "#3a9a63", "#a8569f", "#c2932a", "#7d858c", "#d24b3d", "#2f9a98", "#8269c9"
)  # fmt: skip
"""Of the series, in their order."""

RIGHT_COLOUR, WRONG_COLOUR = "#3a9a63", "#d9702b"
"""Of what the net got right and wrong."""


def chart(title: str, unit: str, series: Mapping[str, Sequence[float]]) -> str:
    """Draws curves over the epochs.

    Args:
        title: what is drawn, for those who cannot see it.
        unit: of the values, such as ``%``.
        series: up to nine curves by name, one value an epoch; what is not finite is left out.
    """
    ticks = round_ticks(
        max((value for values in series.values() for value in values if math.isfinite(value)), default=1.0)
    )
    count = max(len(values) for values in series.values())
    top = TOP + LEGEND_LINE * math.ceil(len(series) / _LEGEND_COLUMNS)
    height = top + HEIGHT + _BOTTOM

    def place(epoch: int, value: float) -> tuple[float, float]:
        x = LEFT + (WIDTH - LEFT - RIGHT) * (epoch / (count - 1) if count > 1 else 0.5)
        return x, top + HEIGHT * (1 - value / ticks[-1])

    parts = [f'<svg class="chart" viewBox="0 0 {WIDTH} {height}" role="img" aria-label="{escape(title)}">']
    for tick in ticks:
        y = place(0, tick)[1]
        parts.append(
            f'<line x1="{LEFT}" y1="{y:.1f}" x2="{WIDTH - RIGHT}" y2="{y:.1f}" stroke="currentColor" '
            f'stroke-opacity="{0.35 if tick == 0 else 0.12}"/>' + words(f"{tick:g}{unit}", LEFT - 8, y + 4, "end")
        )
    marks = sorted({round(fraction * (count - 1)) for fraction in (0, 0.25, 0.5, 0.75, 1)})
    parts += [words(str(epoch + 1), place(epoch, 0)[0], top + HEIGHT + 18, "middle") for epoch in marks]
    parts.append(words("epoch", WIDTH / 2, height - 5, "middle"))
    for number, ((name, values), colour) in enumerate(zip(series.items(), COLOURS, strict=False)):
        parts.append(legend(number, name, colour))
        points = [(epoch, value, *place(epoch, value)) for epoch, value in enumerate(values) if math.isfinite(value)]
        line = " ".join(f"{x:.1f},{y:.1f}" for _, _, x, y in points)
        parts.append(f'<polyline points="{line}" fill="none" stroke="{colour}" stroke-width="2"/>')
        parts += [
            f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{2.6 if count <= 40 else 1.2}" fill="{colour}">'
            f"<title>{escape(name)}, epoch {epoch + 1}: {value:.4g}{unit}</title></circle>"
            for epoch, value, x, y in points
        ]
    return "\n".join(parts) + "\n</svg>"


def legend(number: int, name: str, colour: str) -> str:
    """Draws a name of the legend beside its colour, in its place above the drawing."""
    column, row = number % _LEGEND_COLUMNS, number // _LEGEND_COLUMNS
    x, y = LEFT + (WIDTH - LEFT) / _LEGEND_COLUMNS * column, TOP + LEGEND_LINE * row
    line = f'<line x1="{x}" y1="{y - 4}" x2="{x + 16}" y2="{y - 4}" stroke="{colour}" stroke-width="3"/>'
    return line + words(name, x + 22, y, "start")


def words(text: str, x: float, y: float, anchor: str, size: float = 13.5) -> str:
    """Writes words; ``anchor`` says which end of them is at x: start, middle or end."""
    place = f'x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}"'
    return f'<text {place} font-size="{size}" fill="currentColor" pointer-events="none">{escape(text)}</text>'


def round_ticks(highest: float) -> list[float]:
    """Gives round numbers from 0 to above the highest value, four to six of them."""
    if highest <= 0:
        return [0.0, 1.0]
    step = next(
        step
        for exponent in (math.floor(math.log10(highest)) - 1, math.floor(math.log10(highest)))
        for step in (unit * 10.0**exponent for unit in (1, 2, 2.5, 5))
        if highest / step <= 5
    )
    return [round(step * number, 12) for number in range(math.ceil(highest / step - 1e-9) + 1)]


def error_bar(error: float, interval: tuple[float, float], highest: float) -> str:
    """Draws an error as a bar, with its interval.

    Args:
        error: a fraction.
        interval: of the error.
        highest: the fraction that fills the width.
    """
    width = 200
    end, low, high = (width * min(value / highest, 1) if highest else 0 for value in (error, *interval))
    return (
        f'<svg class="bar" viewBox="0 0 {width} 14" aria-hidden="true">'
        f'<rect width="{width}" height="14" fill="currentColor" fill-opacity=".06" rx="2"/>'
        f'<rect width="{end:.1f}" height="14" fill="{WRONG_COLOUR}" fill-opacity=".75" rx="2"/>'
        f'<path d="M{low:.1f} 7H{high:.1f}M{low:.1f} 3V11M{high:.1f} 3V11" stroke="currentColor" fill="none"/></svg>'
    )


def confusion(rows: Sequence[str], columns: Sequence[str], counts: ndarray) -> str:
    """Draws a confusion matrix: each cell as dark as its share of the row's images.

    Args:
        rows: the true classes.
        columns: what they were taken for: the same classes, and perhaps one more for all others.
        counts: images, one row for each of ``rows``.
    """
    cell = 34 if len(columns) <= 16 else 24
    left = 8 + 7 * max(len(_short(name)) for name in rows)
    above = 18 + 5 * max(len(_short(name)) for name in columns)
    width, height = left + cell * len(columns) + above * 0.9, above + cell * len(rows) + 4
    style = f"max-width:{width:.0f}px;min-width:min(34rem,{width:.0f}px)"
    parts = [
        f'<svg class="confusion" style="{style}" viewBox="0 0 {width:.0f} {height:.0f}" role="img" '
        'aria-label="Confusion matrix">'
    ]
    for j, name in enumerate(columns):
        x = left + cell * (j + 0.6)
        parts.append(
            f'<text transform="translate({x:.1f} {above - 6}) rotate(-45)" font-size="12" fill="currentColor">'
            f"{escape(_short(name))}</text>"
        )
    for i, (name, line) in enumerate(zip(rows, counts.tolist(), strict=True)):
        y, total = above + cell * i, max(1, sum(line))
        parts.append(words(_short(name), left - 6, y + cell / 2 + 4, "end", 12))
        for j, count in enumerate(line):
            x, tip = left + cell * j, f"{name} taken for {columns[j]}: {count} of {total} ({count / total:.0%})"
            colour, opacity = RIGHT_COLOUR if i == j else WRONG_COLOUR, 0.12 + 0.78 * count / total
            if not count:
                colour, opacity = "currentColor", 0.04
            parts.append(
                f'<rect x="{x}" y="{y}" width="{cell - 1}" height="{cell - 1}" rx="2" fill="{colour}" '
                f'fill-opacity="{opacity:.2f}"><title>{escape(tip)}</title></rect>'
            )
            if count:
                parts.append(words(str(count), x + (cell - 1) / 2, y + cell / 2 + 4, "middle", 11))
    return "\n".join(parts) + "\n</svg>"


def _short(name: str) -> str:
    return name if len(name) <= 22 else name[:21] + "…"
