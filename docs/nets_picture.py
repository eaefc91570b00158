"""Draws docs/nets.svg, the columns of Table 1 from the rows of the package: ``python docs/nets_picture.py``.

The build of the documentation fails where the picture is not what this draws.
"""

from pathlib import Path

from verydeep import ARCHITECTURES
from verydeep.nets.architecture import Geometry, layers

PICTURE = Path(__file__).parent / "nets.svg"

WIDTH, ROW, LEFT, BOX, GAP = 920, 40, 96, 22, 3
COLOURS = {64: "#bfdbfe", 128: "#93c5fd", 256: "#60a5fa", 512: "#3b82f6"}
POOL, CONNECTED, NORM = "#d1d5db", "#fbbf24", "#f9a8d4"


def nets_picture() -> str:
    """The picture: a row for each net, a box for each layer, what it weighs and what it costs beside it."""
    rows = [_row(name, 62 + ROW * number) for number, name in enumerate(ARCHITECTURES)]
    height = 62 + ROW * len(rows) + 48
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" role="img" '
            'aria-label="The nets of Table 1: a box for each layer" font-family="system-ui, sans-serif" '
            'fill="#1f2937">',
            f'<rect width="{WIDTH}" height="{height}" rx="10" fill="#ffffff"/>',
            _text("The nets of Table 1, from an image of 224 x 224 to 1000 scores", 20, 28, 16, "start", bold=True),
            _text("in each box the side of its filters", LEFT, 48, 11, "start"),
            _text("parameters", WIDTH - 96, 48, 11, "end"),
            _text("10⁹ MACs", WIDTH - 20, 48, 11, "end"),
            *rows,
            *_legend(height - 20),
            "</svg>\n",
        ]
    )


def _row(name: str, y: int) -> str:
    row = ARCHITECTURES[name]
    inside = layers(Geometry(architecture=row))
    parts = [_text(name, 20, y + 16, 14, "start", bold=True), _text(row.aliases[0], 20, y + 29, 9, "start")]
    x = LEFT
    for layer in inside:
        if layer.name.startswith("pool"):
            parts.append(f'<rect x="{x + 1}" y="{y + 3}" width="5" height="{BOX}" rx="2" fill="{POOL}"/>')
            x += 6 + GAP
        elif layer.name.startswith("norm"):
            parts.append(f'<rect x="{x}" y="{y + 3}" width="8" height="{BOX}" rx="2" fill="{NORM}"/>')
            x += 8 + GAP
        elif layer.name.startswith(("conv", "fc")):
            connected = layer.name.startswith("fc")
            colour = CONNECTED if connected else COLOURS[layer.channels]
            parts.append(f'<rect x="{x}" y="{y + 3}" width="{BOX}" height="{BOX}" rx="3" fill="{colour}"/>')
            parts.append(_text("fc" if connected else f"{layer.kernel}", x + BOX / 2, y + 18, 11, "middle"))
            x += BOX + GAP
    parameters, macs = sum(layer.parameters for layer in inside), sum(layer.macs for layer in inside)
    parts.append(_text(f"{parameters:,}", WIDTH - 96, y + 18, 12, "end"))
    parts.append(_text(f"{macs / 1e9:.2f}", WIDTH - 20, y + 18, 12, "end"))
    return "".join(parts)


def _legend(y: int) -> list[str]:
    entries = [
        *((colour, f"{channels} channels") for channels, colour in COLOURS.items()),
        (CONNECTED, "fully connected, a convolution too"),
        (POOL, "pooling"),
        (NORM, "LRN"),
    ]
    parts, x = [], 20.0
    for colour, words in entries:
        parts.append(f'<rect x="{x:g}" y="{y - 10}" width="12" height="12" rx="2" fill="{colour}"/>')
        parts.append(_text(words, x + 17, y, 11, "start"))
        x += 32 + 6 * len(words)
    return parts


def _text(words: str, x: float, y: float, size: int, anchor: str, *, bold: bool = False) -> str:
    weight = ' font-weight="600"' if bold else ""
    return f'<text x="{x:g}" y="{y:g}" font-size="{size}" text-anchor="{anchor}"{weight}>{words}</text>'


if __name__ == "__main__":
    PICTURE.write_text(nets_picture(), encoding="utf-8")
