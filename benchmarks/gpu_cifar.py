"""Trains D with batch norm on small images in seconds: seconds and test accuracy, over several seeds.

Usage: python -m benchmarks.gpu_cifar DATA [--seeds 5] [--set key=value ...] [--val | --search] [--budget 500]

Without --val: trains on all training images, and looks at the test images once, at the end of the schedule. With --val:
trains on nine tenths and measures on the tenth held out; --search tries random settings so, one seed each, until the
budget is spent, and never opens the test images. Settings are the fields of speedrun.Plan; choose them by --val.

The seconds are from the first weights to the last update, the cutting of crops included. What is read and compiled
before is told apart, as ``prepare_seconds``; it is the same for all seeds and settings of a run.
"""

import argparse
import dataclasses
import json
import random
import statistics
import sys
import time
from typing import Any

import numpy as np
import torch

from benchmarks.gpu_measure import Results, set_precision
from benchmarks.speedrun import Plan, Trainer
from verydeep.data.datasets import DataSet, open_data
from verydeep.data.image_set import ImageSet
from verydeep.data.resident import ResidentImages, hold_on_device
from verydeep.device import find_device, synchronise
from verydeep.errors import UsageError, UserError

GOAL = 0.94

SEARCH: dict[str, tuple[Any, ...]] = {
    "batch_size": (256, 512, 1024),
    "optimiser": ("sgd", "muon"),
    "learning_rate": (0.05, 0.1, 0.2, 0.4),
    "muon_rate": (0.02, 0.04, 0.08),
    "rise": (0.1, 0.2, 0.3),
    "weight_decay": (2e-4, 5e-4, 1e-3, 2e-3),
    "label_smoothing": (0.1, 0.2),
    "dropout": (0.0, 0.1, 0.3),
    "margin": (2, 3, 4),
    "cutout": (0, 0, 8, 12),
    "whiten": (True, False),
    "average": (0.0, 1.0),
}
"""What --search draws each setting from; those given by --set stay as they are."""


def read_settings(settings: list[str]) -> dict[str, Any]:
    """Reads key=value for fields of Plan.

    Raises:
        UsageError: no such field, or a value of another kind.
    """
    kinds = {field.name: type(field.default) for field in dataclasses.fields(Plan)}
    changes: dict[str, Any] = {}
    for setting in settings:
        key, _, text = setting.partition("=")
        if key not in kinds:
            raise UsageError(f"--set {setting}: a plan has no field {key!r}: it has {', '.join(kinds)}")
        try:
            value = text if kinds[key] is str else json.loads(text)
        except json.JSONDecodeError:
            value = None
        if kinds[key] is float and type(value) is int:
            value = float(value)
        if type(value) is not kinds[key]:
            raise UsageError(f"--set {setting}: its value is no {kinds[key].__name__}, as JSON writes it")
        changes[key] = value
    return changes


def process_group(first: ImageSet, second: ImageSet) -> ImageSet:
    """The images of two splits as one."""
    return ImageSet(
        split=f"{first.split} and {second.split}",
        classes=first.classes,
        names=[*first.names, *second.names],
        labels=np.concatenate([first.labels, second.labels]),
        store=first.store,
    )


