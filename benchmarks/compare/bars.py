"""A drawing of speeds as bars in groups, as an SVG file that stands alone."""

from collections.abc import Mapping, Sequence
from html import escape

from verydeep.files import format_number
from verydeep.report.plots import COLOURS, round_ticks, words

_WIDTH, _NAMES, _VALUES = 760, 300, 96
_LINE, _HEADING, _BETWEEN = 24, 26, 18

Bar = tuple[str, float, tuple[float, float], bool]
"""Its name, its value, the lowest and highest measured, and whether it stands out."""


def bars(title: str, unit: str, groups: Mapping[str, Sequence[Bar]]) -> str:
    """Draws values as bars from zero, each with its spread.

    Args:
        title: what is drawn, for those who cannot see it.
        unit: of the values.
        groups: bars by the name of their group; each group has a scale of its own.
    """
    height = sum(_HEADING + _LINE * len(group) + _BETWEEN for group in groups.values())
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" role="img" '
        f'aria-label="{escape(title)}" font-family="system-ui, sans-serif" color="#333">',
        # a page that shows the file as a picture has no other way to say which of the two it is
        "<style>@media (prefers-color-scheme: dark) { svg { color: #ddd } }</style>",
    ]
    top = 0
    for name, group in groups.items():
        parts.append(words(f"{name}, {unit}", 0, top + 17, "start", 14))
        parts += _group(group, unit, top + _HEADING)
        top += _HEADING + _LINE * len(group) + _BETWEEN
    return "\n".join(parts) + "\n</svg>\n"


def _group(group: Sequence[Bar], unit: str, top: float) -> list[str]:
    ticks = round_ticks(max(high for _, _, (_, high), _ in group))
    room = _WIDTH - _NAMES - _VALUES

    def across(value: float) -> float:
        return _NAMES + room * value / ticks[-1]

    parts = [
        f'<line x1="{across(tick):.1f}" y1="{top}" x2="{across(tick):.1f}" y2="{top + _LINE * len(group)}" '
        f'stroke="currentColor" stroke-opacity="{0.35 if tick == 0 else 0.12}"/>'
        for tick in ticks
    ]
    for number, (name, value, (low, high), stands_out) in enumerate(group):
        y, middle = top + _LINE * number, top + _LINE * (number + 0.5)
        figures = f"{format_number(value)} {unit}, {format_number(low)} to {format_number(high)}"
        colour = COLOURS[1] if stands_out else COLOURS[5]
        parts += [
            words(name, _NAMES - 8, middle + 4.5, "end", 12.5),
            f'<rect x="{_NAMES}" y="{y + 4}" width="{across(value) - _NAMES:.1f}" height="{_LINE - 8}" rx="2" '
            f'fill="{colour}"><title>{escape(f"{name}: {figures}")}</title></rect>',
            f'<path d="M{across(low):.1f} {middle}H{across(high):.1f}M{across(low):.1f} {middle - 4}v8'
            f'M{across(high):.1f} {middle - 4}v8" stroke="currentColor" fill="none"/>',
            words(format_number(value), across(high) + 7, middle + 4.5, "start", 12.5),
        ]
    return parts
