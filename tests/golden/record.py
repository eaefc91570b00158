"""Records what the package answers: ``python -m tests.golden.record``, from the root of a checkout.

Without arguments every subject is recorded anew into tests/golden/recorded; names of subjects record these alone, and
--out writes elsewhere. A number that is within the tolerance of what was recorded stays as it was, so that a diff shows
what has changed and nothing else.
"""

import argparse
import os
import sys
import tempfile
import time
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

from .compare import RECORDED, SUBJECTS, keep, read, write


def prepare_process(folder: Path) -> None:
    """Settings that must stand before torch is imported; nothing is read from this machine's caches or the network."""
    os.environ |= {
        "OMP_NUM_THREADS": os.environ.get("GOLDEN_THREADS", "1"),  # two wait for each other on a busy machine
        "KERAS_BACKEND": "torch",
        "XDG_CACHE_HOME": str(folder / "cache"),
        "VERYDEEP_CACHE": str(folder / "verydeep"),
        "VERYDEEP_DATA": str(folder / "data"),
        "VERYDEEP_OFFLINE": "1",
        "COLUMNS": "120",
    }


def main() -> None:
    """Records subjects."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("subjects", nargs="*", metavar="SUBJECT", help=", ".join(SUBJECTS))
    parser.add_argument("--out", type=Path, default=RECORDED)
    arguments = parser.parse_args()
    out = arguments.out.resolve()
    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as place:
        prepare_process(Path(place))
        from .harness import enter

        print(f"asking {find_spec('verydeep').origin}", file=sys.stderr)
        for subject in arguments.subjects or SUBJECTS:
            begin = time.process_time()
            enter(Path(place) / subject)
            found = import_module(f".{subject}", __package__).record()
            write(out / f"{subject}.json", keep(read(subject), found) if out == RECORDED else found)
            print(f"{subject}: {len(found)} cases in {time.process_time() - begin:.1f} s", file=sys.stderr)
            os.chdir(out)


if __name__ == "__main__":
    main()
