"""A training loses nothing whichever write fails and whenever it is killed."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.skipif(
    sys.platform != "linux" or shutil.which("cc") is None, reason="the faults need a C compiler and Linux"
)
@pytest.mark.parametrize(
    ("options", "least"),
    [
        (["--first", "2", "--every", "5", "--moments", "4"], 18),
        pytest.param(["--every", "1", "--moments", "30"], 90, marks=pytest.mark.slow),
    ],
    ids=["some", "all"],
)
def test_after_a_fault_anywhere_the_weights_are_those_of_an_undisturbed_training(options, least, tmp_path):
    driver = Path(__file__).with_name("fault_driver.py")
    command = [sys.executable, str(driver), str(tmp_path), *options]
    done = subprocess.run(command, capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stdout + done.stderr
    counted = re.search(r"^0 of (\d+) resumed to other weights$", done.stdout, re.MULTILINE)
    assert counted is not None, done.stdout
    assert int(counted[1]) >= least, done.stdout
