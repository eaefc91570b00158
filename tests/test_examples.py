"""The notebooks run from top to bottom in their small form, and are stored without outputs."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[1] / "examples"
NOTEBOOKS = sorted(file.name for file in EXAMPLES.glob("*.ipynb"))

RUN = """
import json, sys
space = {"__name__": "__main__"}
cells = json.loads(open(sys.argv[1], encoding="utf-8").read())["cells"]
for number, cell in enumerate(cells):
    if cell["cell_type"] == "code":
        exec(compile("".join(cell["source"]), f"cell {number}", "exec"), space)
"""
"""What a notebook is to Python: its cells in one namespace. matplotlib draws into nothing."""

SAYS = {
    "paper_tables.ipynb": [
        "138.4",
        "3 of 3x3 see 7x7: 27C²",
        "Table 3",
        "Table 4",
        "Table 5",
        "Table 6",
        "untestable here",
    ],
    "your_photographs.ipynb": ["train: 80 images", "start: vgg16-features", "linear classifier:", "True"],
    "what_a_net_sees.ipynb": ["80 photographs to learn from", "(80, 512)", "the mean over them is the score: True"],
}


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_it_is_stored_clean(name):
    notebook = json.loads((EXAMPLES / name).read_text(encoding="utf-8"))
    assert (notebook["nbformat"], notebook["metadata"].keys()) == (4, {"kernelspec", "language_info"})
    for cell in notebook["cells"]:
        assert cell["metadata"] == {}
        assert cell["cell_type"] == "markdown" or (cell["outputs"], cell["execution_count"]) == ([], None)


@pytest.mark.parametrize("name", SAYS)
def test_it_runs_and_says_what_it_shows(name, tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", RUN, EXAMPLES / name],
        cwd=tmp_path,
        env=os.environ | {"MPLBACKEND": "Agg", "MPLCONFIGDIR": str(tmp_path / "matplotlib")},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    for words in SAYS[name]:
        assert words in done.stdout
    assert not (tmp_path / "runs").exists()
