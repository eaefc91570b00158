"""Runs the experiments of results/plan.md, one after another; what is done is not done again.

    nice python -m benchmarks.claims_experiments --data .cache > runs/claims.log 2>&1 &
    python -m benchmarks.claims_experiments --data .cache --only chain
    python -m benchmarks.claims_experiments --data .cache --plan

``--data`` holds the folders cifar10 and clothing. Everything lies below ``--out``; the results of each experiment are
copied to results/claims-NAME.jsonl as they come. Whatever stops it, even kill -9: the same command resumes.
"""

import argparse
import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from benchmarks.clothing_thirds import split
from verydeep.tables.rows import RESULTS_FILE
from verydeep.training.run_folder import RESULT_FILE, SETTINGS_FILE

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "results"
SEEDS = 3
SECONDS_BETWEEN_COPIES = 60


@dataclass(frozen=True)
class Experiment:
    """One row of results/plan.md.

    Attributes:
        name: of its folder, and of its file in results/.
        arguments: of ``verydeep tables``, without --out.
        trainings: commands of ``verydeep train`` that come before, by their run folders.
    """

    name: str
    arguments: str
    trainings: tuple[tuple[str, str], ...] = ()

    @property
    def command(self) -> list[str]:
        return ["tables", *shlex.split(self.arguments), "--out", self.name]

    @property
    def file(self) -> Path:
        return RESULTS / f"claims-{self.name}.jsonl"


_CIFAR = "data/cifar10 --crop 32 --width 0.25 --seeds 3"
_SMALL = "--batch-norm --recipe small-images"
_THIRDS = "data/clothing-thirds"


def _tuned(block: str) -> list[tuple[str, str]]:
    """The trainings from the authors' net: the first settles the plan, the others differ in their seed alone."""
    first = f"tuned-{block}-seed0"
    pinned = f"--crop 128 --minutes 20 --set trainable={block} --set epochs=8"
    others = [(f"tuned-{block}-seed{seed}", f"{_THIRDS} --like {first} --seed {seed}") for seed in range(1, SEEDS)]
    return [(first, f"{_THIRDS} {pinned} --seed 0"), *others]


_TUNED = {block: _tuned(block) for block in ("conv5", "conv4")}
_MODELS = {block: ",".join(name for name, _ in runs) for block, runs in _TUNED.items()}

EXPERIMENTS = {
    row.name: row
    for row in (
        Experiment(
            "chain",
            f"{_THIRDS} --architectures A --batch-norm --crop 64 --width 0.5 --recipe small-images --set batch_size=32 "
            "--set learning_rate=0.02 --chain --epochs 80 --chain-epochs 40 --train-scale 73 --train-scale 64,96 "
            "--test-scales 64,96,128 --protocols centre,single,multi-scale --seeds 3",
        ),
        Experiment(
            "tuned",
            f"{_THIRDS} --models {_MODELS['conv5']},{_MODELS['conv4']} --test-scales 128,160,192,224,256 "
            "--protocols centre,single,multi-scale",
            (*_TUNED["conv5"], *_TUNED["conv4"]),
        ),
        Experiment(
            "tuned-crops",
            f"{_THIRDS} --models {_MODELS['conv5']} --test-scales 160,224",
            tuple(_TUNED["conv5"]),
        ),
        Experiment(
            "jitter",
            f"{_CIFAR} --architectures B {_SMALL} --epochs 20 --train-scale 37 --train-scale 42 --train-scale 32,42 "
            "--test-scales 37,42 --protocols centre,multi-crop",
        ),
        Experiment(
            "lrn",
            f"{_CIFAR} --architectures A,A-LRN,B,B-5x5 --recipe paper --set schedule=cosine --set batch_size=64 "
            "--epochs 20 --train-scale 37 --test-scales 32,37 --protocols centre,single",
        ),
        Experiment(
            "depth",
            f"{_CIFAR} --architectures A,B,C,D,E {_SMALL} --epochs 30 --train-scale 37 --test-scales 32,37 "
            "--protocols centre,single",
        ),
    )
}
"""The experiments by name, in the order in which they are run: the shortest first."""


def prepare(data: Path, out: Path) -> None:
    """Makes the folder of the experiments, with links to the data, so that no result has a path of this machine."""
    (out / "data").mkdir(parents=True, exist_ok=True)
    link = out / "data" / "cifar10"
    if not link.is_symlink():
        link.symlink_to((data / "cifar10").resolve())
    split(data / "clothing", out / "data" / "clothing-thirds")


def run(experiment: Experiment, out: Path) -> None:
    """Trains and tests what is missing of an experiment.

    Raises:
        SystemExit: a command failed.
    """
    for name, arguments in experiment.trainings:
        if command := training_command(out / name, name, arguments):
            _call(command, out)
    _call(experiment.command, out, experiment)


def training_command(folder: Path, name: str, arguments: str) -> list[str] | None:
    """The command that begins a training or resumes it; None where it is done."""
    if (folder / RESULT_FILE).is_file():
        return None
    if (folder / SETTINGS_FILE).is_file():
        return ["train", "--resume", "--out", name]
    return ["train", *shlex.split(arguments), "--out", name]


def _call(command: Sequence[str], out: Path, experiment: Experiment | None = None) -> None:
    print(shlex.join(["verydeep", *command]), flush=True)
    with _child(command, out) as child:
        while True:
            try:
                status = child.wait(SECONDS_BETWEEN_COPIES)
            except subprocess.TimeoutExpired:
                status = None
            if experiment is not None:
                copy_results(experiment, out)
            if status is not None:
                break
    if status:
        raise SystemExit(f"verydeep {command[0]} ended with {status}: the same command resumes")


@contextmanager
def _child(command: Sequence[str], out: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A process of the command line, which is asked to stop, and saves, where this one is."""
    child = subprocess.Popen([sys.executable, "-m", "verydeep", *command], cwd=out)
    try:
        yield child
    finally:
        if child.poll() is None:
            child.terminate()
            child.wait()


def copy_results(experiment: Experiment, out: Path) -> None:
    """Copies the results as they are; the old file stays whole until the new one is."""
    source = out / experiment.name / RESULTS_FILE
    if source.is_file() and not (experiment.file.is_file() and source.read_bytes() == experiment.file.read_bytes()):
        beside = experiment.file.with_suffix(".part")
        shutil.copyfile(source, beside)
        beside.replace(experiment.file)


def core_hours(experiment: Experiment, out: Path) -> float:
    """What is left of an experiment by ``verydeep tables --plan``, times the cores; its trainings by --minutes."""
    minutes = 20 * sum(training_command(out / name, name, text) is not None for name, text in experiment.trainings)
    seconds = 60.0 * minutes
    if not minutes:
        command = [sys.executable, "-m", "verydeep", *experiment.command, "--plan", "--json"]
        seconds = json.loads(subprocess.run(command, cwd=out, check=True, capture_output=True).stdout)["seconds"]
    return seconds * (os.cpu_count() or 1) / 3600


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="holds the folders cifar10 and clothing")
    parser.add_argument("--out", type=Path, default=ROOT / "runs" / "claims")
    parser.add_argument("--only", choices=EXPERIMENTS, action="append", help="repeatable")
    parser.add_argument("--plan", action="store_true", help="only say how many core-hours are left")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    prepare(options.data, options.out)
    for name in options.only or EXPERIMENTS:
        if options.plan:
            print(f"{name}: {core_hours(EXPERIMENTS[name], options.out):.1f} core-hours", flush=True)
        else:
            run(EXPERIMENTS[name], options.out)


if __name__ == "__main__":
    main()
