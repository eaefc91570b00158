"""Drawings as SVG: curves, points with their intervals, errors as bars, confusion matrices.

Lines and words take the colour of the page's text, so that they can be read on a light and on a dark page alike.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from html import escape

from numpy import ndarray

_WIDTH, _HEIGHT = 520, 230
_LEFT, _RIGHT, _TOP, _BOTTOM = 56, 16, 14, 46
_LEGEND_LINE, _LEGEND_COLUMNS = 20, 2

COLOURS = (
    "#3b7dc4", "#d9702b", "#3a9a63", "#a8569f", "#c2932a", "#7d858c", "#d24b3d", "#2f9a98", "#8269c9"
)  # fmt: skip
"""Of the series, in their order."""

_DASHED = ' stroke-dasharray="5 4"'

_CORRECT_COLOUR, _WRONG_COLOUR = "#3a9a63", "#d9702b"


def curves(title: str, unit: str, series: Mapping[str, Sequence[float]]) -> str:
    """Draws up to nine curves over the epochs, one value each; what is not finite is left out."""
    highest = max((value for values in series.values() for value in values if math.isfinite(value)), default=1.0)
    count = max(len(values) for values in series.values())
    axes = _Axes(title, unit, "epoch", list(series), round_ticks(highest))

    def across(epoch: int) -> float:
        return _LEFT + (_WIDTH - _LEFT - _RIGHT) * (epoch / (count - 1) if count > 1 else 0.5)

    marks = sorted({round(fraction * (count - 1)) for fraction in (0, 0.25, 0.5, 0.75, 1)})
    axes.mark({across(epoch): str(epoch + 1) for epoch in marks}, 13.5)
    for values, name, colour in zip(series.values(), series, COLOURS, strict=False):
        points = [(epoch, value) for epoch, value in enumerate(values) if math.isfinite(value)]
        axes.line([(across(epoch), axes.up(value)) for epoch, value in points], colour, 2)
        axes.parts += [
            f'<circle cx="{across(epoch):.1f}" cy="{axes.up(value):.1f}" r="{2.6 if count <= 40 else 1.2}" '
            f'fill="{colour}"><title>{escape(name)}, epoch {epoch + 1}: {value:.4g}{unit}</title></circle>'
            for epoch, value in points
        ]
    return axes.drawn()


@dataclass(frozen=True)
class Point:
    """A point of a drawing: where, how high, its interval, and the name shown when somebody points at it."""

    x: float
    y: float
    low: float
    high: float
    name: str


def points(
    title: str,
    unit: str,
    across: str,
    series: Mapping[str, Sequence[Point]],
    *,
    marks: Mapping[float, str],
    logarithmic: bool = False,
    dashed: Sequence[str] = (),
) -> str:
    """Draws points joined by lines, each with its interval; ``marks`` name values across, ``dashed`` series."""
    drawn = [point for line in series.values() for point in line]
    axes = _Axes(title, unit, across, list(series), _range(drawn), dashed)
    scale: Callable[[float], float] = math.log if logarithmic else float
    values = [scale(x) for x in (*marks, *(point.x for point in drawn))]
    left, right = min(values), max(values)

    def across_at(x: float) -> float:
        share = (scale(x) - left) / (right - left) if right > left else 0.5
        return _LEFT + 24 + (_WIDTH - _LEFT - _RIGHT - 48) * share

    axes.mark({across_at(x): name for x, name in marks.items()}, 12)
    for number, (name, line) in enumerate(series.items()):
        colour, style = COLOURS[number % len(COLOURS)], _DASHED if name in dashed else ""
        aside = 5 * (number - (len(series) - 1) / 2) if len(series) <= 9 else 0  # intervals do not hide each other
        axes.line([(across_at(point.x) + aside, axes.up(point.y)) for point in line], colour, 1.6, style)
        for point in line:
            x = across_at(point.x) + aside
            axes.parts.append(
                f'<path d="M{x:.1f} {axes.up(point.low):.1f}V{axes.up(point.high):.1f}" stroke="{colour}" '
                f'stroke-opacity=".55" stroke-width="1.6"{style}/>'
                f'<circle cx="{x:.1f}" cy="{axes.up(point.y):.1f}" r="3.4" fill="{colour}">'
                f"<title>{escape(point.name)}</title></circle>"
            )
    return axes.drawn()


def histogram(
    title: str, across: str, counts: Sequence[int], edges: Sequence[float], series: Mapping[str, float]
) -> str:
    """Draws counts as bars; ``series`` names the wrong and the right part of the range, each with its upper end.

    ``edges`` are one more than the counts.
    """
    colours = (_WRONG_COLOUR, _CORRECT_COLOUR)
    axes = _Axes(title, "", across, list(series), round_ticks(max(counts)), colours=colours)
    width = (_WIDTH - _LEFT - _RIGHT) / (edges[-1] - edges[0])

    def across_at(value: float) -> float:
        return _LEFT + width * (value - edges[0])

    axes.mark({across_at(value): f"{value:g}" for value in (edges[0], *series.values())}, 13.5)
    for count, low, high in zip(counts, edges, edges[1:], strict=False):
        number = next(index for index, end in enumerate(series.values()) if high <= end + 1e-9)
        left, top = across_at(low) + 1, axes.up(count)
        axes.parts.append(
            f'<rect x="{left:.1f}" y="{top:.1f}" width="{across_at(high) - left - 1:.1f}" '
            f'height="{axes.up(0) - top:.1f}" fill="{colours[number]}" rx="1.5">'
            f"<title>{low:g} to {high:g}: {count:,}</title></rect>"
        )
    return axes.drawn()


class _Axes:
    """The frame of a drawing: a legend above, round heights at the left, and what is drawn across below."""

    def __init__(
        self,
        title: str,
        unit: str,
        across: str,
        names: Sequence[str],
        ticks: Sequence[float],
        dashed: Sequence[str] = (),
        colours: Sequence[str] = COLOURS,
    ) -> None:
        self.top = _TOP + _LEGEND_LINE * math.ceil(len(names) / _LEGEND_COLUMNS)
        self.ticks, height = ticks, self.top + _HEIGHT + _BOTTOM
        self.parts = [f'<svg class="chart" viewBox="0 0 {_WIDTH} {height}" role="img" aria-label="{escape(title)}">']
        for tick in ticks:
            y = self.up(tick)
            self.parts.append(
                f'<line x1="{_LEFT}" y1="{y:.1f}" x2="{_WIDTH - _RIGHT}" y2="{y:.1f}" stroke="currentColor" '
                f'stroke-opacity="{0.35 if tick == 0 else 0.12}"/>' + words(f"{tick:g}{unit}", _LEFT - 8, y + 4, "end")
            )
        self.parts.append(words(across, _WIDTH / 2, height - 6, "middle"))
        for number, name in enumerate(names):
            x = _LEFT + (_WIDTH - _LEFT) / _LEGEND_COLUMNS * (number % _LEGEND_COLUMNS)
            y, colour = _TOP + _LEGEND_LINE * (number // _LEGEND_COLUMNS), colours[number % len(colours)]
            style = _DASHED if name in dashed else ""
            self.parts.append(
                f'<line x1="{x}" y1="{y - 4}" x2="{x + 16}" y2="{y - 4}" stroke="{colour}" stroke-width="3"{style}/>'
                + words(name, x + 22, y, "start")
            )

    def up(self, value: float) -> float:
        lowest, highest = self.ticks[0], self.ticks[-1]
        return self.top + _HEIGHT * (1 - (value - lowest) / (highest - lowest))

    def mark(self, names: Mapping[float, str], size: float) -> None:
        self.parts += [words(name, x, self.top + _HEIGHT + 18, "middle", size) for x, name in names.items()]

    def line(self, at: Sequence[tuple[float, float]], colour: str, width: float, style: str = "") -> None:
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in at)
        self.parts.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="{width}"{style}/>')

    def drawn(self) -> str:
        return "\n".join(self.parts) + "\n</svg>"


def _range(points: Sequence[Point]) -> list[float]:
    low, high = min(point.low for point in points), max(point.high for point in points)
    step = round_ticks(max(high - low, 1e-9))[1]
    first, last = math.floor(low / step), math.ceil(high / step)
    return [round(step * number, 10) for number in range(first, max(last, first + 1) + 1)]


def round_ticks(highest: float) -> list[float]:
    """Returns four to six round numbers from 0 to above the highest value."""
    if highest <= 0:
        return [0.0, 1.0]
    step = next(
        step
        for exponent in (math.floor(math.log10(highest)) - 1, math.floor(math.log10(highest)))
        for step in (unit * 10.0**exponent for unit in (1, 2, 2.5, 5))
        if highest / step <= 5
    )
    return [round(step * number, 12) for number in range(math.ceil(highest / step - 1e-9) + 1)]


def words(text: str, x: float, y: float, anchor: str, size: float = 13.5) -> str:
    """Writes words with their ``anchor`` at x: start, middle or end."""
    where = f'x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}"'
    return f'<text {where} font-size="{size}" fill="currentColor" pointer-events="none">{escape(text)}</text>'


def error_bar(error: float, interval: tuple[float, float], highest: float) -> str:
    """Draws an error, a fraction, as a bar with its interval; ``highest`` fills the width."""
    width = 200
    end, low, high = (width * min(value / highest, 1) if highest else 0 for value in (error, *interval))
    return (
        f'<svg class="bar" viewBox="0 0 {width} 14" aria-hidden="true">'
        f'<rect width="{width}" height="14" fill="currentColor" fill-opacity=".06" rx="2"/>'
        f'<rect width="{end:.1f}" height="14" fill="{_WRONG_COLOUR}" fill-opacity=".75" rx="2"/>'
        f'<path d="M{low:.1f} 7H{high:.1f}M{low:.1f} 3V11M{high:.1f} 3V11" stroke="currentColor" fill="none"/></svg>'
    )


def confusion(rows: Sequence[str], columns: Sequence[str], counts: ndarray) -> str:
    """Draws a confusion matrix: true classes down, each cell as dark as its share of the row's images."""
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
        parts.append(
            f'<text transform="translate({left + cell * (j + 0.6):.1f} {above - 6}) rotate(-45)" font-size="12" '
            f'fill="currentColor">{escape(_short(name))}</text>'
        )
    for i, (name, line) in enumerate(zip(rows, counts.tolist(), strict=True)):
        y, total = above + cell * i, max(1, sum(line))
        parts.append(words(_short(name), left - 6, y + cell / 2 + 4, "end", 12))
        for j, count in enumerate(line):
            x, tip = left + cell * j, f"{name} taken for {columns[j]}: {count} of {total} ({count / total:.0%})"
            colour, opacity = _CORRECT_COLOUR if i == j else _WRONG_COLOUR, 0.12 + 0.78 * count / total
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
