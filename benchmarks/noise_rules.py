"""Trains what ``runs/noise.py`` plans for a data set and a time, or a change of it, and prints its errors as a line.

    python benchmarks/noise_rules.py digits --seconds 45
    python benchmarks/noise_rules.py .cache/cifar10/cifar10 --seconds 1620 --set learning_rate=0.1
    python benchmarks/noise_rules.py .cache/signdigits --seconds 240 --plan

The error by ``single`` is of the validation images, which choose; ``--test`` adds that of the test images, for the last
run. ``--macs-per-second`` plans for another machine than this one, or for this one when nothing else runs.
"""

import argparse
import json
import tempfile
import time
from dataclasses import asdict, replace
from pathlib import Path

from torch import Generator

from verydeep.cli.output import reporting
from verydeep.data.open import open_data
from verydeep.machine import environment
from verydeep.nets.architecture import Geometry, layers
from verydeep.nets.net import VeryDeep
from verydeep.runs.fit import fit
from verydeep.runs.noise import NoisePlan, plan_from_noise, training_speed
from verydeep.runs.options import TrainOptions
from verydeep.testing.evaluate import evaluate
from verydeep.training.recipe import find_recipe
from verydeep.weights.resolve import load


def changed(plan: NoisePlan, changes: dict[str, object]) -> NoisePlan:
    """The plan with some of its fields changed; those of the recipe that it lacks are left for it."""
    known = {name: value for name, value in changes.items() if name in asdict(plan)}
    return replace(plan, **known)  # type: ignore[arg-type]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data")
    parser.add_argument("--seconds", type=float, required=True)
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="of the plan or the recipe")
    parser.add_argument("--macs-per-second", type=float, help="of training: three times those of the forward pass")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--test", action="store_true")
    parser.add_argument("--plan", action="store_true", help="train nothing")
    options = parser.parse_args()

    data = open_data(options.data)
    side = data.train.usual_side() or 224

    def speed(geometry: Geometry, batch_size: int) -> float:
        if options.macs_per_second:
            return float(options.macs_per_second) / (3 * sum(layer.macs for layer in layers(geometry)))
        return training_speed(data, geometry, batch_size, TrainOptions())

    planned = plan_from_noise(
        num_images=len(data.train), num_classes=len(data.classes), side=side, mirror=data.mirror,
        seconds=options.seconds, speed=speed,
    )  # fmt: skip
    pairs = (text.partition("=") for text in options.set)
    changes = {name: json.loads(value) if value[:1] in "0123456789[" else value for name, _, value in pairs}
    plan = changed(planned, changes)
    row = {"data": data.name, "seconds_asked": options.seconds, "seed": options.seed, "changes": changes}
    row |= {"plan": asdict(plan)}
    if not options.plan:
        recipe = find_recipe(
            "small-images", **plan.recipe_changes() | {n: v for n, v in changes.items() if n not in asdict(plan)}
        )
        net = VeryDeep(
            plan.architecture, num_classes=len(data.classes), batch_norm=plan.batch_norm, head=plan.head,
            width=plan.width, crop=plan.crop, dropout=plan.dropout, initialisation=recipe.initialisation,
            generator=Generator().manual_seed(options.seed),
        )  # fmt: skip
        with reporting() as reporter, tempfile.TemporaryDirectory() as folder:
            start = time.perf_counter()
            trained = fit(net, data, recipe=recipe, out=Path(folder) / "run", seed=options.seed, reporter=reporter)
            row |= {"seconds": time.perf_counter() - start, "images_per_second": trained.images_per_second}
            row |= {"val_top1_error": trained.top1_error, "num_val": trained.num_images, "protocol": trained.protocol}
            if options.test:
                result = evaluate(load(trained.model), data, protocol="single", split="test")
                row |= {"test_top1_error": result.top1_error, "num_test": len(result.labels)}
    print(json.dumps(row | {"machine": environment()}))


if __name__ == "__main__":
    main()
