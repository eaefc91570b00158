"""One, two and four processes train the same plain net: the largest difference of a weight after 20 updates.

    python benchmarks/processes_agree.py

Each trains by the command a user would give (``verydeep train digits --devices N``), in float32, one epoch of 20
updates of 65 images, the last of 60, so that the processes' shares are uneven. The control is one process that adds up
the same batch in two parts (``--micro-batch 33``): it differs by rounding alone.
"""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

from safetensors.torch import load_file
from torch import Tensor

COMMON = "--recipe paper --initialise glorot --set schedule=constant --batch-size 65 --epochs 1 --width 0.25"
INPUTS = {
    "pixels divided by their deviation, rate 0.01": ["--set", "input_divisor=deviation"],
    "the paper's pixels, minus their mean only, rate 0.001": ["--set", "learning_rate=0.001"],
    "the paper's pixels, rate 0.01": [],
}
WAYS = {"2 processes": ["--devices", "2"], "4 processes": ["--devices", "4"], "two parts": ["--micro-batch", "33"]}


def trained(out: Path, *options: str) -> dict[str, Tensor]:
    command = [sys.executable, "-m", "verydeep", "train", "digits", *COMMON.split(), "--precision", "fp32", *options]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run([*command, "--out", str(out)], env=environment, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(done.stderr)
    return load_file(out / "model.safetensors")


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        for number, (name, options) in enumerate(INPUTS.items()):
            whole = trained(Path(folder) / f"{number}", *options)
            largest = max(float(tensor.abs().max()) for key, tensor in whole.items() if tensor.ndim > 1)
            print(f"{name} (largest weight {largest:.2f}):")
            for way, how in WAYS.items():
                other = trained(Path(folder) / f"{number}-{way}", *options, *how)
                differences = {key: float((whole[key] - other[key]).abs().max()) for key in whole}
                worst = max(differences, key=lambda key: differences[key])
                print(
                    f"  one process against {way}: largest difference {differences[worst]:.1e}, in {worst}", flush=True
                )


if __name__ == "__main__":
    main()
