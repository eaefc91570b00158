"""A run as one page: its errors, its curves, its recipe and the commands that give it again. No network is needed."""

import json
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

from verydeep.atomic import written_whole

REPORT_FILE = "report.html"
"""Name of the report in a run folder."""

_STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 48rem; margin: 2rem auto; padding: 0 1rem; color: #1a1a1a; }
h1 { font-size: 1.6rem; } h2 { font-size: 1.15rem; margin-top: 2rem; }
table { border-collapse: collapse; } td, th { padding: .2rem .9rem .2rem 0; text-align: left; vertical-align: top; }
th { font-weight: 600; } td { font-variant-numeric: tabular-nums; }
pre { background: #f4f4f2; padding: .7rem 1rem; overflow-x: auto; } svg { width: 100%; height: auto; }
.big { font-size: 2rem; font-weight: 600; } .note { color: #555; }
"""
_WIDTH, _HEIGHT, _MARGIN = 640, 240, 44
_COLOURS = (
    "#1b5e9c", "#c2571a", "#2a7d4f", "#8e3b8a", "#b8860b", "#5b5b5b", "#c0392b", "#17807e", "#6a4fb3"
)  # fmt: skip


def chart(title: str, unit: str, series: Mapping[str, Sequence[float]]) -> str:
    """Draws curves over the epochs as SVG.

    Args:
        title: what is drawn.
        unit: of the values, such as ``%``.
        series: up to nine curves by name, one value an epoch.
    """
    top = max(max(values) for values in series.values()) or 1.0
    count = max(len(values) for values in series.values())

    def place(epoch: int, value: float) -> tuple[float, float]:
        x = _MARGIN + (_WIDTH - 2 * _MARGIN) * (epoch / max(count - 1, 1))
        return x, _HEIGHT - _MARGIN + (2 * _MARGIN - _HEIGHT) * value / top

    parts = [f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{escape(title)}">']
    for fraction in (0, 0.25, 0.5, 0.75, 1):
        x, y = place(0, top * fraction)
        parts.append(f'<line x1="{x}" y1="{y:.1f}" x2="{_WIDTH - _MARGIN}" y2="{y:.1f}" stroke="#ddd"/>')
        parts.append(
            f'<text x="{x - 6}" y="{y + 4:.1f}" text-anchor="end" font-size="11">{top * fraction:.3g}{unit}</text>'
        )
    for epoch in sorted({0, (count - 1) // 2, count - 1}):
        x, y = place(epoch, 0)
        parts.append(f'<text x="{x:.1f}" y="{y + 18}" text-anchor="middle" font-size="11">{epoch + 1}</text>')
    parts.append(f'<text x="{_WIDTH / 2}" y="{_HEIGHT - 8}" text-anchor="middle" font-size="11">epoch</text>')
    for number, ((name, values), colour) in enumerate(zip(series.items(), _COLOURS, strict=False)):
        points = " ".join(f"{x:.1f},{y:.1f}" for x, y in (place(epoch, value) for epoch, value in enumerate(values)))
        parts.append(f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="2"/>')
        x, y = _MARGIN + 8 + 180 * (number % 3), 18 - 14 * ((len(series) - 1) // 3 - number // 3)
        parts.append(f'<text x="{x}" y="{y}" font-size="11" fill="{colour}">{escape(name)}</text>')
    above = 14 * ((len(series) - 1) // 3)
    parts[0] = parts[0].replace('viewBox="0 0', f'viewBox="0 {-above}').replace(f' {_HEIGHT}"', f' {_HEIGHT + above}"')
    return f"<h2>{escape(title)}</h2>\n" + "\n".join(parts) + "\n</svg>"


def _table(rows: dict[str, Any]) -> str:
    cells = "".join(
        f"<tr><th>{escape(str(name).replace('_', ' '))}</th><td>{escape(_shown(value))}</td></tr>"
        for name, value in rows.items()
    )
    return f"<table>{cells}</table>"


def _shown(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def write_report(
    folder: Path,
    *,
    title: str,
    result: dict[str, Any],
    data: dict[str, Any],
    log: Sequence[dict[str, Any]],
    settings: dict[str, Any],
    commands: Sequence[str],
) -> Path:
    """Writes the report of a finished run.

    Args:
        folder: the run folder.
        title: what was trained on what.
        result: figures of the final test, as ``Result.as_record`` gives them.
        data: what is known of the data set.
        log: the lines of the log.
        settings: of the run.
        commands: that give the run again.

    Returns:
        The file.
    """
    low, high = (100 * bound for bound in result["interval95"])
    errors = {
        "training": [100 * line["train_error"] for line in log],
        "validation, central crop": [100 * line["val_top1_error"] for line in log],
    }
    body = [
        f"<h1>{escape(title)}</h1>",
        f'<p><span class="big">{100 * result["top1_error"]:.2f}%</span> top-1 error on the {result["num_images"]:,} '
        f"{escape(result['split'])} images, by protocol {escape(result['protocol'])} "
        f"(95% interval {low:.2f} to {high:.2f}%).</p>",
        '<p class="note">Measured on validation images, which the training did not learn from; '
        + ("the weights were selected on them." if result["selected_on"] else "nothing was selected on them.")
        + "</p>",
        chart("Error", "%", errors),
        chart("Training loss", "", {"loss": [line["loss"] for line in log]}),
        "<h2>The commands</h2>",
        f"<pre>{escape(chr(10).join(commands))}</pre>",
        "<h2>The data</h2>",
        _table(data),
        "<h2>The recipe</h2>",
        _table(settings["recipe"]),
        "<h2>How it was computed</h2>",
        _table(
            settings["choice"] | {"seed": settings["seed"]} | settings["environment"] | {"began": settings["began"]}
        ),
    ]
    page = (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{escape(title)}</title>'
        f'<meta name="viewport" content="width=device-width"><style>{_STYLE}</style></head>\n<body>'
        + "\n".join(body)
        + "</body></html>\n"
    )
    file = folder / REPORT_FILE
    with written_whole(file) as temporary:
        temporary.write_text(page, encoding="utf-8")
    return file