def hold(data: DataSet, device: str, *, validate: bool, most_images: int | None) -> list[ResidentImages]:
    """Holds the images to train on and those to measure on: val, or test with val among the training images."""
    train, measured = (data.train, data.val) if validate else (process_group(data.train, data.val), data.split("test"))
    if most_images:
        train, measured = (
            images.subset(range(0, len(images), max(1, len(images) // most_images))) for images in (train, measured)
        )
    side = train.read(0).height
    return [hold_on_device(images, device, scales=(side, side)) for images in (train, measured)]


def one(trainer: Trainer, measured: ResidentImages, seed: int) -> dict[str, Any]:
    """Trains with a seed and measures at the end of the schedule."""
    record: dict[str, Any] = {"seed": seed} | trainer.run(seed)
    start = time.perf_counter()
    accuracy = trainer.accuracy(measured)
    return record | {"accuracy": accuracy, "test_seconds": time.perf_counter() - start}


def prepare(plan: Plan, train: ResidentImages, measured: ResidentImages, device: str, classes: int) -> Trainer:
    """Makes a trainer and runs everything once, so that it is compiled and its algorithms are found."""
    trainer = Trainer(plan, train, device, classes)
    trainer.run(0, most_updates=3)
    trainer.accuracy(measured)
    synchronise(device)
    return trainer


def summary(records: list[dict[str, Any]]) -> dict[str, Any]:
    """Mean and spread over the seeds."""
    accuracies, seconds = ([record[key] for record in records] for key in ("accuracy", "seconds"))
    return {
        "n": len(records),
        "mean_accuracy": statistics.mean(accuracies),
        "deviation": statistics.stdev(accuracies) if len(records) > 1 else None,
        "min_accuracy": min(accuracies),
        "max_accuracy": max(accuracies),
        "mean_seconds": statistics.mean(seconds),
        "max_seconds": max(seconds),
        "goal": GOAL,
        "mean_reaches_goal": statistics.mean(accuracies) >= GOAL,
        "share_of_seeds_at_goal": sum(accuracy >= GOAL for accuracy in accuracies) / len(accuracies),
    }


def measure(
    plan: Plan, held: list[ResidentImages], classes: int, options: argparse.Namespace, results: Results
) -> None:
    """Trains with every seed, and records the mean and the spread."""
    split = "val" if options.val else "test"
    start = time.perf_counter()
    trainer = prepare(plan, held[0], held[1], options.device, classes)
    prepared = time.perf_counter() - start
    print(f"{trainer.net.geometry.title}, {trainer.updates} updates; compiled and warm in {prepared:.1f} s", flush=True)
    records: list[dict[str, Any]] = []
    for seed in range(options.first_seed, options.first_seed + options.seeds):
        if records and time.perf_counter() + records[-1]["seconds"] > options.deadline:
            results.add({"left_out": f"seed {seed} and later: no time left"})
            break
        records.append(one(trainer, held[1], seed))
        results.add({"split": split, "prepare_seconds": prepared + options.read_seconds} | records[-1])
        last = records[-1]
        print(f"seed {seed}: {last['accuracy']:.2%} on {split} after {last['seconds']:.2f} s, loss {last['loss']:.3f}")
    found = {"split": split, "plan": dataclasses.asdict(plan), "summary": summary(records)}
    results.add(found)
    print(json.dumps(found, indent=2))


def search(
    fixed: dict[str, Any], held: list[ResidentImages], classes: int, options: argparse.Namespace, results: Results
) -> None:
    """Tries random settings on the validation images until the budget is spent, and prints the best."""
    chance = random.Random(options.first_seed)
    tried: list[tuple[float, float, dict[str, Any]]] = []
    longest = 0.0
    while time.perf_counter() + longest < options.deadline:
        start = time.perf_counter()
        drawn = {key: chance.choice(values) for key, values in SEARCH.items()} | fixed
        plan = Plan(**drawn)
        trainer = prepare(plan, held[0], held[1], options.device, classes)
        record = one(trainer, held[1], options.first_seed + len(tried))
        results.add({"split": "val", "plan": dataclasses.asdict(plan)} | record)
        tried.append((record["accuracy"], record["seconds"], drawn))
        print(f"{record['accuracy']:.2%} on val after {record['seconds']:.2f} s: {drawn}", flush=True)
        longest = max(longest, time.perf_counter() - start)
    print("\nthe best by validation:")
    for accuracy, seconds, drawn in sorted(tried, key=lambda found: -found[0])[:8]:
        print(f"{accuracy:.2%} {seconds:6.2f} s {as_options(drawn)}")


def as_options(settings: dict[str, Any]) -> str:
    """Settings as ``--set`` takes them, less how they were compiled for the search."""
    written = {key: value if isinstance(value, str) else json.dumps(value) for key, value in settings.items()}
    return " ".join(f"--set {key}={value}" for key, value in written.items() if key != "compile")


def read_options() -> argparse.Namespace:
    """Reads the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("data", help="a folder with train/ and test/ whose images are squares of one size")
    parser.add_argument("--val", action="store_true", help="measure on the tenth held out of train")
    parser.add_argument("--search", action="store_true", help="try random settings on the tenth held out of train")
    parser.add_argument("--set", action="append", default=[], dest="settings", help="a field of speedrun.Plan")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--budget", type=float, default=500, help="seconds after which nothing is begun")
    parser.add_argument("--device", default=None)
    parser.add_argument("--images", type=int, default=None, help="of each split at most, for a trial")
    options = parser.parse_args()
    options.device = find_device(options.device)
    options.deadline = time.perf_counter() + options.budget
    return options


def run(options: argparse.Namespace) -> None:
    """Reads the images, then measures or searches."""
    changes = read_settings(options.settings)
    torch.backends.cudnn.benchmark = True
    set_precision("tf32")
    start = time.perf_counter()
    data = open_data(options.data)
    held = hold(data, options.device, validate=options.val or options.search, most_images=options.images)
    options.read_seconds = time.perf_counter() - start
    counts = " and ".join(f"{len(images):,}" for images in held)
    print(f"{data.name}: {counts} images held on {options.device} in {options.read_seconds:.1f} s", flush=True)
    part = "search" if options.search else "cifar-val" if options.val else "cifar"
    results = Results(part, options.device, dict(vars(options)))
    if options.search:
        # compiling each setting anew would take longer than training it
        search({"compile": "off"} | changes, held, len(data.classes), options, results)
    else:
        measure(Plan(**changes), held, len(data.classes), options, results)


def main() -> None:
    """A mistake in the options is told in one line."""
    try:
        run(read_options())
    except UserError as error:
        sys.exit(f"gpu_cifar: {error}")


if __name__ == "__main__":
    main()
