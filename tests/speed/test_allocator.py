"""The allocator settings, in a process of their own: they cannot be taken back."""

import os
import subprocess
import sys

TUNE = """
import sys
import verydeep
assert "torch" not in sys.modules
print(verydeep.tune_allocator())
"""

IMPORT = """
import ctypes, os
ctypes.CDLL = None  # who tells the allocator something needs it
before = dict(os.environ)
import verydeep.speed.allocator
assert dict(os.environ) == before
"""

HUGE = """
import os
from verydeep.speed.allocator import use_huge_pages
use_huge_pages()
print(os.environ["THP_MEM_ALLOC_ENABLE"])
"""


def printed(code: str, **environment: str) -> str:
    """What a new process prints, whose environment says nothing of huge pages but what is given."""
    inherited = {name: value for name, value in os.environ.items() if name != "THP_MEM_ALLOC_ENABLE"}
    command = [sys.executable, "-c", code]
    answer = subprocess.run(command, capture_output=True, text=True, check=True, env=inherited | environment)
    return answer.stdout.strip()


def test_settings_are_taken_by_glibc_and_by_nothing_else():
    assert printed(TUNE) == str(sys.platform.startswith("linux"))


def test_an_import_changes_nothing():
    printed(IMPORT)


def test_huge_pages_are_asked_for_unless_the_environment_decides():
    assert printed(HUGE) == "1"
    assert printed(HUGE, THP_MEM_ALLOC_ENABLE="0") == "0"
