"""A job loses nothing whichever write fails and whenever it is killed."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ALL = ["--every", "1", "--moments", "30"]


@pytest.mark.skipif(
    sys.platform != "linux" or shutil.which("cc") is None, reason="the faults need a C compiler and Linux"
)
@pytest.mark.parametrize(
    ("job", "options", "least"),
    [
        ("train", ["--first", "2", "--every", "5", "--moments", "4"], 18),
        ("features", ["--first", "3", "--every", "9", "--moments", "2"], 6),
        ("fetch", ["--first", "2", "--every", "4", "--moments", "2"], 6),
        pytest.param("train", ALL, 90, marks=pytest.mark.slow),
        pytest.param("localise", ALL, 90, marks=pytest.mark.slow),
        pytest.param("features", ALL, 60, marks=pytest.mark.slow),
        pytest.param("tables", ["--every", "3", "--moments", "10"], 60, marks=pytest.mark.slow),
        pytest.param("fetch", ALL, 50, marks=pytest.mark.slow),
    ],
)
def test_after_a_fault_anywhere_there_is_what_an_undisturbed_job_leaves(job, options, least, tmp_path):
    driver = Path(__file__).with_name("fault_driver.py")
    command = [sys.executable, str(driver), str(tmp_path), "--job", job, *options]
    done = subprocess.run(command, capture_output=True, text=True, timeout=1800)
    assert done.returncode == 0, done.stdout + done.stderr
    counted = re.search(r"^0 of (\d+) resumed to something else$", done.stdout, re.MULTILINE)
    assert counted is not None, done.stdout
    assert int(counted[1]) >= least, done.stdout
