"""Compares this checkout with another one, by turns: whole commands, and what they say of their own rate.

``python benchmarks/versions.py OTHER [--pairs 10] [--what help,predict,inference,train224,train32,tables,demo]``

OTHER is a checkout of another commit whose kernels are built in place (``python setup.py build_ext --inplace`` there).
Each pair runs one command with this package and then with the other, the next pair the other way round. Printed are the
median of each, and the median of the ratios of the pairs: above 1 this checkout is the faster one.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

HERE = Path(__file__).parents[1]

INFERENCE = """
import sys, time, torch, verydeep
net = verydeep.load(sys.argv[1])
fast = verydeep.accelerate(net)
images = torch.randint(0, 256, (8, 3, 224, 224), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
for batch, calls in ((1, 12), (8, 3)):
    fast(images[:batch])
    taken = []
    for _ in range(calls):
        began = time.perf_counter()
        fast(images[:batch])
        taken.append(time.perf_counter() - began)
    print(batch / sorted(taken)[len(taken) // 2])
"""


class Bench:
    """Runs the package of a checkout in a folder of its own."""

    def __init__(self, work: Path) -> None:
        self.work = work
        self.number = 0

    def run(self, checkout: Path, *arguments: str) -> tuple[float, str]:
        """Runs Python with the package of a checkout; gives seconds and standard output."""
        environment = os.environ | {"PYTHONPATH": str(checkout / "src")}
        began = time.perf_counter()
        done = subprocess.run(
            [sys.executable, *arguments], env=environment, cwd=self.work, capture_output=True, text=True, check=False
        )
        seconds = time.perf_counter() - began
        if done.returncode:
            raise SystemExit(f"{' '.join(arguments)} fails in {checkout}: {done.stderr[-800:]}")
        return seconds, done.stdout

    def verb(self, checkout: Path, *arguments: str) -> tuple[float, str]:
        return self.run(checkout, "-m", "verydeep", *arguments)

    def new(self, name: str) -> str:
        self.number += 1
        return f"{name}{self.number}"


def make_photographs(folder: Path, sizes: dict[str, int], side: int) -> None:
    """Makes class folders of pictures that can be told apart."""
    for split, count in sizes.items():
        for number, name in enumerate(("bright", "dark")):
            (folder / split / name).mkdir(parents=True)
            for index in range(count):
                noise = np.random.default_rng([number, index]).integers(0, 100, (side, side + 8, 3)) + 120 * number
                Image.fromarray(noise.astype(np.uint8)).save(folder / split / name / f"{index}.png")


def training(bench: Bench, data: str, *options: str) -> Callable[[Path], list[float]]:
    def rate(checkout: Path) -> list[float]:
        run = bench.new("run")
        seconds = bench.verb(checkout, "train", data, *options, "--out", run, "--json")[0]
        lines = (bench.work / run / "log.jsonl").read_text(encoding="utf-8").splitlines()
        return [json.loads(lines[-1])["images_per_second"], 1 / seconds]  # of the last epoch: the first one warms up

    return rate


def measurements(bench: Bench) -> dict[str, tuple[list[str], Callable[[Path], list[float]]]]:
    """What can be compared: names of its figures, larger is better, and the function that measures them."""
    work = bench.work
    large = ("--architecture", "D", "--precision", "fp32", "--epochs", "2", "--batch-size", "8", "--recipe", "quick")
    small = ("--architecture", "D", "--batch-norm", "--precision", "fp32", "--epochs", "6", "--batch-size", "128")

    def demo(checkout: Path) -> list[float]:
        run = bench.new("demo")
        net = ("--recipe", "quick", "--batch-norm", "--width", "0.5", "--epochs", "20")
        seconds = bench.verb(checkout, "train", "digits", *net, "--out", run)[0]
        return [1 / (seconds + bench.verb(checkout, "evaluate", run, "digits")[0])]

    def tables(checkout: Path) -> list[float]:
        nets = ("--architectures", "A,B,C,D", "--width", "0.125", "--crop", "32", "--epochs", "1", "--batch-norm")
        return [1 / bench.verb(checkout, "tables", "small", *nets, "--out", bench.new("tables"), "--json")[0]]

    def inference(checkout: Path) -> list[float]:
        return [float(line) for line in bench.run(checkout, "-c", INFERENCE, "d.safetensors")[1].split()]

    def prepare_nets() -> None:
        code = "import verydeep; verydeep.save(verydeep.VeryDeep('D', num_classes=1000), 'd.safetensors')"
        bench.run(HERE, "-c", code)

    prepare_nets()
    make_photographs(work / "large", {"train": 12, "val": 1}, 256)
    make_photographs(work / "small", {"train": 40, "val": 4, "test": 8}, 40)
    make_photographs(work / "many", {"train": 320, "val": 4}, 40)
    photograph = str(next((work / "large" / "train" / "dark").iterdir()))
    return {
        "help": (["--help"], lambda checkout: [1 / bench.verb(checkout, "train", "--help")[0]]),
        "predict": (
            ["cold predict"],
            lambda checkout: [1 / bench.verb(checkout, "predict", "d.safetensors", photograph)[0]],
        ),
        "inference": (["inference D 224, batch 1", "batch 8"], inference),
        "train224": (["training D 224", "its command"], training(bench, "large", *large)),
        "train32": (["training D bn 32", "its command"], training(bench, "many", *small, "--crop", "32")),
        "tables": (["tables, four tiny nets"], tables),
        "demo": (["demo: train, evaluate"], demo),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("other", type=Path)
    parser.add_argument("--pairs", type=int, default=10)
    parser.add_argument("--what", default="help,predict,inference,train224,train32,tables,demo")
    given = parser.parse_args()
    other = given.other.resolve()
    with tempfile.TemporaryDirectory() as folder:
        known = measurements(Bench(Path(folder)))
        for what in given.what.split(","):
            names, measure = known[what]
            pairs: list[dict[Path, list[float]]] = []
            for pair in range(given.pairs):
                order = (HERE, other) if pair % 2 == 0 else (other, HERE)
                pairs.append({checkout: measure(checkout) for checkout in order})
            for figure, name in enumerate(names):
                ours, theirs = ([pair[checkout][figure] for pair in pairs] for checkout in (HERE, other))
                ratios = sorted(one / two for one, two in zip(ours, theirs, strict=True))
                speeds = f"{statistics.median(ours):.4g} a second here, {statistics.median(theirs):.4g} there"
                spread = f"{statistics.median(ratios):.3f} ({ratios[0]:.3f} to {ratios[-1]:.3f}), {len(pairs)} pairs"
                print(f"{name}: {speeds}; ratio {spread}", flush=True)


if __name__ == "__main__":
    main()
