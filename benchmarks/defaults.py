"""Measures what the shortest command gives: ``verydeep train DATA --minutes M --out RUN --seed S`` and nothing else.

    python -m benchmarks.defaults --data .cache --out results/defaults.jsonl
    python -m benchmarks.defaults --data .cache --rows hats,clothing-3 --cores 1
    python -m benchmarks.defaults --data .cache --rows hats,clothing-3 --busy
    python -m benchmarks.defaults --data .cache --peers all --seeds 0

Each run is a process of its own, and one line of the file as soon as it has ended; what the file has of this machine
is not measured again (``--again``). ``--data`` holds the folders clothing, signdigits and cifar10. Test splits are read
only by the ``verydeep evaluate`` of a row. ``--peers`` measures what others reach in the same minutes. The machine
should do nothing else.
"""

import argparse
import json
import os
import shlex
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.defaults_data import Part, draw
from benchmarks.defaults_peers import BASELINE, PEERS, run_peer
from benchmarks.defaults_run import Case, run_measured
from benchmarks.defaults_table import COLUMNS, OURS, key, latest, machine_name, table_rows
from verydeep.errors import UsageError, UserError
from verydeep.files import append_line, read_lines
from verydeep.machine import environment, now

ROOT = Path(__file__).parents[1]
LONGEST_OF_CASES = 3
"""Minutes: rows of more are not measured on fewer cores or beside a busy process unless they are named."""


@dataclass(frozen=True)
class Row:
    """One row of the table.

    Attributes:
        data: a built-in name, or a folder in --data.
        minutes: for training.
        limit: the most that the mean error may be; with ``below``, how far it has to be below that of another.
        split: that the error is of.
        limit_amx: the same where the CPU has AMX.
        draw: the images, where they are drawn anew for each seed.
        classes: to draw from.
        peers: whether others are measured on it.
        below: name of the other.
        protocol: of the test, where it is not the default of evaluate.
        seeds: where --seeds is not given.
    """

    data: str
    minutes: float
    limit: float
    split: str = "test"
    limit_amx: float | None = None
    draw: tuple[Part, ...] = ()
    classes: tuple[str, ...] = ()
    peers: bool = False
    below: str | None = None
    protocol: str | None = None
    seeds: tuple[int, ...] = (0, 1, 2)


ROWS = {
    "hats": Row(
        "clothing",
        1,
        0.04,
        draw=(Part("train", "train", 96), Part("test", "train", 24)),  # a tenth of train becomes val: 258, 30, 72
        classes=("hat", "pants", "shoes"),
        peers=True,
        seeds=(0, 1, 2, 3, 4),
    ),
    "clothing-3": Row("clothing", 3, 0.14, "val"),
    "clothing-10": Row("clothing", 10, 0.105, "val", peers=True),
    "clothing-20": Row("clothing", 20, 0.095, "val"),
    "signdigits": Row("signdigits", 5, 0.015),
    "digits": Row("digits", 1, 0.01),
    "cifar10": Row("cifar10", 30, 0.14, limit_amx=0.12, protocol="single"),
    "cifar10-1000": Row(
        "cifar10", 5, 0.05, draw=(Part("train", "train", 100), Part("test", "test")), peers=True, below=BASELINE
    ),
}
BUILT_IN = ("digits",)


