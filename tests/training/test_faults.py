"""A training loses nothing whichever write fails and whenever it is killed."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.skipif(
    sys.platform != "linux" or shutil.which("cc") is None, reason="the faults need a C compiler and Linux"
)
def test_after_a_fault_anywhere_the_weights_are_those_of_an_undisturbed_training(tmp_path):
    """Some of them: the driver itself goes through all, which takes minutes."""
    driver = Path(__file__).with_name("fault_driver.py")
    command = [sys.executable, str(driver), str(tmp_path), "--first", "2", "--every", "5", "--moments", "4"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "0 of 18 resumed to other weights" in done.stdout, done.stdout
