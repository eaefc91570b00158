"""python -m benchmarks.defaults: a stand-in for verydeep, sets of a few files, peers that answer at once."""

import json
import os
import sys
from pathlib import Path

import pytest

from benchmarks import defaults, defaults_peers
from benchmarks.defaults_data import Part, draw
from benchmarks.defaults_run import Case, run_measured
from benchmarks.defaults_table import machine_name, table_rows
from benchmarks.peers.task import Task, fastest
from verydeep.errors import UsageError, UserError

STAND_IN = """
import json, os, pathlib, sys
verb, *rest = sys.argv[1:]
if verb == "train":
    data, _, minutes, _, out, _, seed = rest
    if seed == "3":
        sys.exit("verydeep: no memory left")
    pathlib.Path(out).mkdir()
    plan = {"memory_bytes": 2**30, "cores": len(os.sched_getaffinity(0))}
    images = len(list(pathlib.Path(data).glob("train/*/*")))
    pathlib.Path(out, "run.json").write_text(json.dumps({"plan": plan | {"images": images}, "seed": int(seed)}))
else:
    run, data, _, split = rest[:4]
    seed = json.loads(pathlib.Path(run, "run.json").read_text())["seed"]
    print(json.dumps({"top1_error": seed / 100, "interval95": [0, 1], "num_images": 9, "protocol": "single"}))
"""


@pytest.fixture
def sets(tmp_path):
    """Two classes of 8 files in two splits; nothing reads them as images."""
    for split, count in (("train", 8), ("test", 4)):
        for name in ("dark", "light"):
            folder = tmp_path / "sets" / "shades" / split / name
            folder.mkdir(parents=True)
            for number in range(count):
                (folder / f"{number}.jpg").touch()
    return tmp_path / "sets"


@pytest.fixture
def command(monkeypatch, sets, tmp_path, capsys):
    """Calls the command with rows of the small set; gives the lines of its file and what it printed."""
    program = tmp_path / "stand_in.py"
    program.write_text(STAND_IN)
    rows = {
        "short": defaults.Row("shades", 0.5, 0.015),
        "long": defaults.Row("shades", 10, 0.005, seeds=(1,), peers=True),
        "drawn": defaults.Row("shades", 5, 0.05, draw=(Part("train", "train", 3), Part("test", "test")), seeds=(1, 2),
                              below=defaults.BASELINE),
    }  # fmt: skip
    monkeypatch.setattr(defaults, "ROWS", rows)
    out = tmp_path / "lines" / "defaults.jsonl"

    def call(*options):
        given = ["--data", str(sets), "--out", str(out), "--program", f"{sys.executable} {program}", *options]
        defaults.main(given)
        return [json.loads(line) for line in out.read_text().splitlines()], capsys.readouterr().out

    return call


def test_a_row_is_trained_tested_and_compared_with_its_limit(command):
    lines, printed = command("--rows", "short")
    assert [(line["seed"], line["top1_error"]) for line in lines] == [(0, 0.0), (1, 0.01), (2, 0.02)]
    assert lines[1]["command"].endswith("--minutes 0.5 --out RUN --seed 1")
    assert lines[1]["time_ratio"] == pytest.approx(lines[1]["seconds"] / 30)
    assert lines[1]["planned_memory_bytes"] == 2**30
    assert 0 < lines[1]["peak_memory_bytes"] < 2**28
    row = next(line for line in printed.splitlines() if "verydeep" in line)
    assert "1.00 (0.00, 1.00, 2.00)" in row
    assert "1.50" in row
    assert "yes" in row


def test_what_the_file_has_is_not_measured_again(command):
    assert len(command("--rows", "short")[0]) == 3
    assert len(command("--rows", "short,long")[0]) == 4
    lines, printed = command("--rows", "long", "--again")
    assert len(lines) == 5
    assert "no" in next(line for line in printed.splitlines() if "verydeep" in line)
    assert "short" not in printed


def test_a_failure_is_a_line_with_its_reason_and_is_tried_again(command):
    lines, printed = command("--rows", "short", "--seeds", "3")
    assert lines[0]["failure"] == "exit status 1: verydeep: no memory left"
    assert "no memory left" in printed
    assert len(command("--rows", "short", "--seeds", "3")[0]) == 2