def read_arguments(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.defaults", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add: Any = parser.add_argument
    add("--rows", type=lambda text: text.split(","), help=f"{','.join(ROWS)} [all]")
    add("--seeds", type=lambda text: tuple(map(int, text.split(","))), help="[each row's own: 0,1,2; hats 0 to 4]")
    add("--data", type=Path, default=Path(".cache"), help="folder of the unpacked sets [.cache]")
    add("--cores", type=int, help="of the training [all]")
    add("--busy", action="store_true", help="beside a process that multiplies matrices on the same cores")
    add("--peers", metavar="NAMES", help=f"measure these too, or all: {', '.join(PEERS)}; their seed is the first")
    add("--only-peers", action="store_true", help="leave out our own runs")
    add("--out", type=Path, default=ROOT / "results" / "defaults.jsonl", help="[results/defaults.jsonl]")
    add("--keep", type=Path, help="keep run folders and logs in this folder [a temporary one]")
    add("--again", action="store_true", help="measure anew what the file has")
    add("--program", default=shlex.join([sys.executable, "-m", "verydeep"]), help="[verydeep of this checkout]")
    return parser.parse_args(arguments)


def machine() -> dict[str, Any]:
    flags = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    return environment() | {"amx": "amx_bf16" in flags}


def child_environment() -> dict[str, str]:
    """That of a user, in which this checkout is found."""
    paths = [str(ROOT / "src"), str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    return dict(os.environ) | {"PYTHONPATH": os.pathsep.join(paths)}


def data_of(row: Row, folder: Path, seed: int, into: Path) -> str:
    if row.data in BUILT_IN:
        return row.data
    source = folder / row.data
    if not source.is_dir():
        raise UserError(
            f"{source} is missing: unpack the set there, or say where with --data or leave it out of --rows"
        )
    return str(draw(source, into / "drawn", row.draw, seed, row.classes) if row.draw else source)


def measure_ours(row: Row, data: str, seed: int, case: Case, folder: Path, program: Sequence[str]) -> dict[str, Any]:
    """Trains, then tests; the fields of a line that tell what came of it."""
    run = folder / "run"
    train = [*program, "train", data, "--minutes", f"{row.minutes:g}", "--out", str(run), "--seed", str(seed)]
    trained = run_measured(train, child_environment(), case, folder / "train.log")
    settings = _read(run / "run.json")
    found: dict[str, Any] = {
        "command": shlex.join(["verydeep", "train", row.data, *train[len(program) + 2 : -3], "RUN", *train[-2:]]),
        "seconds": trained.seconds,
        "time_ratio": trained.seconds / (60 * row.minutes),
        "peak_memory_bytes": trained.peak_memory_bytes,
        "plan": (plan := settings.get("plan")),
        "planned_memory_bytes": (plan or {}).get("memory_bytes"),
        "failure": trained.failure,
    }
    if trained.failure is None:
        evaluate = [*program, "evaluate", str(run), data, "--split", row.split, "--json"]
        evaluate += ["--protocol", row.protocol] if row.protocol else []
        tested = run_measured(evaluate, child_environment(), Case(), folder / "evaluate.log")
        found |= {"evaluate_seconds": tested.seconds, "failure": tested.failure}
        if tested.failure is None:
            answer = json.loads(tested.output)
            found |= {name: answer[name] for name in ("top1_error", "interval95", "num_images", "protocol")}
    return found


def _read(file: Path) -> dict[str, Any]:
    try:
        settings: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return settings


def measure(given: argparse.Namespace) -> list[dict[str, Any]]:
    """Measures what is missing; the lines of this machine, those of the file too."""
    named, case = given.rows or list(ROWS), Case(given.cores, given.busy)
    if unknown := [name for name in named if name not in ROWS]:
        raise UsageError(f"unknown row {unknown[0]!r}: choose of {', '.join(ROWS)}")
    peers = list(PEERS) if given.peers == "all" else given.peers.split(",") if given.peers else []
    if unknown := [name for name in peers if name not in PEERS]:
        raise UsageError(f"unknown peer {unknown[0]!r}: all, or choose of {', '.join(PEERS)}")
    here = machine()
    given.out.parent.mkdir(parents=True, exist_ok=True)
    records = read_lines(given.out) if given.out.exists() else []
    measured = set() if given.again else {key(record) for record in records if record["failure"] is None}
    for name in named:
        row = ROWS[name]
        seeds = given.seeds or row.seeds
        if case.name and not given.rows and row.minutes > LONGEST_OF_CASES:
            continue
        contenders = [] if given.only_peers else [(OURS, seed) for seed in seeds]
        if not case.name:
            contenders += [(BASELINE, seed) for seed in seeds if row.below == BASELINE]
            contenders += [(peer, seeds[0]) for peer in peers if row.peers and peer != BASELINE]
        for who, seed in contenders:
            limit = row.limit_amx if row.limit_amx and here["amx"] else row.limit
            record = {
                "row": name,
                "who": who,
                "case": case.name,
                "seed": seed,
                "minutes": row.minutes,
                "split": row.split,
            }
            record |= {"machine": here, "limit": limit, "below": row.below, "remark": "", "began": now()}
            if key(record) in measured:
                continue
            say(f"{name}, {who}, seed {seed}{', ' if case.name else ''}{case.name}: {row.minutes:g} min")
            with tempfile.TemporaryDirectory() as temporary:
                folder = Path(temporary)
                if given.keep:
                    folder = given.keep / "-".join([name, who, str(seed), case.name]).replace(" ", "-").strip("-")
                    folder.mkdir(parents=True)
                data = data_of(row, given.data, seed, folder)
                if who == OURS:
                    record |= measure_ours(row, data, seed, case, folder, shlex.split(given.program))
                else:
                    record |= run_peer(who, Path(data), row.minutes, row.split, seed, folder)
            append_line(given.out, record)
            records.append(record)
            say("  " + (record["failure"] or f"{100 * record['top1_error']:.2f}% in {record['seconds']:.0f} s"))
    wanted = machine_name({"machine": here})
    return [record for record in latest(records) if machine_name(record) == wanted and record["row"] in named]


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def main(arguments: list[str] | None = None) -> None:
    """Runs the command line; a user's error becomes one line on standard error."""
    given = read_arguments(arguments)
    try:
        records = measure(given)
    except UserError as error:
        say(f"benchmarks.defaults: {error}")
        sys.exit(error.exit_status)
    rows = [COLUMNS, *table_rows(records)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for cells in rows:
        print("  ".join(cell.ljust(width) for cell, width in zip(cells, widths, strict=True)).rstrip())


if __name__ == "__main__":
    main()
