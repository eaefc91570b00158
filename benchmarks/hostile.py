"""Gives spoilt files to all readers, as many as wanted, and writes down those that are neither answered nor refused.

Example: python -m benchmarks.hostile --cases 100000 --seed 7 --out found

A thousand run with the tests (tests/hostile). What is found goes, mended, into tests/hostile/found.
"""

import argparse
import json
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))  # the writers of boxes

from tests.hostile.harness import Counts, Kind, case, run, write
from tests.hostile.kinds import KINDS

_SHARES = {"images": 10, "weights": 3, "models": 3, "boxes": 3}
_AT_A_TIME = 250


def _shares(kinds: Sequence[Kind], cases: int) -> dict[str, int]:
    total = sum(_SHARES.get(kind.name, 1) for kind in kinds)
    return {kind.name: cases * _SHARES.get(kind.name, 1) // total for kind in kinds}


def main() -> None:
    """Runs the command line; exits with 1 where something was found."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", type=int, default=10_000, help="spoilt files over all readers")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--kind", choices=KINDS, help="of this reader alone")
    parser.add_argument("--first", type=int, default=0, help="number of the first case of each kind")
    parser.add_argument("--workers", type=int, default=1, help="processes")
    parser.add_argument("--seconds", type=float, default=5.0, help="of the processor, for a case")
    parser.add_argument("--out", type=Path, help="write what is found into folders in this one")
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    kinds = [KINDS[given.kind]] if given.kind else list(KINDS.values())
    shares, records = _shares(kinds, given.cases), []
    for kind in kinds:
        began = time.monotonic()
        counts = _run(kind, range(given.first, given.first + shares[kind.name]), given)
        print(f"{kind.name}: {counts}; {time.monotonic() - began:.0f} s", file=sys.stderr, flush=True)
        for fault in counts.faults:
            print(f"  {fault}", file=sys.stderr, flush=True)
            if given.out is not None:
                files = case(kind, kind.seeds(), given.seed, fault.number)
                write(given.out / f"{kind.name}-{given.seed}.{fault.number}", files)
        record = {
            "kind": kind.name,
            "answers": counts.answers,
            "refusals": counts.refusals,
            "others": [str(fault) for fault in counts.faults],
            "slowest_seconds": counts.slowest,
            "most_memory_bytes": counts.most_memory,
        }
        records.append(record)
    if given.json:
        print(json.dumps({"what": "hostile", "cases": given.cases, "seed": given.seed, "rows": records}, indent=2))
    sys.exit(any(record["others"] for record in records))


def _run(kind: Kind, numbers: range, given: argparse.Namespace) -> Counts:
    """Runs the cases of a kind in several processes, each for some hundred cases."""
    kind.seeds()  # before the threads: they share them
    parts = [numbers[first : first + _AT_A_TIME] for first in range(0, len(numbers), _AT_A_TIME)]
    total = Counts()
    with ThreadPoolExecutor(given.workers) as pool:
        for one in pool.map(lambda part: run(kind, part, seed=given.seed, seconds=given.seconds), parts):
            total.add(one)
    return total


if __name__ == "__main__":
    main()
