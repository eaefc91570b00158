"""The peak of memory of a contender, in a process of its own that does nothing else.

Usage: python -m benchmarks.compare.memory CASE CONTENDER, with the options as JSON on standard input.
"""

import json
import os
import resource
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

from benchmarks.compare.contender import Options
from benchmarks.compare.environment import child_environment


def measure_memory(options: Options, case: str, name: str) -> int | None:
    """Measures the peak of memory of one contender while it computes.

    What its preparation took, such as the conversion of a model, has been given back before.

    Args:
        options: of the measurement.
        case: the name of the case.
        name: of the contender.

    Returns:
        Bytes that were resident at most; None where the contender cannot run alone.
    """
    command = [sys.executable, "-m", "benchmarks.compare.memory", case, name]
    done = subprocess.run(
        command,
        input=json.dumps(options.as_record()),
        env=child_environment(options.threads, tuned=options.tuned),
        capture_output=True,
        text=True,
        check=False,
    )
    with suppress(ValueError, IndexError):
        return int(done.stdout.splitlines()[-1])
    return None


def main(arguments: list[str]) -> None:
    """Prints the peak of one contender."""
    import gc

    from benchmarks.compare.contender import Absent, read_options
    from benchmarks.compare.measure import computing, find_workload
    from benchmarks.compare.rounds import prepared

    options = read_options(json.load(sys.stdin))
    case_name, name = arguments
    workload = find_workload(options)
    case = next(case for case in workload.cases() if case.name == case_name)
    contender = next(contender for contender in case.contenders if contender.name == name)
    with computing(options):
        call = prepared(contender)
        if isinstance(call, Absent):
            sys.exit(1)
        del workload, case, contender
        gc.collect()
        _give_back()
        call()
    print(_peak())


def _give_back() -> None:
    """Gives freed memory back to the system, and forgets the peak so far, where the system can do both."""
    import ctypes

    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def _peak() -> int:
    with suppress(OSError, StopIteration):
        lines = Path("/proc/self/status").read_text().splitlines()
        return 1024 * next(int(line.split()[1]) for line in lines if line.startswith("VmHWM"))
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


if __name__ == "__main__":
    main(sys.argv[1:])
    sys.stdout.flush()
    os._exit(0)  # libraries with threads of their own may hang at the interpreter's end
