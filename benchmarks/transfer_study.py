"""What transfer gains on small sets of photographs, beside older descriptors; each study is one line of a results file.

    python benchmarks/transfer_study.py clothing FOLDER
    python benchmarks/transfer_study.py scales FOLDER --per-class 60 --splits 5
    python benchmarks/transfer_study.py baselines FOLDER --per-class 30 --splits 3
    python benchmarks/transfer_study.py animal RACCOONS PHOTOS --per-class 30 --splits 5

``clothing`` times the verb from start to end on the data's own splits. ``scales`` compares test scales, the mean and
the maximum over positions, square roots, and several scales stacked or averaged. ``baselines`` compares descriptors of
vgg16-features with raw pixels, HOG (which needs OpenCV) and verydeep-cifar10. ``animal`` tells one kind of photographs
from all others. All descriptors get the same classifier, splits and seeds. ``--append results/transfer.jsonl`` keeps
the line; ``python docs/result_pages.py`` puts it on the page of results.
"""

import argparse
import json
import shlex
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy import ndarray
from PIL import Image

from verydeep.data.listing import image_files
from verydeep.errors import UserError
from verydeep.files import append_line
from verydeep.testing.descriptors import DescriptorOptions, describe
from verydeep.testing.metrics import interval95
from verydeep.transfer.classifier import fit_classifier
from verydeep.transfer.metrics import accuracy, mean_class_recall
from verydeep.transfer.options import TransferOptions
from verydeep.transfer.splits import Split, TransferData, make_splits, open_for_transfer
from verydeep.weights.resolve import load

SCALES = (128, 160, 224)
Rows = Callable[[TransferData], ndarray]


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def vgg(data: TransferData, *, model: str, **options: Any) -> ndarray:  # noqa: ANN401 - fields of DescriptorOptions
    """Descriptors of every image of the data."""
    given = DescriptorOptions(**options)
    return np.concatenate([describe([load(model)], images, given) for images in data.sets])


def pixels(data: TransferData, *, of: Callable[[ndarray], ndarray], side: int) -> ndarray:
    rows = []
    for images in data.sets:
        for index in range(len(images)):
            picture = images.read(index).resize((side, side), Image.Resampling.BILINEAR)
            rows.append(of(np.asarray(picture)))
    return np.stack(rows).astype(np.float32)


def hog(picture: ndarray) -> ndarray:
    """Histograms of oriented gradients (Dalal and Triggs, 2005): cells of 8, blocks of 16, nine directions."""
    import cv2

    descriptor = cv2.HOGDescriptor((64, 64), (16, 16), (8, 8), (8, 8), 9)
    found: ndarray = np.asarray(descriptor.compute(cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY))).ravel()
    return found


def flat(picture: ndarray) -> ndarray:
    return picture.ravel() / np.float32(255)


def unit(rows: ndarray) -> ndarray:
    scaled: ndarray = rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)
    return scaled


def measure(rows: ndarray, data: TransferData, splits: Sequence[Split], seconds: float) -> dict[str, Any]:
    """Fits and measures a classifier on each split; errors and recalls are fractions."""
    errors, recalls, chosen = [], [], []

    def right(scores: ndarray, targets: ndarray) -> float:
        return accuracy(scores.argmax(1), targets.argmax(1))

    begun = time.perf_counter()
    for split in splits:
        fitted = fit_classifier(rows[split.train], data.targets[split.train], data.classes, right, seed=split.seed)
        predicted, labels = fitted.scores(rows[split.test]).argmax(1), data.labels[split.test]
        errors.append(1 - accuracy(predicted, labels))
        recalls.append(mean_class_recall(predicted, labels, len(data.classes)))
        chosen.append(fitted.c)
    return {
        "errors": errors,
        "recalls": recalls,
        "c": chosen,
        "dimensions": rows.shape[1],
        "num_images": len(splits[0].test),
        "describing": seconds,
        "fitting": time.perf_counter() - begun,
    }


