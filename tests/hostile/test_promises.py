"""The page of promises names tests that are there, and limits that are those of the code."""

import ast
import re
from pathlib import Path

import pytest

from verydeep.images.decode import _MOST_PIXELS
from verydeep.images.geometry import LONGEST, MOST_PIXELS

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/promises.md").read_text(encoding="utf-8")
NAMED = re.findall(r"`(tests/[\w/]+\.py)::(test_\w+)`", PAGE)


@pytest.mark.parametrize(("file", "name"), NAMED, ids=[name for _, name in NAMED])
def test_the_test_of_a_promise_is_there(file, name):
    tree = ast.parse((ROOT / file).read_text(encoding="utf-8"))
    assert name in {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}


def test_every_promise_has_a_test():
    tables = PAGE.partition("## Systems")[0]
    promises = [line for line in tables.splitlines() if line.startswith("| ") and not line.startswith("| promise")]
    assert len(promises) == len(NAMED) > 20


def test_the_limits_are_those_of_the_code():
    assert f"more than {_MOST_PIXELS:,} pixels" in PAGE
    assert f"more than {LONGEST} times as long" in PAGE
    assert f"more than {MOST_PIXELS:,} pixels after rescaling" in PAGE


def test_security_md_points_to_the_promises():
    assert "docs/promises.md" in (ROOT / "SECURITY.md").read_text(encoding="utf-8")
