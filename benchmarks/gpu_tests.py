"""Runs the tests marked gpu and records each as a line of JSON: python -m benchmarks.gpu_tests [options of pytest]."""

import os
import sys
from pathlib import Path

# before CUDA begins: the products of cuBLAS add in the same order every time
os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
# plugins that happen to be installed here are not part of these tests
os.environ.setdefault("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")

from benchmarks.gpu_measure import Results
from verydeep.device import find_device


class Recorder:
    """A plugin of pytest that writes what became of each test."""

    def __init__(self, results: Results) -> None:
        self.results = results

    # pytest is not there when this is checked by hand on the device, so its types are not named
    def pytest_runtest_logreport(self, report) -> None:  # type: ignore[no-untyped-def]  # noqa: ANN001
        """Records a test when it has run, or has failed or been skipped before."""
        if report.when == "call" or report.outcome != "passed":
            message = "" if report.outcome == "passed" else str(report.longrepr)[-2000:]
            self.results.add(
                {"test": report.nodeid, "outcome": report.outcome, "seconds": report.duration, "message": message}
            )


def main() -> None:
    """Runs the tests and ends with pytest's status."""
    try:
        import pytest
    except ImportError:
        sys.exit("pytest is not on this machine: benchmarks/gpu.sh pack, where there is a network, carries it along")
    # the others may import what is not on this machine
    files = [str(file) for file in sorted(Path("tests").rglob("test_*.py")) if "mark.gpu" in file.read_text("utf-8")]
    arguments = ["-m", "gpu", "-q", "-p", "no:cacheprovider", "--durations=5", *files, *sys.argv[1:]]
    status = pytest.main(arguments, plugins=[Recorder(Results("tests", find_device(), {"arguments": arguments}))])
    sys.exit(int(status))


if __name__ == "__main__":
    main()
