"""JSON lines and the description of the machine."""

import os
import signal
import subprocess
import sys
import threading
import warnings
from pathlib import Path

import pytest

from verydeep.files import append_line, read_lines
from verydeep.machine import Turn, environment


def test_lines_round_trip_and_a_cut_last_line_does_not_count(tmp_path):
    file = tmp_path / "log.jsonl"
    append_line(file, {"epoch": 1, "loss": 0.5})
    append_line(file, {"epoch": 2, "loss": 0.25})
    with file.open("a") as log:
        log.write('{"epoch": 3, "lo')
    whole = [{"epoch": 1, "loss": 0.5}, {"epoch": 2, "loss": 0.25}]
    assert read_lines(file) == whole
    with file.open("a") as log:
        log.write('{"epoch": 3, "loss": 0.1}\n')
    assert read_lines(file) == whole


def test_environment_names_what_a_figure_depends_on():
    described = environment()
    assert {"verydeep", "torch", "python", "processor", "cores"} <= described.keys()
    assert isinstance(described["cores"], int)
    assert described["cores"] >= 1


def test_from_the_source_tree_without_an_installation(tmp_path):
    """PYTHONPATH is all that a machine without a package index has: no metadata says which version this is."""
    hidden = "import importlib.metadata as m, sys\n"
    hidden += "def absent(name):\n    raise m.PackageNotFoundError(name)\n"
    hidden += "real, m.version = m.version, lambda name: absent(name) if name == 'verydeep' else real(name)\n"
    code = hidden + "from verydeep import __version__\nfrom verydeep.machine import environment\n"
    code += "print(__version__, environment()['verydeep'])"
    source = Path(__file__).parents[1] / "src"
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(source)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.stdout, done.stderr) == ("0+source 0+source\n", "")


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_a_forked_process_finds_a_lock_free_that_another_thread_held():
    turn, taken, done = Turn(), threading.Event(), threading.Event()

    def hold():
        with turn:
            taken.set()
            done.wait()

    thread = threading.Thread(target=hold)
    thread.start()
    taken.wait()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of forking with threads, from Python 3.12 on
        child = os.fork()
    if child == 0:
        signal.alarm(20)
        with turn:
            os._exit(0)
    status = os.waitpid(child, 0)[1]
    done.set()
    thread.join()
    assert status == 0
