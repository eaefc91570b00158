"""Counts lines and files of the package by room beside what was planned, and the assertions of the tests.

`make size`, or `python benchmarks/size.py [--json]`. A report and no gate: what is counted is what a reader must hold.
"""

import ast
import json
import subprocess
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
PACKAGE = Path("src/verydeep")

ROOMS: dict[str, tuple[tuple[str, ...], int]] = {
    "ground": (("*.py", "paper/*"), 1200),
    "nets": (("nets/*",), 1200),
    "images": (("images/*",), 700),
    "data, shards, doctor": (("data/*",), 2850),
    "weights": (("weights/*",), 2850),
    "speed, kernel": (("speed/*",), 2400),
    "training": (("training/*",), 1100),
    "testing": (("testing/*",), 1200),
    "report": (("report/*",), 550),
    "runs": (("runs/*",), 650),
    "tables": (("tables/*",), 900),
    "cli": (("cli/*",), 1550),
}
"""Of each room: the files that are its own, and the lines it was planned to take."""

CORRIDOR = (
    "nets/",
    "images/",
    "training/",
    "testing/",
    "runs/",
    "data/",
    "cli/train.py",
    "cli/evaluate.py",
    "cli/predict.py",
)
BEHIND_ONE_FUNCTION = ("data/shards/", "data/doctor/", "data/named.py", "data/layouts.py")
"""What everybody walks through, and the parts of it that stand behind one function each."""

PLANNED = {"corridor": 6500, "src": 18000, "files": 125, "longest": 300}


def tracked(*patterns: str) -> list[Path]:
    """Files that git knows, relative to the root."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", *patterns]
    names = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.splitlines()
    return [Path(name) for name in names if (ROOT / name).is_file()]


def num_lines(files: Iterable[Path]) -> int:
    return sum(len((ROOT / file).read_text(encoding="utf-8").splitlines()) for file in files)


def sources() -> dict[str, Path]:
    """The package's files of code by their path within it."""
    files = tracked(str(PACKAGE))
    return {str(file.relative_to(PACKAGE)): file for file in files if file.suffix in (".py", ".cpp", ".h")}


def room_of(name: str) -> str:
    """The room a file belongs to: its first folder, else the ground."""
    folder = name.partition("/")[0] if "/" in name else "."
    for room, (patterns, _) in ROOMS.items():
        if any(pattern.partition("/")[0] == folder for pattern in patterns if "/" in pattern):
            return room
    return "ground" if folder == "." else folder


def assertions() -> int:
    """Assertions of the tests: assert statements, and the contexts and calls of pytest and numpy that assert."""
    checks = {"raises", "warns", "assert_array_equal", "assert_allclose", "assert_close"}

    def found(tree: ast.AST) -> Iterator[ast.AST]:
        for node in ast.walk(tree):
            if isinstance(node, ast.Assert) or (
                isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in checks
            ):
                yield node

    return sum(1 for file in tracked("tests/*.py") for _ in found(ast.parse((ROOT / file).read_text(encoding="utf-8"))))


def measure() -> dict[str, Any]:
    files = sources()
    rooms: dict[str, list[Path]] = {room: [] for room in ROOMS}
    for name, file in files.items():
        rooms.setdefault(room_of(name), []).append(file)
    corridor = [
        file for name, file in files.items() if name.startswith(CORRIDOR) and not name.startswith(BEHIND_ONE_FUNCTION)
    ]
    long = {name: num_lines([file]) for name, file in files.items()}
    return {
        "rooms": [
            {"room": room, "files": len(members), "lines": num_lines(members), "planned": ROOMS.get(room, ((), 0))[1]}
            for room, members in rooms.items()
        ],
        "src": {"files": len(files), "lines": num_lines(files.values()), "planned": PLANNED["src"]},
        "corridor": {"files": len(corridor), "lines": num_lines(corridor), "planned": PLANNED["corridor"]},
        "long": {name: count for name, count in long.items() if count > PLANNED["longest"]},
        "tests": {"lines": num_lines(tracked("tests/*.py")), "assertions": assertions()},
    }


def main() -> None:
    figures = measure()
    if "--json" in sys.argv[1:]:
        print(json.dumps(figures, indent=1))
        return
    rows = [*figures["rooms"], {"room": "src", **figures["src"]}, {"room": "corridor", **figures["corridor"]}]
    print(f"{'room':<22}{'files':>6}{'lines':>8}{'planned':>9}")
    for row in rows:
        print(f"{row['room']:<22}{row['files']:>6}{row['lines']:>8,}{row['planned']:>9,}")
    print(f"planned: at most {PLANNED['files']} files, none over {PLANNED['longest']} lines but data and the kernel")
    for name, count in sorted(figures["long"].items(), key=lambda item: -item[1]):
        print(f"  {name} has {count}")
    print(f"tests: {figures['tests']['lines']:,} lines, {figures['tests']['assertions']:,} assertions")


if __name__ == "__main__":
    main()
