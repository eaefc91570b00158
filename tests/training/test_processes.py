"""Several processes train what one process trains, and the job outlives a worker."""

import os
import signal
import subprocess
import sys
import time
from contextlib import nullcontext
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from verydeep.distributed import Processes
from verydeep.weights.resolve import read_card

COMMON = [
    "--recipe",
    "quick",
    "--initialise",
    "glorot",
    "--crop",
    "32",
    "--width",
    "0.125",
    "--precision",
    "fp32",
    "--set",
    "mirror=true",
]
ENVIRONMENT = os.environ | {"OMP_NUM_THREADS": "1"}


@pytest.fixture
def photos(make_folder):
    """33 images are left to train on: the last batch of 8 has a single one."""
    return make_folder("photos", {"dark": 16, "grey": 16, "bright": 16})


def run(*arguments, **options):
    command = [sys.executable, "-m", "verydeep", *map(str, arguments)]
    return subprocess.run(command, env=ENVIRONMENT, capture_output=True, text=True, timeout=300, **options)


def difference(one, other):
    ours, theirs = load_file(one / "model.safetensors"), load_file(other / "model.safetensors")
    return max(float((ours[name] - theirs[name]).abs().max()) for name in ours)


@pytest.mark.parametrize("count", [pytest.param(2, marks=pytest.mark.slow), 3])
def test_several_processes_train_as_one_does(count, photos, verydeep, tmp_path):
    """The last batch of an epoch has fewer images than processes."""
    options = [photos, *COMMON, "--epochs", 3, "--batch-size", 8]
    several = run("train", *options, "--devices", count, "--out", tmp_path / "several")
    assert several.returncode == 0, several.stderr
    assert several.stdout.count("validation images") == 1
    status, said, _ = verydeep("train", *options, "--out", tmp_path / "one")
    assert status == 0
    assert said.count("validation images") == 1
    verydeep("train", photos, *COMMON, "--epochs", 1, "--set", "learning_rate=1e-12", "--out", tmp_path / "before")
    assert difference(tmp_path / "before", tmp_path / "one") > 1e-3
    assert difference(tmp_path / "one", tmp_path / "several") < 1e-5
    assert read_card(tmp_path / "one").errors == read_card(tmp_path / "several").errors


def test_a_mistake_is_said_once(photos, verydeep, tmp_path, monkeypatch):
    out = tmp_path / "taken"
    out.mkdir()
    (out / "thesis.tex").write_text("x")
    done = run("train", photos, *COMMON, "--devices", 2, "--out", out)
    assert done.returncode == 2
    assert done.stderr.count("is not empty") == 1
    assert "Traceback" not in done.stderr
    assert verydeep("train", photos, "--devices", 0)[0] == 2
    monkeypatch.setattr("verydeep.runs.start.process_group", lambda device: nullcontext(Processes(0, 2)))
    assert "several processes need --out" in verydeep("train", photos, *COMMON)[2]


def workers_of(launcher):
    """The processes that torchrun has started, by their rank."""
    found = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            parent = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
            environment = (folder / "environ").read_bytes().split(b"\0")
        except (OSError, IndexError):
            continue
        ranks = [entry for entry in environment if entry.startswith(b"RANK=")]
        if parent == launcher and ranks:
            found[int(ranks[0][5:])] = int(folder.name)
    return found


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="finds the workers under /proc, which only Linux has")
def test_torchrun_goes_on_from_the_last_checkpoint_when_a_worker_is_killed(photos, tmp_path):
    options = [*COMMON, "--epochs", "40", "--batch-size", "8", "--checkpoint-minutes", "0.001", "--resume", "--out"]
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    torchrun += ["--max-restarts", "1", "--monitor-interval", "0.1", "-m", "verydeep", "train", str(photos), *options]
    with (tmp_path / "said").open("w") as said:
        job = subprocess.Popen([*torchrun, str(tmp_path / "run")], env=ENVIRONMENT, stdout=said, stderr=said)
        log = tmp_path / "run" / "log.jsonl"
        deadline = time.monotonic() + 300
        while time.monotonic() < deadline and not (log.exists() and log.read_text().count("\n") > 3):
            time.sleep(0.02)
        victim = workers_of(job.pid)[1]
        os.kill(victim, signal.SIGKILL)
        assert job.wait(timeout=240) == 0, (tmp_path / "said").read_text()
    told = (tmp_path / "said").read_text()
    assert told.count("resuming") == 1
    assert log.read_text().count("\n") == 40
    # in 40 epochs the rounding of two processes grows against one, so the undisturbed job has two as well
    whole = ["train", photos, *COMMON, "--epochs", 40, "--batch-size", 8, "--devices", 2, "--out", tmp_path / "whole"]
    assert run(*whole).returncode == 0
    assert difference(tmp_path / "run", tmp_path / "whole") < 1e-6
    assert not torch.equal(load_file(tmp_path / "whole/model.safetensors")["conv1_1.weight"], torch.zeros(8, 3, 3, 3))
