"""Trains the same nets in float32 with this package's kernel and without it: the same errors, in less time.

    python benchmarks/kernel_trains_alike.py .cache/clothing/clothing

trains A with batch norm at 64 for five epochs, three seeds, by the command a user would give, into runs/kernel/ (what
is done already is not done again), tests each net on the validation images and writes
results/bench/training_alike.json. The recipe is that of the README's row for the same set.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

from verydeep.files import atomic_write, read_lines

FOLDER, RESULTS = Path("runs/kernel"), Path("results/bench/training_alike.json")
RECIPE = "--recipe small-images --batch-size 32 --set learning_rate=0.02 --precision fp32 --architecture A --batch-norm"
WITHOUT = {"VERYDEEP_KERNEL": "none"}


def run(arguments: list[str], environment: dict[str, str]) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "verydeep", *arguments], env=os.environ | environment, capture_output=True, text=True
    )
    if done.returncode:
        sys.exit(done.stderr)
    return done.stdout


def row(data: str, seed: int, shape: list[str], *, kernel: bool) -> dict[str, Any]:
    out, environment = FOLDER / f"{'with' if kernel else 'without'}-seed{seed}", {} if kernel else WITHOUT
    if not (out / "report.html").exists():
        run(["train", data, *RECIPE.split(), *shape, f"--seed={seed}", f"--out={out}"], environment)
    logged = read_lines(out / "log.jsonl")
    tested = json.loads(run(["evaluate", str(out), data, "--split", "val", "--json"], environment))
    return {
        "kernel": kernel,
        "seed": seed,
        "choice": json.loads((out / "run.json").read_text())["choice"],
        "train_error": logged[-1]["train_error"],
        "top1_error": tested["top1_error"],
        "num_images": tested["num_images"],
        "seconds_training": sum(line["seconds"] for line in logged),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--crop", type=int, default=64)
    parser.add_argument("--width", type=float, default=1.0)
    options = parser.parse_args()
    shape = [f"--epochs={options.epochs}", f"--crop={options.crop}", f"--width={options.width}"]
    rows = [row(options.data, seed, shape, kernel=kernel) for seed in range(options.seeds) for kernel in (True, False)]
    summary = {}
    for kernel in (True, False):
        mine = [line for line in rows if line["kernel"] is kernel]
        assert all(line["choice"].get("kernel", False) is kernel for line in mine), "the kernel is not there"
        for figure in ("train_error", "top1_error", "seconds_training"):
            values = [line[figure] for line in mine]
            summary[f"{'with' if kernel else 'without'}: {figure}"] = {
                "mean": statistics.mean(values),
                "deviation": statistics.stdev(values) if len(values) > 1 else None,
            }
    RESULTS.parent.mkdir(parents=True, exist_ok=True)
    with atomic_write(RESULTS) as file:
        file.write_text(json.dumps({"arguments": vars(options), "rows": rows, "summary": summary}, indent=2) + "\n")
    print(json.dumps(summary, indent=2))


if __name__ == "__main__":
    main()