def test_fewer_cores_and_a_busy_process_are_cases_of_the_short_rows(command, monkeypatch):
    monkeypatch.setattr("benchmarks.defaults_run.BUSY", "import time; time.sleep(60)")
    lines, printed = command("--cores", "1", "--busy", "--seeds", "0")
    assert [(line["row"], line["case"], line["plan"]["cores"]) for line in lines] == [
        ("short", "1 core, beside a busy process", 1)
    ]
    assert "1 core" in printed


def test_the_limit_of_a_drawn_row_lies_below_the_baseline_on_the_same_images(command, monkeypatch):
    asked = []

    def peer(name, data, minutes, split, seed, folder):
        asked.append((name, len(list(data.glob("train/*/*"))), seed))
        return {"failure": None, "top1_error": 0.065, "seconds": 1.0, "peak_memory_bytes": 1, "time_ratio": 0.1,
                "plan": None, "planned_memory_bytes": None}  # fmt: skip

    monkeypatch.setattr(defaults, "run_peer", peer)
    lines, printed = command("--rows", "drawn")
    assert asked == [(defaults.BASELINE, 6, 1), (defaults.BASELINE, 6, 2)]
    assert lines[0]["plan"]["images"] == 6
    ours = next(line for line in printed.splitlines() if "verydeep" in line)
    assert "1.50 (1.00, 2.00)" in ours
    assert "yes" in ours  # at most 6.5 - 5
    assert len(command("--rows", "long", "--peers", "timm,fastai", "--only-peers")[0]) == 6
    assert [name for name, _, _ in asked[2:]] == ["timm", "fastai"]


def test_wrong_use(command, sets):
    for options, error in ((("--rows", "hat"), UsageError), (("--peers", "jax"), UsageError)):
        with pytest.raises(error):
            defaults.measure(defaults.read_arguments(list(options)))
    with pytest.raises(UserError, match="--data"):
        defaults.data_of(defaults.Row("shapes", 1, 0), sets, 0, sets)
    with pytest.raises(SystemExit, match="2"):
        command("--rows", "hat")


def test_a_draw_takes_no_image_twice_and_depends_on_its_seed_alone(sets, tmp_path):
    parts = (Part("train", "train", 5), Part("test", "train", 3))
    drawn = [draw(sets / "shades", tmp_path / str(number), parts, seed) for number, seed in enumerate((0, 0, 1))]
    names = [{part: sorted(file.name for file in folder.glob(f"{part}/dark/*")) for part in ("train", "test")}
             for folder in drawn]  # fmt: skip
    assert names[0] == names[1] != names[2]
    assert sorted(names[0]["train"] + names[0]["test"]) == [f"{number}.jpg" for number in range(8)]
    one = draw(sets / "shades", tmp_path / "one", parts, 0, ["light"])
    assert [folder.name for folder in (one / "train").iterdir()] == ["light"]


def test_the_rows_are_those_that_were_asked_for(tmp_path):
    hats = defaults.ROWS["hats"]
    assert sum(part.per_class for part in hats.draw) == 120
    assert hats.draw[1].per_class * len(hats.classes) == 72
    assert [name for name, row in defaults.ROWS.items() if row.peers] == ["hats", "clothing-10", "cifar10-1000"]


def test_memory_of_children_counts_and_shared_pages_once(tmp_path):
    child = "import time; a = b'x' * 64 * 2**20; time.sleep(2)"
    parent = f"import subprocess, sys; a = b'x' * 32 * 2**20; subprocess.run([sys.executable, '-c', {child!r}])"
    ran = run_measured([sys.executable, "-c", parent], os.environ, Case(), tmp_path / "log")
    assert ran.status == 0
    assert 96 * 2**20 < ran.peak_memory_bytes < 180 * 2**20


ANSWERS = """
import json, pathlib, sys
task = json.loads(pathlib.Path(sys.argv[1]).read_text())
images = len(list(pathlib.Path(task["data"]).glob("test/*/*")))
pathlib.Path(sys.argv[2]).write_text(json.dumps(
    {"wrong": 2, "num_images": images, "training_seconds": task["seconds"] / 2, "remark": "stood in"}))
"""


