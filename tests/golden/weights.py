"""Weights after short trainings on the CPU in fp32: a few numbers of every tensor, and the lines of the log."""

import json
from pathlib import Path
from typing import Any

from .harness import command, masked, save_net, statistics_of

_OPTIONS = ("--device", "cpu", "--precision", "fp32", "--crop", "32", "--epochs", "2", "--batch-size", "6",
            "--set", "learning_rate=0.001", "--set", "warmup=0")  # fmt: skip
"""Few and small steps: rounding grows from update to update, and differs between the kernel and PyTorch."""

_TEN = tuple(map(str, range(10)))

# The first weights come from a file wherever they can, so that a training is compared and not how it begins.
_TRAININGS: dict[str, tuple[object, ...]] = {
    "plain": ("photos", "--width", "0.05", "--architecture", "B", "--init-from", "B.safetensors", "--set", "dropout=0"),
    "batch norm": (
        "photos", "--batch-norm", "--width", "0.1", "--init-from", "A-bn.safetensors", "--set", "dropout=0",
        "--seed", "3",
    ),
    "digits": (
        "digits", "--architecture", "A-LRN", "--width", "0.05", "--init-from", "plain-ten.safetensors",
        "--set", "dropout=0", "--set", "learning_rate=0.0001", "--epochs", "1", "--batch-size", "128",
    ),
    "fine-tuned from ten classes": (
        "photos", "--recipe", "fine-tune", "--batch-norm", "--width", "0.05", "--init-from", "ten.safetensors",
        "--set", "dropout=0",
    ),
    "the fully connected layers alone": (
        "photos", "--recipe", "paper-jitter-fc", "--set", "dropout=0",
        "--width", "0.05", "--architecture", "B", "--init-from", "B.safetensors",
    ),
    "paper's recipe, best kept": (
        "photos", "--recipe", "paper", "--width", "0.05", "--architecture", "B", "--init-from", "B.safetensors",
        "--set", "dropout=0", "--set", "patience=1", "--keep", "best",
    ),
    "jitter, colours, balance, smoothing": (
        "photos", "--recipe", "small-images", "--train-scale", "32,48", "--set", "colour_shift=true",
        "--set", "balance=sampling", "--set", "dropout=0",
        "--batch-norm", "--width", "0.1", "--init-from", "A-bn.safetensors",
    ),
    "loss balanced, micro-batches, no validation": (
        "photos", "--set", "balance=loss", "--micro-batch", "4", "--no-validation", "--set", "dropout=0",
        "--width", "0.05", "--architecture", "B", "--init-from", "B.safetensors",
    ),
    "gradient checkpointing": (
        "photos", "--gradient-checkpointing", "--set", "dropout=0",
        "--width", "0.05", "--architecture", "B", "--init-from", "B.safetensors",
    ),
    "from nothing": ("photos", "--batch-norm", "--width", "0.01", "--set", "dropout=0", "--seed", "5"),
}  # fmt: skip

_WITH_DROPOUT = (
    "photos", "--width", "0.05", "--architecture", "B", "--init-from", "B.safetensors", "--set", "dropout=0.5",
)  # fmt: skip


def record() -> dict[str, Any]:
    """Answers of this subject."""
    save_net("B", "B.safetensors")
    save_net("A-bn", "A-bn.safetensors")
    save_net("A-bn-narrow", "ten.safetensors", classes=_TEN)
    save_net("A-LRN", "plain-ten.safetensors", classes=_TEN)
    found = {name: _trained(number, arguments) for number, (name, arguments) in enumerate(_TRAININGS.items())}
    found["with dropout, whose masks may change on purpose"] = _trained(len(found), _WITH_DROPOUT)
    del found["digits"]["log"][0]["train_error"]  # of 1,295 images one may lie between two classes
    return found | {f"first weights, {name}": _first(name) for name in _INITIALISATIONS}


def _trained(number: int, arguments: tuple[object, ...]) -> dict[str, Any]:
    out = f"trained-{number}"
    data, *others = arguments
    answer = command("train", data, "--recipe", "quick", *_OPTIONS, *others, "--out", out, "--json")
    assert answer.status == 0, answer
    log = [json.loads(line) for line in Path(out, "log.jsonl").read_text().splitlines()]
    return {"answer": answer.record(), "log": masked(log), "weights": statistics_of(out)}


_INITIALISATIONS = ("gaussian", "gaussian-variance", "glorot", "glorot-uniform", "kaiming")


def _first(name: str) -> dict[str, Any]:
    """How a net begins by a seed."""
    import torch

    import verydeep

    generator = torch.Generator().manual_seed(7)
    net = verydeep.VeryDeep("A", num_classes=3, crop=32, width=0.01, initialisation=name, generator=generator)
    verydeep.save(net, "first.safetensors")
    return statistics_of("first.safetensors")
