"""What version 0.1.0 wrote, opened and used: it opens until 0.3."""

import json
import shutil
from pathlib import Path
from typing import Any

from .harness import MADE, command, masked, statistics_of


def record() -> dict[str, Any]:
    """Answers of this subject."""
    found: dict[str, Any] = {}
    models = (
        "start.safetensors",
        "finished",
        "finished/checkpoint.safetensors",
        "half.safetensors",
        "timm-names.safetensors",
        "interrupted",
    )
    for model in models:
        found[f"inspect {model}"] = command("inspect", model, "--json").record()["card"]
        found[f"evaluate {model}"] = command("evaluate", model, "photos", "--json").record()
        found[f"predict {model}"] = command(
            "predict", model, "pictures/wide.jpg", "photos/dark/0.png", "--json"
        ).record()
    found["note of an interrupted run"] = command("evaluate", "interrupted", "photos", "--json").err.splitlines()[:1]
    found["saved posteriors"] = command("evaluate", "posteriors.safetensors", "--json").record()
    found["saved posteriors and a run"] = command(
        "evaluate", "posteriors.safetensors", "finished", "photos", "--protocol", "multi-scale", "--compare", "--json"
    ).record()
    for shards in ("shards", "shards/index.json", "shards/{train-{000000..000002},val-000000,test-000000}.tar"):
        found[f"evaluate {shards}"] = command("evaluate", "finished", shards, "--json", "--split", "test").record()
    found["train on shards"] = command(
        "train", "shards", "--recipe", "quick", "--width", "0.01", "--crop", "32", "--epochs", 1, "--device", "cpu",
        "--precision", "fp32", "--out", "from-shards", "--json",
    ).record()  # fmt: skip
    found["weights of a finished run"] = statistics_of("finished")
    found["resume a finished run"] = _resumed("finished")
    found["resume an interrupted run"] = _resumed("interrupted")
    return found | {"resume after damage to the newest checkpoint": _resumed_after_damage()}


def _resumed(run: str) -> dict[str, Any]:
    answer = command("train", "--resume", "--out", run, "--json")
    if answer.status:
        return {"status": answer.status, "error": answer.complaint()}
    log = [json.loads(line) for line in Path(run, "log.jsonl").read_text().splitlines()]
    return {"answer": answer.record(), "log": masked(log), "weights": statistics_of(run)}


def _resumed_after_damage() -> dict[str, Any]:
    shutil.copytree(MADE / "interrupted", "damaged")
    file = Path("damaged/checkpoint.safetensors")
    file.write_bytes(file.read_bytes()[:1000])
    return _resumed("damaged")
