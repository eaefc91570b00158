"""What every verb answers to --json."""

import csv
import json
import shutil
from pathlib import Path
from typing import Any

from .harness import PICTURES, command, masked, save_net

_TRAIN = ("--recipe", "quick", "--batch-norm", "--width", "0.1", "--crop", "32", "--batch-size", "6", "--epochs", "1",
          "--init-from", "a.safetensors", "--set", "dropout=0", "--device", "cpu", "--precision", "fp32")  # fmt: skip
_TEN = tuple(map(str, range(10)))


def record() -> dict[str, Any]:
    """Answers of this subject."""
    save_net("A-bn", "a.safetensors")
    save_net("C", "c.safetensors")
    save_net("A-bn-narrow", "ten.safetensors", classes=_TEN)
    found: dict[str, Any] = {}
    for group in (_train, _evaluate, _predict, _tables, _inspect, _weights, _data):
        found |= group()
    return found


def _all(calls: dict[str, tuple[object, ...]]) -> dict[str, Any]:
    return {title: command(*arguments, "--json").record() for title, arguments in calls.items()}


def _train() -> dict[str, Any]:
    found = _all({"train": ("train", "photos", *_TRAIN, "--out", "run")})
    run = masked(_read_json("run/run.json"))
    plan = _all({"train --plan": ("train", "photos", *_TRAIN, "--plan")})
    return found | {"train, its run.json": run} | _without_measurements(plan)


def _without_measurements(plans: dict[str, Any]) -> dict[str, Any]:
    """Of a plan the keys, and what is counted; times, memory and room on the disk are measured."""
    counted = {"parameters", "macs", "images", "num_images", "epochs", "iterations", "net", "data", "batch_size"}
    return {
        title: {key: value if key in counted else "*" for key, value in plan.items()} for title, plan in plans.items()
    }


def _evaluate() -> dict[str, Any]:
    save = ("--save", "posteriors-a.safetensors")
    return _all(
        {
            "evaluate": ("evaluate", "a.safetensors", "photos"),
            "evaluate a run": ("evaluate", "run", "photos", "--split", "train", "--protocol", "centre", *save),
            "evaluate ten classes": ("evaluate", "ten.safetensors", "digits", "--per-class"),
            "evaluate several, compared": ("evaluate", "a.safetensors", "c.safetensors", "run", "photos", "--compare"),
            "evaluate several, per class": (
                "evaluate", "a.safetensors", "c.safetensors", "photos", "--per-class", "--protocol", "multi-scale",
            ),
            "evaluate, scales given": (
                "evaluate", "c.safetensors", "photos", "--test-scales", "40,50", "--split", "val",
            ),
            "evaluate saved": ("evaluate", "posteriors-a.safetensors"),
        }
    )  # fmt: skip


def _predict() -> dict[str, Any]:
    found = _all(
        {
            "predict": ("predict", "a.safetensors", *[f"pictures/{file.name}" for file in sorted(PICTURES.iterdir())]),
            "predict a folder": ("predict", "ten.safetensors", "pictures", "--top", 2, "--csv", "answers.csv"),
            "predict a pattern": ("predict", "run", "photos/*/1.png"),
            "predict with heat maps": ("predict", "c.safetensors", "pictures/wide.jpg", "--heatmap", "maps"),
        }
    )
    with Path("answers.csv").open(newline="") as lines:
        rows = [row | {"posterior": float(row["posterior"])} for row in csv.DictReader(lines)]
    return found | {"predict, its table": rows}


def _tables() -> dict[str, Any]:
    options = (
        "--architectures", "A,B", "--batch-norm", "--width", "0.05", "--crop", "32", "--train-scale", "32,48",
        "--recipe", "quick", "--epochs", "2", "--set", "batch_size=6", "--precision", "fp32", "--device", "cpu",
    )  # fmt: skip
    found = _all(
        {
            "tables": ("tables", "photos", *options, "--set", "dropout=0", "--out", "tables"),
            "tables --from": ("tables", "--from", "tables"),
            "tables --models": (
                "tables", "photos", "--models", "a.safetensors,c.safetensors", "--device", "cpu", "--out", "of-models",
            ),
        }
    )  # fmt: skip
    found["tables --from"] = {"the same as tables": found["tables --from"] == found["tables"]}
    return found | _without_measurements(_all({"tables --plan": ("tables", "photos", *options, "--plan")}))


def _inspect() -> dict[str, Any]:
    names = ("A", "A-LRN", "B", "C", "D", "E", "B-5x5", "vgg19_bn")
    whole = _all(
        {
            "inspect C, crop 64, 10 classes": ("inspect", "C", "--crop", 64, "--classes", 10),
            "inspect A-LRN": ("inspect", "A-LRN"),
            "inspect vgg11_bn": ("inspect", "vgg11_bn", "--crop", 32),
            "inspect a model": ("inspect", "a.safetensors"),
            "inspect a run, checked": ("inspect", "run", "--check"),
        }
    )
    for answer in whole.values():
        if keys := sorted(answer["layers"][0]):
            answer["layers"] = [keys, *([layer[key] for key in keys] for layer in answer["layers"])]
    short = {f"inspect {name}, counts": command("inspect", name, "--json").record() for name in names}
    return whole | {title: {k: v for k, v in one.items() if k != "layers"} for title, one in short.items()}


def _weights() -> dict[str, Any]:
    """The import stands among the formats; only a net of the paper's width can be exported to another program."""
    import verydeep

    net = verydeep.VeryDeep("D", initialisation=None, features_only=True)
    for tensor in net.state_dict().values():
        tensor.fill_(1)
    verydeep.save(net, "features.safetensors")
    found = _all(
        {
            "weights list": ("weights", "list"),
            "weights export to keras": (
                "weights", "export", "features.safetensors", "--to", "keras", "--out", "d.weights.h5",
            ),
            "weights export to hub": ("weights", "export", "run", "--to", "hub", "--out", "hub"),
        }
    )  # fmt: skip
    card = [
        line for line in Path("hub/README.md").read_text().splitlines() if line.startswith(("#", "license", "tags"))
    ]
    return found | {
        "weights export to hub, the card": card,
        "weights export to hub, its config": masked(_read_json("hub/config.json")),
    }


def _data() -> dict[str, Any]:
    shutil.copytree("photos", "ill")
    shutil.copy("ill/dark/0.png", "ill/grey/same.png")
    Path("ill/dark/none.png").touch()
    Path("ill/dark/text.jpg").write_text("no image")
    shutil.copy("pictures/grey.png", "ill/dark/grey.png")
    shutil.copytree("photos/dark", "split/train/dark")
    shutil.copytree("photos/grey", "split/train/grey")
    shutil.copytree("photos/grey", "split/val/grey")
    return _all(
        {
            "doctor": ("doctor", "photos"),
            "doctor of ill data": ("doctor", "ill"),
            "doctor of splits": ("doctor", "split"),
            "shards": ("shards", "photos", "new-shards", "--size", "8K"),
            "shards, damaged left out": ("shards", "ill", "ill-shards", "--damaged", "skip"),
            "evaluate on shards": ("evaluate", "a.safetensors", "new-shards"),
            "evaluate, damaged left out": (
                "evaluate", "a.safetensors", "ill", "--split", "train", "--damaged", "skip", "--protocol", "centre",
            ),
            "fetch": ("fetch",),
        }
    )  # fmt: skip


def _read_json(file: str) -> object:
    return json.loads(Path(file).read_text(encoding="utf-8"))
