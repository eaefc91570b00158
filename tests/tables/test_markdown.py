"""The published tables and verdicts are what ``tables --from`` prints."""

from pathlib import Path

import pytest

RESULTS = Path(__file__).parents[2] / "results"
BEGINNING = '{"kind": "about"'
PUBLISHED = [file for file in sorted(RESULTS.glob("*.jsonl")) if file.read_text("utf-8").startswith(BEGINNING)]


@pytest.mark.parametrize("file", PUBLISHED, ids=lambda file: file.stem)
def test_the_published_tables_and_verdicts_are_printed_again_byte_for_byte(verydeep, file):
    status, printed, _ = verydeep("tables", "--from", file, "--markdown")
    assert status == 0
    assert "**Table 3**" in printed
    assert "**The paper's claims**" in printed
    assert printed in (RESULTS / "README.md").read_text(encoding="utf-8")