def compare(rows: Mapping[str, Rows], data: TransferData, splits: Sequence[Split]) -> dict[str, dict[str, Any]]:
    found = {}
    for name, make in rows.items():
        begun = time.perf_counter()
        try:
            described = make(data)
        except ImportError as error:
            say(f"{name}: left out, {error}")
            continue
        found[name] = measure(described, data, splits, time.perf_counter() - begun)
        say(f"{name}: {shown(found[name]['errors'])}% error")
    return found


def shown(fractions: Sequence[float]) -> str:
    spread = f" ± {100 * statistics.stdev(fractions):.2f}" if len(fractions) > 1 else ""
    return f"{100 * statistics.mean(fractions):.2f}{spread}"


def table(found: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    rows = [
        [
            name,
            f"{one['dimensions']:,}",
            shown(one["errors"]),
            shown(one["recalls"]),
            ", ".join(f"{c:g}" for c in one["c"]),
        ]
        for name, one in found.items()
    ]
    columns = ["descriptor", "numbers", "top-1 error", "mean class recall", "C of each split"]
    return {"columns": columns, "rows": rows, "values": found}


def scales_study(data: TransferData, splits: Sequence[Split]) -> dict[str, dict[str, Any]]:
    """Each scale and pooling is computed once; what combines them is as ``Describer`` has it."""
    at: dict[tuple[str, int], ndarray] = {}
    seconds: dict[tuple[str, int], float] = {}
    for pool in ("mean", "max"):
        for scale in SCALES:
            begun = time.perf_counter()
            at[pool, scale] = vgg(data, model="vgg16-features", test_scales=(scale,), mirror=False, pool=pool)
            seconds[pool, scale] = time.perf_counter() - begun
            say(f"{pool} at {scale}: {seconds[pool, scale]:.1f} s")
    rows = {f"{pool}, Q = {scale}": at[pool, scale] for pool, scale in at}
    for pool in ("mean", "max"):
        parts = [at[pool, scale] for scale in SCALES]
        rows[f"{pool}, Q = 128, 160, 224 stacked"] = unit(np.concatenate(parts, 1))
        rows[f"{pool}, Q = 128, 160, 224 averaged"] = unit(np.mean(parts, 0))
    for scale in SCALES:
        rows[f"square root of the mean, Q = {scale}"] = unit(np.sqrt(at["mean", scale]))  # up to a factor an image
    roots = [rows[f"square root of the mean, Q = {scale}"] for scale in SCALES]
    rows["square root of the mean, Q = 128, 160, 224 stacked"] = unit(np.concatenate(roots, 1))
    found = {}
    for name, described in rows.items():
        found[name] = measure(described, data, splits, 0.0)
        say(f"{name}: {shown(found[name]['errors'])}% error")
    return found


def baselines(with_mirror: bool) -> dict[str, Rows]:
    return {
        "raw pixels, 32x32": partial(pixels, of=flat, side=32),
        "HOG of 64x64": partial(pixels, of=hog, side=64),
        "verydeep-cifar10, relu7": partial(vgg, model="verydeep-cifar10", mirror=with_mirror),
        "verydeep-cifar10, pool5 at Q = 96": partial(
            vgg, model="verydeep-cifar10", layer="pool5", test_scales=(96,), mirror=with_mirror
        ),
        "vgg16-features at Q = 160": partial(vgg, model="vgg16-features", test_scales=(160,), mirror=with_mirror),
    }


def linked(raccoons: Path, photos: Path, into: Path) -> Path:
    """Two class folders of links."""
    for name, folder in (("raccoon", raccoons), ("other", photos)):
        (into / name).mkdir()
        for file in image_files(folder):
            (into / name / file.name).symlink_to(file.resolve())
    return into


def clothing(folder: Path) -> dict[str, Any]:
    """The verb from start to end, and the model that it wrote tested by evaluate."""
    with tempfile.TemporaryDirectory() as out:
        rows, values = [], {}
        for how in ("--mirror off", "--mirror on", "--mirror off --root", "--mirror on --root"):
            model = str(Path(out) / how.replace(" ", ""))
            begun = time.perf_counter()
            answer = run("transfer", "vgg16-features", str(folder), *how.split(), "--out", model)
            seconds = time.perf_counter() - begun
            tested = run("evaluate", model, str(folder), "--split", answer["split"])
            low, high = interval95(answer["top1_error"], answer["num_images"])
            error = f"{100 * answer['top1_error']:.2f} ({100 * low:.2f} to {100 * high:.2f})"
            rows.append([how, f"{seconds:.0f}", error, f"{100 * tested['top1_error']:.2f}", answer["split"]])
            values[how] = {"seconds": seconds, "transfer": answer, "evaluate": tested}
            say(f"{how}: {error}% error in {seconds:.0f} s")
    columns = ["options", "seconds in all", "top-1 error (95%)", "the same by evaluate", "measured on"]
    return {"columns": columns, "rows": rows, "values": values}


def run(*arguments: str) -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, "-m", "verydeep", *arguments, "--json"], stdout=subprocess.PIPE, text=True, check=True
    )
    answer: dict[str, Any] = json.loads(done.stdout)
    return {key: value for key, value in answer.items() if key != "model"}  # a temporary folder


