"""What the package answers is what was recorded at 8913b96, or what was changed on purpose since (see README.md)."""

import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from compare import SUBJECTS, differences, keep, read

ROOT = Path(__file__).parents[2]
_SHOWN = 20


@pytest.fixture(scope="session")
def answered(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Callable[[str], dict]:
    """Gives what is answered now, in a process of its own: of all subjects that this session asks for, once."""
    asked = {item.callspec.params.get("subject") for item in request.session.items if hasattr(item, "callspec")}
    out = tmp_path_factory.mktemp("golden")
    package = Path(importlib.util.find_spec("verydeep").origin).parents[1]
    path = os.pathsep.join(filter(None, [str(package), os.environ.get("PYTHONPATH")]))
    command = [sys.executable, "-m", "tests.golden.record", "--out", out, *(name for name in SUBJECTS if name in asked)]
    done = subprocess.run(
        command, cwd=ROOT, env=os.environ | {"PYTHONPATH": path}, capture_output=True, text=True, timeout=500
    )
    assert done.returncode == 0, done.stderr

    def answer(subject: str) -> dict:
        return json.loads((out / f"{subject}.json").read_text(encoding="utf-8"))

    return answer


@pytest.mark.xdist_group("golden")  # asked once, in one process
@pytest.mark.parametrize("subject", SUBJECTS)
def test_answers_are_those_that_were_recorded(subject, answered):
    found = list(differences(read(subject), answered(subject)))
    assert not found, "\n".join(
        [
            f"{len(found)} answers of {subject} have changed:",
            *found[:_SHOWN],
            "If that is meant: python -m tests.golden.record, a look at the diff, a line in CHANGELOG.md",
        ]
    )


RECORD = {
    "text": "no data 'x'",
    "status": 2,
    "posterior": [0.25, 0.75],
    "top5_error": None,
    "tensor": {"abs_mean": 0.01, "first": [0.0001, 100.0], "mean": -0.5},
}


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("text", "no data 'y'"),
        ("status", 1),
        ("status", True),
        ("posterior", [0.25003, 0.75]),
        ("posterior", [0.25]),
        ("posterior", [0.25, float("nan")]),
        ("top5_error", 0.0),
        ("tensor", {"abs_mean": 0.01, "first": [0.00011, 100.0], "mean": -0.5}),
        ("tensor", {"abs_mean": 0.01, "first": [0.0001, 100.02], "mean": -0.5}),
        ("tensor", {"abs_mean": 0.01, "first": [0.0001, 100.0]}),
        ("new", 1),
    ],
)
def test_a_change_is_seen(key, value):
    found = list(differences(RECORD, RECORD | {key: value}))
    assert len(found) == 1
    assert found[0].startswith(f"/{key}")
    assert keep(RECORD, RECORD | {key: value}) != RECORD


def test_rounding_is_no_change():
    rounded = RECORD | {
        "posterior": [0.25001, 0.74999],
        "tensor": {"abs_mean": 0.010000001, "first": [0.0001005, 100.005], "mean": -0.500001},
    }
    assert not list(differences(RECORD, rounded))
    assert keep(RECORD, rounded) == RECORD


def test_what_is_gone_is_seen():
    found = list(differences(RECORD, {key: value for key, value in RECORD.items() if key != "text"}))
    assert found == ["/text: is gone, and was \"no data 'x'\""]
