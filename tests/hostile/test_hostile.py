"""A thousand spoilt files over all readers: each is answered, or refused in one line; and those that once were not."""

import os
import sys
from pathlib import Path

import pytest

from tests.hostile.harness import run
from tests.hostile.kinds import KINDS

pytestmark = pytest.mark.skipif(not hasattr(os, "fork") or sys.platform == "darwin", reason="it forks, with limits")

CASES = {"images": 400, "weights": 120, "models": 120, "runs": 60, "boxes": 120, "shards": 60}
"""How many of a kind; 40 of the others."""

FOUND = Path(__file__).with_name("found")


@pytest.mark.parametrize("name", KINDS)
def test_a_spoilt_file_is_answered_or_refused_in_one_line(name):
    counts = run(KINDS[name], range(CASES.get(name, 40)))
    assert not counts.faults, "\n".join(map(str, counts.faults))
    assert counts.refusals, f"nothing was refused: {counts}"


@pytest.mark.parametrize("folder", sorted(FOUND.iterdir()), ids=lambda folder: folder.name)
def test_what_was_found_once_stays_mended(folder):
    """Folders of found cases, named after their kind, such as images-1; of runs, what differs from the seed."""
    kind = KINDS[folder.name.rpartition("-")[0]]
    files = {file.relative_to(folder).as_posix(): file.read_bytes() for file in folder.rglob("*") if file.is_file()}
    if kind.name == "runs":
        files = kind.seeds()[0] | files
    counts = run(kind, [0], files=lambda _: files)
    assert not counts.faults, "\n".join(map(str, counts.faults))
