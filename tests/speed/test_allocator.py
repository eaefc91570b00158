"""The allocator settings, in a process of their own: they cannot be taken back."""

import subprocess
import sys

CODE = """
import sys
import verydeep
assert "torch" not in sys.modules
print(verydeep.tune_allocator())
import ctypes
kept = ctypes.CDLL(None).malloc
"""


def test_settings_are_taken_by_glibc_and_by_nothing_else():
    answer = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True, check=True)
    assert answer.stdout.strip() == str(sys.platform.startswith("linux"))


def test_an_import_changes_nothing():
    code = "import os; before = dict(os.environ); import verydeep.speed.allocator; assert dict(os.environ) == before"
    subprocess.run([sys.executable, "-c", code], check=True)
