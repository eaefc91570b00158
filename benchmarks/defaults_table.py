"""The table of what ``python -m benchmarks.defaults`` measured, for the terminal and for results/README.md."""

import statistics
from collections.abc import Sequence
from typing import Any

OURS = "verydeep"
COLUMNS = (
    "data",
    "trained by",
    "on",
    "seeds",
    "error, mean (each)",
    "at most",
    "met",
    "time",
    "memory said",
    "peak",
    "remark",
)


def machine_name(record: dict[str, Any]) -> str:
    machine = record["machine"]
    amx = "AMX" if machine["amx"] else "no AMX"
    return f"{machine['processor']}, {machine['cores']} cores, {amx}"


def key(record: dict[str, Any]) -> tuple[Any, ...]:
    """What a line measures; a later line of the same key replaces an earlier one."""
    return (machine_name(record), *(record[name] for name in ("row", "minutes", "who", "case", "seed")))


def latest(records: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    return list({key(record): record for record in records}.values())


def table_rows(records: Sequence[dict[str, Any]]) -> list[list[str]]:
    """One row for each (row, who, case) of one machine: errors in per cent, times as a part of the minutes."""
    groups: dict[tuple[str, str, str], list[dict[str, Any]]] = {}
    for record in latest(records):
        groups.setdefault((record["row"], record["who"], record["case"]), []).append(record)
    return [_table_row(group, records) for group in groups.values()]


def _table_row(group: list[dict[str, Any]], records: Sequence[dict[str, Any]]) -> list[str]:
    first, done = group[0], [record for record in group if record["failure"] is None]
    errors = [100 * record["top1_error"] for record in done]
    limit = _limit(first, records) if first["who"] == OURS else None
    mean = statistics.mean(errors) if errors else None
    remarks = dict.fromkeys(record["failure"] or record["remark"] for record in group)
    return [
        f"{first['row']}, {first['minutes']:g} min on {first['split']}",
        first["who"],
        first["case"] or "all cores",
        ", ".join(str(record["seed"]) for record in group),
        "-" if mean is None else f"{mean:.2f} ({', '.join(f'{error:.2f}' for error in errors)})",
        "" if limit is None else f"{limit:.2f}",
        "" if limit is None else "yes" if mean is not None and len(done) == len(group) and mean <= limit else "no",
        _span([record["time_ratio"] for record in done], "{:.2f}"),
        _span(
            [record["planned_memory_bytes"] / 2**30 for record in done if record["planned_memory_bytes"]], "{:.1f} GiB"
        ),
        _span([record["peak_memory_bytes"] / 2**30 for record in done], "{:.1f} GiB"),
        "; ".join(remark for remark in remarks if remark),
    ]


def _limit(record: dict[str, Any], records: Sequence[dict[str, Any]]) -> float | None:
    """The most that the mean may be; None where it depends on what another reaches and that is not measured yet."""
    if record["below"] is None:
        return None if record["limit"] is None else 100 * record["limit"]
    others = [
        100 * other["top1_error"]
        for other in latest(records)
        if (other["row"], other["who"], other["failure"]) == (record["row"], record["below"], None)
    ]
    return statistics.mean(others) - 100 * record["limit"] if others else None


def _span(values: Sequence[float], form: str) -> str:
    if not values:
        return ""
    low, high = form.format(min(values)), form.format(max(values))
    return high if low == high else f"{low.split(' ')[0]} to {high}"
