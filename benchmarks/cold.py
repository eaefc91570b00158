"""Measures short commands and shared machines: a photograph in a new process, and the speed beside busy processes.

Files are in the system's cache. The contenders take turns in every round; medians are printed.

Example: python -m benchmarks.cold --rounds 5
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Sequence
from pathlib import Path

from benchmarks.compare.environment import Ran, run_process

_SETTINGS = ("OMP_", "GOMP_", "MKL_", "KMP_")
_BUSY = "while True: pass"
_SECONDS = 4.0

_WORK = """
import sys, time
import numpy as np
from verydeep.cli.options import prepare_process
if sys.argv[3] == "as the command line":
    prepare_process()
from verydeep.speed.backend import find_compute, make_test_backend
from verydeep.weights.resolve import open_net
net = open_net(sys.argv[1])
backend = make_test_backend(net, find_compute("cpu"))
images = np.random.default_rng(0).integers(0, 256, (8, net.geometry.crop, net.geometry.crop, 3), np.uint8)
for _ in range(3):
    backend.maps(images)
begin, done = time.perf_counter(), 0
while time.perf_counter() - begin < float(sys.argv[2]):
    backend.maps(images)
    done += len(images)
print(done / (time.perf_counter() - begin))
"""


def clean_environment(**more: str) -> dict[str, str]:
    """The environment without what somebody has set for threads."""
    return {name: value for name, value in os.environ.items() if not name.startswith(_SETTINGS)} | more


def write_nets(folder: Path) -> dict[str, tuple[str, int]]:
    """Writes D with random weights; names the models with the test scale Q of each."""
    import torch

    from verydeep import VeryDeep
    from verydeep.nets.model_file import save

    net = VeryDeep("D", generator=torch.Generator().manual_seed(0))
    save(net, folder / "D.safetensors")
    return {"D": (str(folder / "D.safetensors"), 256), "verydeep-cifar10": ("verydeep-cifar10", 37)}


def write_graph(model: str, scale: int, photograph: Path, file: Path) -> None:
    """Exports the score map of the view of a photograph and its mirror image, by torch's exporter."""
    import torch
    from torch import Tensor, nn

    from verydeep import load
    from verydeep.images.decode import read_image
    from verydeep.images.geometry import rescaled_size

    net = load(model)

    class ScoreMap(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = net

        def forward(self, images: Tensor) -> Tensor:
            return self.net.score_map(images)

    width, height = (side // 32 * 32 for side in rescaled_size(read_image(photograph).size, scale))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter's own
        example = torch.zeros(2, 3, height, width).uniform_(0, 255)
        torch.onnx.export(ScoreMap().eval(), (example,), file, dynamo=True, verbose=False)


def in_turns(commands: dict[str, Sequence[str]], rounds: int) -> dict[str, Ran]:
    """Runs each command once and then in turns; the median of the seconds and the largest peak of memory."""
    runs: dict[str, list[Ran]] = {name: [] for name in commands}
    for number in range(rounds + 1):
        for name, command in commands.items():
            ran = run_process(command, clean_environment())
            if number:  # the first puts the files into the system's cache
                runs[name].append(ran)
    return {
        name: Ran(statistics.median(run.seconds for run in of), max(run.peak_memory_bytes for run in of), of[0].output)
        for name, of in runs.items()
    }


def rate(model: str, mode: str, busy: int, **environment: str) -> float:
    """Images/s of batches of 8 beside processes that only take time."""
    others = [subprocess.Popen([sys.executable, "-c", _BUSY]) for _ in range(busy)]
    try:
        command = [sys.executable, "-c", _WORK, model, str(_SECONDS), mode]
        done = subprocess.run(command, env=clean_environment(**environment), capture_output=True, text=True, check=True)
        return float(done.stdout)
    finally:
        for other in others:
            other.kill()
            other.wait()


def main() -> None:
    """Prints one JSON object a row."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photograph", type=Path, help="a file [one of scikit-learn's two]")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument(
        "--what", choices=("predict", "help", "beside"), nargs="*", default=["predict", "help", "beside"]
    )
    given = parser.parse_args()
    if given.photograph is None:
        from benchmarks.compare.photographs import find_photographs

        given.photograph = find_photographs(None, 1)[0]
    with tempfile.TemporaryDirectory() as folder:
        models = write_nets(Path(folder))
        for name, (model, scale) in models.items():
            if "predict" in given.what:
                graph = Path(folder) / f"{name}.onnx"
                write_graph(model, scale, given.photograph, graph)
                script = str(Path(__file__).parent / "compare" / "onnx_script.py")
                commands: dict[str, Sequence[str]] = {
                    "verydeep predict": [sys.executable, "-m", "verydeep", "predict", model, str(given.photograph)],
                    "ONNX Runtime": [sys.executable, script, str(graph), str(scale), str(given.photograph)],
                }
                for who, ran in in_turns(commands, given.rounds).items():
                    _print(what="predict, new process", net=name, who=who, seconds=round(ran.seconds, 3),
                           peak_megabytes=ran.peak_memory_bytes // 10**6)  # fmt: skip
            if "beside" in given.what:
                for mode in ("as the command line", "as a library"):
                    alone = rate(model, mode, 0, OMP_NUM_THREADS="1")
                    rates = [rate(model, mode, busy) for busy in (0, 1, 2)]
                    _print(what="batches of 8 beside busy processes", net=name, who=mode, one_thread_alone=alone,
                           beside_0_1_2=rates, share_of_one_core=[each / alone for each in rates])  # fmt: skip
        if "help" in given.what:
            ran = in_turns({"help": [sys.executable, "-m", "verydeep", "--help"]}, given.rounds)["help"]
            verb = in_turns({"help": [sys.executable, "-m", "verydeep", "predict", "--help"]}, given.rounds)["help"]
            _print(what="--help", seconds=round(ran.seconds, 3), of_a_verb=round(verb.seconds, 3))


def _print(**row: object) -> None:
    print(json.dumps(row | {"at": time.strftime("%H:%M:%S")}), flush=True)


if __name__ == "__main__":
    main()