@pytest.fixture
def peer(monkeypatch, tmp_path):
    """A peer whose program stands in a folder of its own."""
    (tmp_path / "root" / "benchmarks" / "peers").mkdir(parents=True)
    (tmp_path / "root" / "benchmarks" / "peers" / "quick.py").write_text(ANSWERS)
    monkeypatch.setattr(defaults_peers, "ROOT", tmp_path / "root")
    monkeypatch.setattr(defaults_peers, "_weights", lambda file: file)
    monkeypatch.setattr(defaults_peers, "environment_of", lambda peer: Path(sys.executable))
    monkeypatch.setitem(defaults_peers.PEERS, "quick", defaults_peers.Peer("quick", ("none",)))
    monkeypatch.setattr(defaults_peers, "MOST_TEST_IMAGES", 6)


def test_a_peer_gets_the_images_and_its_answer_becomes_a_line(peer, sets, tmp_path):
    found = defaults_peers.run_peer("quick", sets / "shades", 1, "test", 0, tmp_path)
    assert found["failure"] is None
    assert (found["top1_error"], found["num_images"], found["time_ratio"]) == (2 / 6, 6, 0.5)
    assert len(list((tmp_path / "peer" / "train").glob("*/*"))) == 16


def test_a_peer_that_cannot_be_installed_or_fails_says_why(peer, sets, tmp_path, monkeypatch):
    (tmp_path / "root" / "benchmarks" / "peers" / "quick.py").write_text("raise SystemExit('no such layer')")
    assert "no such layer" in defaults_peers.run_peer("quick", sets / "shades", 1, "test", 0, tmp_path)["failure"]

    def fails(peer):
        raise defaults_peers.subprocess.CalledProcessError(1, "pip", stderr="note\nERROR: no matching version\n")

    monkeypatch.setattr(defaults_peers, "environment_of", fails)
    found = defaults_peers.run_peer("quick", sets / "shades", 1, "test", 0, tmp_path)
    assert found["failure"] == "cannot be installed: ERROR: no matching version"


def test_the_environment_of_a_peer_has_what_the_running_one_has(monkeypatch, tmp_path):
    monkeypatch.setattr(defaults_peers, "ENVIRONMENTS", tmp_path)
    python = defaults_peers.environment_of(defaults_peers.Peer("quick", ("numpy",)))  # installed already
    done = defaults_peers.subprocess.run([python, "-c", "import numpy; print(numpy.__file__)"], capture_output=True)
    assert not done.stdout.decode().startswith(str(tmp_path))
    assert done.returncode == 0


def test_a_way_that_cannot_be_gone_is_left_out():
    assert fastest({"slow": 2, "broken": 0, "fast": 4}, lambda way: 1 / way) == "fast"


def test_the_classes_of_a_task_are_those_of_its_folders(sets, tmp_path):
    task = Task(data=str(sets / "shades"), seconds=1, seed=0, cores=1, weights="")
    files, labels = task.test_files()
    assert (task.num_images, task.classes, labels) == (16, ["dark", "light"], [0] * 4 + [1] * 4)
    assert files[0].parent.name == "dark"


def test_the_table_of_a_row_without_a_result(tmp_path):
    record = {"row": "a", "who": "verydeep", "case": "", "seed": 0, "minutes": 1, "split": "test", "limit": 0.1}
    machine = {"processor": "x", "cores": 2, "amx": True}
    record |= {"below": None, "failure": "killed", "remark": "", "machine": machine}
    (row,) = table_rows([record])
    assert row[4:7] == ["-", "10.00", "no"]
    assert row[-1] == "killed"
    assert machine_name(record) == "x, 2 cores, AMX"


def test_the_page_of_results_has_a_table_only_of_what_was_measured(command, tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(Path(__file__).parents[2] / "docs")
    from result_pages import _defaults

    assert _defaults(tmp_path / "absent.jsonl") == []
    command("--rows", "long")
    page = "\n".join(_defaults(tmp_path / "lines" / "defaults.jsonl"))
    assert "| long, 10 min on test | verydeep | all cores | 1 | 1.00 (1.00) | 0.50 | no |" in page
