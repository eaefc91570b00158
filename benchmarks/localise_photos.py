"""Localisers of few photographs beside simple answers, over several splits: the error given the true class.

    python -m benchmarks.localise_photos .cache/raccoon_voc --splits 5 --out results/localisation.jsonl

DATA is a folder of Pascal VOC. For each seed a fifth of the images is drawn for the test, and ``verydeep localise
train`` and ``evaluate``, with nothing else on the command line, have the others. Beside them on the same images: the
mean box, the whole image, and ridge regression of the box of the largest object on the map after the last pooling of
vgg16-features, of the picture squashed to 224 pixels, its penalty by cross-validation on the training images.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from jaxtyping import Float
from numpy import ndarray

from verydeep.data.boxes.boxed import BoxedImages
from verydeep.data.boxes.open import open_boxed
from verydeep.images.geometry import size_of
from verydeep.images.resample import resample
from verydeep.localisation.boxes import iou
from verydeep.machine import environment
from verydeep.weights.resolve import load

SIDE: Final = 224
PENALTIES: Final = (0.03, 0.1, 0.3, 1.0, 3.0)
"""Beside the mean square length of a map."""
PROTOCOLS: Final = {
    "centre": ("--protocol", "centre"),
    "full": ("--protocol", "full"),
    "full, three scales": ("--protocol", "full", "--test-scales", "224,256,288"),
}
TEST_SHARE: Final = 0.2
FOLDS: Final = 5


def draw(source: Path, into: Path, seed: int) -> Path:
    """Links a set, with lists of its own: a fifth of the images for the test."""
    into.mkdir(parents=True)
    for folder in "Annotations", "JPEGImages":
        (into / folder).symlink_to((source / folder).resolve())
    names = sorted(file.stem for file in (source / "Annotations").glob("*.xml"))
    order = np.random.default_rng(seed).permutation(len(names))
    count = round(TEST_SHARE * len(names))
    lists = into / "ImageSets" / "Main"
    lists.mkdir(parents=True)
    for split, part in (("test", order[:count]), ("train", order[count:])):
        (lists / f"{split}.txt").write_text("".join(f"{names[index]}\n" for index in sorted(part)), encoding="utf-8")
    return into


def share_wrong(answers: Float[ndarray, "n 4"], images: BoxedImages) -> float:
    """Of images whose answer, as shares of the picture, overlaps no object by more than a half."""
    wrong = 0
    for index, answer in enumerate(answers):
        width, height = size_of(images.images.pixels(index))
        box = answer * np.array([width, height, width, height])
        wrong += float(iou(box[None], np.asarray(images.boxes[index])).max()) <= 0.5
    return wrong / len(images)


def largest(images: BoxedImages) -> Float[ndarray, "n 4"]:
    """The largest box of each image, as shares of the picture."""
    found = []
    for index in range(len(images)):
        boxes = np.asarray(images.boxes[index])
        width, height = size_of(images.images.pixels(index))
        areas = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
        found.append(boxes[areas.argmax()] / np.array([width, height, width, height]))
    return np.stack(found)


def maps_of(images: BoxedImages) -> Float[ndarray, "n d"]:
    """The map of each squashed picture, in one row."""
    net, rows = load("vgg16-features"), []
    for index in range(len(images)):
        squashed = resample(images.images.pixels(index), (SIDE, SIDE), (0, 0, SIDE, SIDE))
        with torch.inference_mode():
            rows.append(net.features(torch.from_numpy(squashed).permute(2, 0, 1)[None]).flatten().numpy())
    return np.stack(rows).astype(np.float64)


def ridge(
    maps: Float[ndarray, "n d"], boxes: Float[ndarray, "n 4"], others: Float[ndarray, "m d"], penalty: float
) -> Float[ndarray, "m 4"]:
    centre, mean = maps.mean(0), boxes.mean(0)
    rows = maps - centre
    gram = rows @ rows.T
    weights = np.linalg.solve(gram + penalty * np.trace(gram) / len(rows) * np.eye(len(rows)), boxes - mean)
    answers: ndarray = (others - centre) @ (rows.T @ weights) + mean
    return answers


def by_ridge(train: Sequence[BoxedImages], test: BoxedImages) -> float:
    maps, boxes = np.concatenate([maps_of(one) for one in train]), np.concatenate([largest(one) for one in train])
    parts = np.arange(len(maps)) % FOLDS

    def loss(penalty: float) -> float:
        squares = [
            (
                (ridge(maps[parts != part], boxes[parts != part], maps[parts == part], penalty) - boxes[parts == part])
                ** 2
            )
            for part in range(FOLDS)
        ]
        return float(np.concatenate(squares).mean())

    return share_wrong(ridge(maps, boxes, maps_of(test), min(PENALTIES, key=loss)), test)


def measure(source: Path, seed: int, folder: Path) -> dict[str, Any]:
    data, run = draw(source, folder / "data", seed), folder / "run"
    program = [sys.executable, "-m", "verydeep", "localise"]
    began = time.perf_counter()
    subprocess.run([*program, "train", str(data), "--out", str(run)], check=True, capture_output=True)
    record: dict[str, Any] = {"seconds": time.perf_counter() - began}
    for name, options in PROTOCOLS.items():
        command = [*program, "evaluate", str(run), str(data), "--split", "test", "--json", *options]
        answer = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
        record[name] = answer["localisation_error"]
    boxed = open_boxed(data)
    assert boxed.test is not None
    parts, test = (boxed.train, boxed.val), boxed.test
    mean = np.concatenate([largest(one) for one in parts]).mean(0)
    record["ridge"] = by_ridge(parts, test)
    record["mean box"] = share_wrong(np.tile(mean, (len(test), 1)), test)
    record["whole image"] = share_wrong(np.tile([0.0, 0.0, 1.0, 1.0], (len(test), 1)), test)
    return record | {"num_train": sum(map(len, parts)), "num_test": len(test)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--splits", type=int, default=5)
    parser.add_argument("--first", type=int, default=0, help="seed of the first split")
    parser.add_argument("--out", type=Path, default=Path("results/localisation.jsonl"))
    options = parser.parse_args()
    rows = []
    for seed in range(options.first, options.first + options.splits):
        with tempfile.TemporaryDirectory() as folder:
            row = {"what": "photographs", "data": options.data.name, "seed": seed}
            row |= measure(options.data, seed, Path(folder)) | {"environment": environment()}
        rows.append(row)
        print(json.dumps(row), file=sys.stderr, flush=True)
        with options.out.open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")
    for name in (*PROTOCOLS, "ridge", "mean box", "whole image"):
        errors = [100 * row[name] for row in rows]
        print(f"{name:20s} {np.mean(errors):5.1f}%  ({', '.join(f'{error:.1f}' for error in errors)})")


if __name__ == "__main__":
    main()
