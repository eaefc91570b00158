"""The paper's story of section 3.1 on small images: plain nets from noise, from Glorot and Kaiming, and grown from A.

    python benchmarks/growing.py .cache/cifar10

trains every net of RUNS on the data into runs/growing/ (what is done already is not done again) and writes the curves
to results/growing.jsonl: one line per run and epoch. The errors are of the held-out validation images; the test images
are not touched. ``--only-write`` trains nothing and writes what there is.
"""

import argparse
import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from verydeep.files import atomic_write, read_lines

FOLDER, RESULTS = Path("runs/growing"), Path("results/growing.jsonl")
COMMON = "--recipe paper --set schedule=cosine --batch-size 128 --crop 32 --width 0.5"


@dataclass(frozen=True)
class Row:
    """One training: its net, where its weights come from, for how long."""

    name: str
    architecture: str
    initialise: str
    epochs: int = 8
    grown_from: str | None = None


RUNS = (
    Row("A glorot", "A", "glorot"),
    Row("A glorot, trained on", "A", "glorot", grown_from="A glorot"),
    Row("D glorot", "D", "glorot"),
    Row("D grown from A, gaussian between", "D", "gaussian", grown_from="A glorot"),
    Row("D kaiming", "D", "kaiming"),
    Row("D grown from A, glorot between", "D", "glorot", grown_from="A glorot"),
    Row("D gaussian", "D", "gaussian"),
    Row("A gaussian", "A", "gaussian"),
    Row("D glorot, as long as A and D together", "D", "glorot", epochs=16),
)


def folder_of(name: str, seed: int) -> Path:
    return FOLDER / f"{name.replace(',', '').replace(' ', '-')}-seed{seed}"


def train(row: Row, data: str, seed: int) -> None:
    """Trains one net by the command a user would give, or goes on with it."""
    out = folder_of(row.name, seed)
    if (out / "report.html").exists():
        return
    command = [sys.executable, "-m", "verydeep", "train"]
    if (out / "checkpoint.safetensors").exists():
        command += ["--resume", "--out", str(out)]
    else:
        command += [data, "--architecture", row.architecture, "--initialise", row.initialise, *COMMON.split()]
        command += ["--epochs", str(row.epochs), "--seed", str(seed), "--out", str(out)]
        if row.grown_from:
            command += ["--init-from", str(folder_of(row.grown_from, seed))]
    print(" ".join(command[2:]), flush=True)
    subprocess.run(command, check=True)


def write(seeds: int) -> None:
    """Writes the curves of the runs there are."""
    RESULTS.parent.mkdir(exist_ok=True)
    lines = []
    for seed in range(seeds):
        for row in RUNS:
            log = folder_of(row.name, seed) / "log.jsonl"
            for record in read_lines(log) if log.exists() else []:
                kept = {key: record[key] for key in ("epoch", "loss", "train_error", "val_top1_error", "learning_rate")}
                lines.append({"run": row.name, "architecture": row.architecture, "seed": seed, **kept})
    with atomic_write(RESULTS) as temporary:
        temporary.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--only-write", action="store_true")
    options = parser.parse_args()
    for seed in range(options.seeds):
        for row in RUNS if not options.only_write else ():
            train(row, options.data, seed)
            write(options.seeds)
    write(options.seeds)


if __name__ == "__main__":
    main()
