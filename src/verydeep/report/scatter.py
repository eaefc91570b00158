"""A drawing of points with their intervals over any quantity, as SVG."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape

from verydeep.report.charts import COLOURS, HEIGHT, LEFT, LEGEND_LINE, RIGHT, TOP, WIDTH, legend, round_ticks, words

_BOTTOM = 48
_LEGEND_COLUMNS = 2


@dataclass(frozen=True)
class Point:
    """A point of a drawing.

    Attributes:
        x: where.
        y: how high.
        low: lower end of its interval.
        high: upper end.
        name: shown when somebody points at it.
    """

    x: float
    y: float
    low: float
    high: float
    name: str


def scatter(
    title: str,
    unit: str,
    across: str,
    series: Mapping[str, Sequence[Point]],
    *,
    marks: Mapping[float, str],
    logarithmic: bool = False,
) -> str:
    """Draws points joined by lines, each with its interval.

    Args:
        title: what is drawn, for those who cannot see it.
        unit: of the height, such as ``%``.
        across: what is drawn across.
        series: points by name, from left to right; the same nine colours come again after nine series.
        marks: names of places across; where the points go beyond them, so does the drawing.
        logarithmic: equal steps across are equal ratios.
    """
    points = [point for line in series.values() for point in line]
    heights = _range(points)
    top = TOP + LEGEND_LINE * math.ceil(len(series) / _LEGEND_COLUMNS)
    height = top + HEIGHT + _BOTTOM
    scale = math.log if logarithmic else float
    places = [scale(x) for x in (*marks, *(point.x for point in points))]
    left, right = min(places), max(places)

    def across_at(x: float) -> float:
        share = (scale(x) - left) / (right - left) if right > left else 0.5
        return LEFT + 24 + (WIDTH - LEFT - RIGHT - 48) * share

    def up_at(y: float) -> float:
        return top + HEIGHT * (1 - (y - heights[0]) / (heights[-1] - heights[0]))

    parts = [f'<svg class="chart" viewBox="0 0 {WIDTH} {height}" role="img" aria-label="{escape(title)}">']
    for tick in heights:
        parts.append(
            f'<line x1="{LEFT}" y1="{up_at(tick):.1f}" x2="{WIDTH - RIGHT}" y2="{up_at(tick):.1f}" '
            f'stroke="currentColor" stroke-opacity="{0.35 if tick == 0 else 0.12}"/>'
        )
        parts.append(words(f"{tick:g}{unit}", LEFT - 8, up_at(tick) + 4, "end"))
    parts += [words(name, across_at(x), top + HEIGHT + 18, "middle", 12) for x, name in marks.items()]
    parts.append(words(across, WIDTH / 2, height - 6, "middle"))
    for number, (name, line) in enumerate(series.items()):
        colour = COLOURS[number % len(COLOURS)]
        aside = 5 * (number - (len(series) - 1) / 2) if len(series) <= 9 else 0  # intervals do not hide each other
        parts.append(legend(number, name, colour))
        path = " ".join(f"{across_at(point.x) + aside:.1f},{up_at(point.y):.1f}" for point in line)
        parts.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="1.6"/>')
        for point in line:
            x = across_at(point.x) + aside
            parts.append(
                f'<path d="M{x:.1f} {up_at(point.low):.1f}V{up_at(point.high):.1f}" stroke="{colour}" '
                f'stroke-opacity=".55" stroke-width="1.6"/><circle cx="{x:.1f}" cy="{up_at(point.y):.1f}" r="3.4" '
                f'fill="{colour}"><title>{escape(point.name)}</title></circle>'
            )
    return "\n".join(parts) + "\n</svg>"


def _range(points: Sequence[Point]) -> list[float]:
    """Round heights from below the lowest interval to above the highest."""
    low, high = min(point.low for point in points), max(point.high for point in points)
    step = round_ticks(max(high - low, 1e-9))[1]
    first, last = math.floor(low / step), math.ceil(high / step)
    return [round(step * number, 10) for number in range(first, max(last, first + 1) + 1)]
