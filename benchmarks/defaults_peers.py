"""Others on the same images for the same minutes: makes the environment of each, and runs its program there.

An environment lies in .cache/peers-venv; what the running one has, PyTorch above all, is not installed again.
"""

import json
import os
import shutil
import subprocess
import sys
import venv
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.compare.environment import child_environment
from benchmarks.defaults_data import Part, class_names, draw
from benchmarks.defaults_run import Case, run_measured
from benchmarks.peers.task import Task
from verydeep.machine import num_cores
from verydeep.testing.metrics import interval95

ROOT = Path(__file__).parents[1]
ENVIRONMENTS = ROOT / ".cache" / "peers-venv"
BASELINE = "HOG + linear SVM"
MOST_TEST_IMAGES = 2000
"""They are drawn of a larger test split: at 224 a hundred images take up to a minute."""


@dataclass(frozen=True)
class Peer:
    """A program of benchmarks/peers, what it needs, and the side of its images."""

    program: str
    packages: tuple[str, ...]
    size: int = 224


PEERS = {
    BASELINE: Peer("hog_svm", ("scikit-image",), 64),
    "Keras tutorial, 224": Peer("keras_tutorial", ("tensorflow-cpu",)),
    "Keras tutorial, 150": Peer("keras_tutorial", ("tensorflow-cpu",), 150),  # the side in the tutorial itself
    "fastai": Peer("fastai_tune", ("fastai",)),
    "timm": Peer("timm_script", ("timm", "torchvision")),
}


def run_peer(name: str, data: Path, minutes: float, split: str, seed: int, folder: Path) -> dict[str, Any]:
    """Trains and tests a peer; the fields of a line that tell what came of it, or why nothing did.

    Args:
        name: of the peer.
        data: a folder with train and the split, by our name or by that of the data.
        minutes: for training.
        split: that the error is of.
        seed: of the training.
        folder: for the images, the answer and the logs.
    """
    peer = PEERS[name]
    nothing: dict[str, Any] = {"plan": None, "planned_memory_bytes": None}
    try:
        python = environment_of(peer)
        task = Task(
            data=str(_images(data, split, seed, folder / "peer")),
            seconds=60 * minutes,
            seed=seed,
            cores=num_cores(),
            weights=str(_weights(ENVIRONMENTS / "vgg16-features.weights.h5")),
            size=peer.size,
        )
    except subprocess.CalledProcessError as error:
        last = ((error.stderr or "").strip().splitlines() or ["it says nothing"])[-1]
        return nothing | {"failure": f"cannot be installed: {last}"}
    task.write(folder / "task.json")
    program = ROOT / "benchmarks" / "peers" / f"{peer.program}.py"
    command = [str(python), str(program), str(folder / "task.json"), str(folder / "answer.json")]
    ran = run_measured(command, _child_environment(), Case(), folder / "peer.log")
    found = nothing | {"seconds": ran.seconds, "peak_memory_bytes": ran.peak_memory_bytes, "failure": ran.failure}
    if ran.failure is None:
        answer = json.loads((folder / "answer.json").read_text(encoding="utf-8"))
        share = answer["wrong"] / answer["num_images"]
        found |= {
            "top1_error": share,
            "interval95": interval95(share, answer["num_images"]),
            "num_images": answer["num_images"],
            "training_seconds": answer["training_seconds"],
            "time_ratio": answer["training_seconds"] / task.seconds,
            "remark": answer["remark"],
        }
    return found


def environment_of(peer: Peer) -> Path:
    """Makes the environment of a peer where there is none; its Python.

    Raises:
        CalledProcessError: what it needs cannot be installed.
    """
    folder = ENVIRONMENTS / peer.packages[0]
    python = folder / "bin" / "python"
    done = folder / "installed"
    if not done.exists():
        shutil.rmtree(folder, ignore_errors=True)
        venv.create(folder, with_pip=False, symlinks=True)
        site = next(folder.glob("lib/python*/site-packages"))
        ours = [path for path in sys.path if path.endswith(("site-packages", "dist-packages"))]
        (site / "ours.pth").write_text("\n".join(ours) + "\n", encoding="utf-8")
        install = [str(python), "-m", "pip", "install", "--quiet", *peer.packages]
        subprocess.run(install, check=True, capture_output=True, text=True)
        done.touch()
    return python


def _child_environment() -> dict[str, str]:
    paths = [str(ROOT / "src"), str(ROOT)]
    return child_environment(num_cores(), tuned=True) | {"PYTHONPATH": os.pathsep.join(paths)}


def _weights(file: Path) -> Path:
    """The convolutions of vgg16-features as Keras has them."""
    if not file.exists():
        export = [sys.executable, "-m", "verydeep", "weights", "export", "vgg16-features", "--to", "keras"]
        subprocess.run(
            [*export, "--out", str(file)], check=True, capture_output=True, text=True, env=_child_environment()
        )
    return file


def _images(data: Path, split: str, seed: int, into: Path) -> Path:
    """Links the images to train on, and those to test on or a part of them, as train and test."""
    source = next(
        name
        for name in ("validation", "val", "test")
        if (data / name).is_dir() and (name == "test") == (split == "test")
    )
    each = MOST_TEST_IMAGES // len(class_names(data / source))
    counts = [sum(1 for _ in (data / source / name).iterdir()) for name in class_names(data / source)]
    part = Part("test", source, each if min(counts) > each else None)
    return draw(data, into, (Part("train", "train"), part), seed)
