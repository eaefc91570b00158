"""What lies in a folder of runs, in every state a run can be in, and what differs between two of them."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from conftest import StopAfter
from verydeep.errors import UserError
from verydeep.nets.net import VeryDeep
from verydeep.nets.stored_net import CHECKPOINT_FILE
from verydeep.runs.fit import fit
from verydeep.runs.listing import compare_runs, list_runs, summarise
from verydeep.runs.resume import resume
from verydeep.training.recipe import find_recipe
from verydeep.training.run_lock import is_locked

RECIPE = find_recipe("quick", epochs=2, batch_size=16)


@pytest.fixture(autouse=True)
def in_a_folder_of_its_own(tmp_path, monkeypatch, in_fp32):
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def photos(make_folder):
    return make_folder("photos", {"dark": 24, "bright": 24})


def train(photos, out, recipe=RECIPE, **options):
    return fit(VeryDeep("A", num_classes=2, crop=32, width=0.125), photos, recipe=recipe, out=out, **options)


def test_each_run_says_its_state_and_its_error(photos, verydeep, monkeypatch):
    trained = train(photos, "runs/done")
    clock = iter(range(10**9))
    monkeypatch.setattr("verydeep.training.loop.time.perf_counter", lambda: float(next(clock)))
    train(photos, "runs/chain/1-paper", reporter=StopAfter(4))
    for name in ("no-json", "no-checkpoint", "a-list", "half"):
        train(photos, f"runs/{name}", find_recipe("quick", epochs=1, batch_size=64))
    Path("runs/no-json/run.json").write_text("{")
    Path("runs/a-list/run.json").write_text("[1]")
    Path("runs/half/run.json").write_text('{"data": "photos"}')
    Path("runs/no-checkpoint", CHECKPOINT_FILE).write_bytes(b"nothing")
    Path("runs/holiday").mkdir()
    Path("runs/notes.txt").touch()

    status, out, err = verydeep("runs", "--json")
    assert (status, err) == (0, "")
    found = {run["folder"]: run for run in json.loads(out)["runs"]}
    assert {name: run["state"] for name, run in found.items()} == {
        "runs/a-list": "damaged", "runs/chain/1-paper": "interrupted", "runs/done": "finished", "runs/half": "damaged",
        "runs/holiday": "no run", "runs/no-checkpoint": "damaged", "runs/no-json": "damaged",
    }  # fmt: skip
    done = found["runs/done"]
    assert (done["top1_error"], done["protocol"], done["split"]) == (trained.top1_error, "single", "val")
    assert (done["data"], done["epochs"], done["most_epochs"], done["recipe"]) == (str(photos), 2, 2, "quick")
    begun = found["runs/chain/1-paper"]
    assert (begun["epochs"], begun["protocol"], begun["split"]) == (1, "centre", "val")

    status, out, err = verydeep("runs")
    assert (status, err) == (0, "")
    assert "runs/no-json/run.json cannot be read" in out
    assert "runs/half/run.json lacks what a run has ('net')" in out
    assert "verydeep train --resume --out RUN" in out
    assert verydeep("runs", "nowhere")[2].startswith("verydeep: no folder nowhere")


def test_a_run_that_is_trained_now_is_running_and_nobody_else_resumes_it(photos):
    folder = train(photos, "runs/one").run
    holds = (
        "import sys, time; from pathlib import Path; from verydeep.training.run_lock import locked\n"
        f"with locked(Path({str(folder)!r})):\n print('held', flush=True); time.sleep(60)"
    )
    process = subprocess.Popen([sys.executable, "-c", holds], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        assert summarise(folder).state == "running"
        with pytest.raises(UserError, match=rf"another process \({process.pid} on .*\) trains runs/one: wait"):
            resume(folder, data="nowhere")  # nothing is read before the lock is taken
    finally:
        process.kill()
        process.communicate()
    assert summarise(folder).state == "finished"  # the lock of a killed process is free
    assert resume(folder).finished
    assert not is_locked(folder)


def test_what_differs_between_two_runs(photos, verydeep):
    train(photos, "runs/a")
    train(photos, "runs/b", find_recipe("quick", epochs=1, batch_size=16, learning_rate=0.01), seed=1)
    found = {(one.about, one.name): (one.first, one.second) for one in compare_runs(Path("runs/a"), Path("runs/b"))}
    assert found["recipe", "learning_rate"] == (0.02, 0.01)
    assert found["options", "seed"] == (0, 1)
    assert ("training", "net") not in found
    status, out, _ = verydeep("runs", "--compare", "a", "runs/b")
    assert status == 0
    assert "learning_rate" in out
    status, out, _ = verydeep("runs", "--compare", "a", "b", "--json")
    assert {"about": "recipe", "name": "epochs", "first": 2, "second": 1} in json.loads(out)["differences"]
    assert verydeep("runs", "--compare", "a", "runs/a")[0] == 2
    assert "no run there" in verydeep("runs", "--compare", "a", "c")[2]


def test_no_runs_yet(verydeep):
    assert verydeep("runs") == (0, "No runs yet: verydeep train DATA makes one.\n", "")
    Path("runs").mkdir()
    assert verydeep("runs") == (0, "No runs yet: verydeep train DATA makes one.\n", "")
    assert list_runs(Path("runs")) == []
