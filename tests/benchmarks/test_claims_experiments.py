"""The experiments of results/plan.md: what is written there is what runs, and what is done is not done again."""

import json
import shlex
from pathlib import Path

import pytest

import benchmarks.claims_experiments as module
from benchmarks.claims_experiments import EXPERIMENTS, Experiment, copy_results, prepare, run, training_command

PLAN = Path(__file__).parents[2] / "results" / "plan.md"


@pytest.fixture
def verbs(monkeypatch, tmp_path):
    """What the command line is asked for; the fake does it by leaving the files that the real one would."""
    asked = []

    class Process:
        def __init__(self, command, cwd):
            self.arguments = command[3:]
            asked.append(shlex.join(self.arguments))
            folder = cwd / self.arguments[self.arguments.index("--out") + 1]
            folder.mkdir(exist_ok=True)
            (folder / ("results.jsonl" if self.arguments[0] == "tables" else "result.json")).write_text("{}\n")

        def wait(self, timeout=None):
            return 0

        def poll(self):
            return 0

    monkeypatch.setattr(module.subprocess, "Popen", Process)
    monkeypatch.setattr(module, "RESULTS", tmp_path / "results")
    (tmp_path / "results").mkdir()
    return asked


@pytest.mark.parametrize("experiment", EXPERIMENTS.values(), ids=lambda one: one.name)
def test_every_command_stands_in_the_plan(experiment):
    written = PLAN.read_text(encoding="utf-8")
    commands = [["train", *shlex.split(text), "--out", name] for name, text in experiment.trainings]
    for command in (*commands, experiment.command):
        assert shlex.join(["verydeep", *command]) in written
    assert f"claims-{experiment.name}.jsonl" in written


def test_an_experiment_trains_then_tests_and_its_results_are_copied(verbs, tmp_path):
    experiment = Experiment("small", "data/x --seeds 3", (("one", "data/x --seed 0"), ("two", "data/x --like one")))
    out = tmp_path / "out"
    out.mkdir()
    run(experiment, out)
    assert verbs == [
        "train data/x --seed 0 --out one",
        "train data/x --like one --out two",
        "tables data/x --seeds 3 --out small",
    ]
    assert (tmp_path / "results/claims-small.jsonl").read_text() == "{}\n"
    del verbs[:]
    run(experiment, out)
    assert verbs == ["tables data/x --seeds 3 --out small"]  # which does nothing twice by itself


def test_a_training_that_was_killed_is_resumed(tmp_path):
    folder = tmp_path / "one"
    assert training_command(folder, "one", "data/x --seed 0") == ["train", "data/x", "--seed", "0", "--out", "one"]
    folder.mkdir()
    (folder / "run.json").write_text("{}")
    assert training_command(folder, "one", "data/x") == ["train", "--resume", "--out", "one"]
    (folder / "result.json").write_text("{}")
    assert training_command(folder, "one", "data/x") is None


def test_a_copy_is_whole_and_made_only_where_something_is_new(monkeypatch, tmp_path):
    monkeypatch.setattr(module, "RESULTS", tmp_path)
    experiment = EXPERIMENTS["depth"]
    copy_results(experiment, tmp_path / "out")
    assert not list(tmp_path.glob("*.jsonl"))
    (tmp_path / "out/depth").mkdir(parents=True)
    (tmp_path / "out/depth/results.jsonl").write_text(json.dumps({"kind": "about"}))
    copy_results(experiment, tmp_path / "out")
    before = experiment.file.stat().st_mtime_ns
    copy_results(experiment, tmp_path / "out")
    assert experiment.file.stat().st_mtime_ns == before
    assert [file.name for file in tmp_path.iterdir() if file.is_file()] == ["claims-depth.jsonl"]


def test_the_data_are_links_without_a_path_of_this_machine(tmp_path):
    for part in ("cifar10/train/cat", "clothing/train/hat", "clothing/validation/hat"):
        (tmp_path / "data" / part).mkdir(parents=True)
        for number in range(6):
            (tmp_path / "data" / part / f"{number}.jpg").write_bytes(b"x")
    out = tmp_path / "out"
    for _ in range(2):
        prepare(tmp_path / "data", out)
    assert (out / "data/cifar10/train/cat/0.jpg").is_file()
    thirds = out / "data/clothing-thirds"
    counts = [len(list((thirds / split / "hat").iterdir())) for split in ("train", "val", "test")]
    assert counts == [4, 6, 2]