def study(given: argparse.Namespace) -> dict[str, Any]:
    if given.what == "clothing":
        return {"title": f"{given.data[0].name} by the verb", **clothing(given.data[0])}
    options = TransferOptions(per_class=given.per_class, splits=given.splits)
    with tempfile.TemporaryDirectory() as temporary:
        folder = given.data[0]
        if given.what == "animal":
            folder = linked(folder, given.data[1], Path(temporary))
        data = open_for_transfer(folder, options)
        splits = make_splits(data, options)
        found = (
            scales_study(data, splits)
            if given.what == "scales"
            else compare(baselines(not given.no_mirror), data, splits)
        )
    titles = {
        "scales": f"{given.data[0].name}: scales, positions, stacking",
        "baselines": f"{given.data[0].name}, {given.per_class} images a class to fit on",
        "animal": f"Raccoons against other photographs, {given.per_class} of each to fit on",
    }
    return {"title": titles[given.what], **table(found)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["clothing", "scales", "baselines", "animal"])
    parser.add_argument("data", type=Path, nargs="+", help="the folder; of animal two: the animal's, and others")
    parser.add_argument("--per-class", type=int, default=30)
    parser.add_argument("--splits", type=int, default=3)
    parser.add_argument("--no-mirror", action="store_true", help="of baselines and animal")
    parser.add_argument("--machine", default="", help="for the page of results")
    parser.add_argument("--date", default="", help="the same")
    parser.add_argument("--remark", default="", help="the same")
    parser.add_argument("--append", type=Path, help="append the line to this file")
    given = parser.parse_args()
    if len(given.data) != (2 if given.what == "animal" else 1):
        parser.error(f"{given.what} takes {'two folders' if given.what == 'animal' else 'one folder'}")
    try:
        found = study(given)
    except UserError as error:
        sys.exit(str(error))
    command = ["python", "benchmarks/transfer_study.py", given.what, *(f".cache/{path.name}" for path in given.data)]
    if given.what != "clothing":
        command += ["--per-class", str(given.per_class), "--splits", str(given.splits)]
        command += ["--no-mirror"] if given.no_mirror else []
    line = {
        "group": "transfer",
        "title": found.pop("title"),
        "date": given.date,
        "machine": given.machine,
        "command": shlex.join(command),
        "remark": given.remark,
        **found,
    }
    if given.append is not None:
        append_line(given.append, line)
    print(json.dumps({name: line[name] for name in ("title", "columns", "rows")}, indent=2))


if __name__ == "__main__":
    main()
