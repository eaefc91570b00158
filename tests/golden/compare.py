"""Compares what was recorded with what is answered now."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

SUBJECTS = ("posteriors", "answers", "messages", "weights", "formats", "opened")
RECORDED = Path(__file__).parent / "recorded"
_LINE = 118

ABSOLUTE = 2e-5
"""Of posteriors, scores, errors and all other numbers; for larger ones ``RELATIVE`` counts."""

RELATIVE = 1e-4
"""Of weights, of the mean of the absolute values of their tensor."""

_NOISE = 1e-3
"""Below it a tensor is rounding noise, as the bias before a batch norm that began at zero is."""


def read(subject: str) -> dict[str, Any]:
    """What was recorded; nothing where nothing was."""
    file = RECORDED / f"{subject}.json"
    return json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}


def write(file: Path, found: dict[str, Any]) -> None:
    """Writes answers sorted and indented; what fits into a line stands in one."""
    file.write_text(_written(_rounded(found), 0) + "\n", encoding="utf-8")


def differences(recorded: object, found: object, at: str = "", *, scale: float = 0) -> Iterator[str]:
    """Says where two records differ.

    Args:
        recorded: what was.
        found: what is.
        at: where in the record this is.
        scale: of the tensor that the numbers are of; 0 where they are of none.
    """
    if isinstance(recorded, dict) and isinstance(found, dict):
        scale = recorded.get("abs_mean", scale)
        for key in sorted(recorded.keys() | found.keys()):
            if key not in found:
                yield f"{at}/{key}: is gone, and was {_brief(recorded[key])}"
            elif key not in recorded:
                yield f"{at}/{key}: is new: {_brief(found[key])}"
            else:
                yield from differences(recorded[key], found[key], f"{at}/{key}", scale=scale)
    elif isinstance(recorded, list) and isinstance(found, list) and len(recorded) == len(found):
        for index, (one, other) in enumerate(zip(recorded, found, strict=True)):
            yield from differences(one, other, f"{at}[{index}]", scale=scale)
    elif not _alike(recorded, found, scale):
        yield f"{at}: was {_brief(recorded)}\n{' ' * len(at)}   is {_brief(found)}"


def _alike(recorded: object, found: object, scale: float) -> bool:
    if isinstance(recorded, float) and isinstance(found, float | int) and not isinstance(found, bool):
        if recorded != recorded:
            return found != found
        most = RELATIVE * max(scale, abs(recorded), _NOISE) if scale else ABSOLUTE * max(1, abs(recorded))
        return abs(recorded - found) <= most
    if isinstance(recorded, int) and isinstance(found, float) and not isinstance(recorded, bool):
        return _alike(float(recorded), found, scale)
    return type(recorded) is type(found) and recorded == found


def keep(recorded: object, found: object, *, scale: float = 0) -> object:
    """Gives what was found, with what was recorded in the place of each number that is alike."""
    if isinstance(recorded, dict) and isinstance(found, dict):
        scale = recorded.get("abs_mean", scale)
        return {
            key: keep(recorded[key], value, scale=scale) if key in recorded else value for key, value in found.items()
        }
    if isinstance(recorded, list) and isinstance(found, list) and len(recorded) == len(found):
        return [keep(one, other, scale=scale) for one, other in zip(recorded, found, strict=True)]
    return recorded if _alike(recorded, found, scale) else found


def _rounded(value: object) -> object:
    if isinstance(value, dict):
        return {key: _rounded(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_rounded(inner) for inner in value]
    return float(f"{value:.8g}") if isinstance(value, float) else value


def _written(value: object, depth: int, key: str = "") -> str:
    line = json.dumps(value, sort_keys=True, ensure_ascii=False)
    if not isinstance(value, dict | list) or depth + len(key) + len(line) <= _LINE:
        return line
    inner = " " * (depth + 1)
    if isinstance(value, dict):
        parts = [f"{inner}{json.dumps(key)}: {_written(value[key], depth + 1, key)}" for key in sorted(value)]
    else:
        parts = [inner + _written(part, depth + 1) for part in value]
    opening, closing = "{}" if isinstance(value, dict) else "[]"
    return "\n".join([opening, ",\n".join(parts), " " * depth + closing])


def _brief(value: object) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 400 else f"{text[:400]}..."
