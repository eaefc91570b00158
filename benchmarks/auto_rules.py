"""Measures what the rules of ``auto`` rest on: errors by the side of the views, their number, blocks and epochs.

    python -m benchmarks.auto_rules .cache/clothing --sides 64,96,128 >> results/auto.jsonl
    python -m benchmarks.auto_rules .cache/clothing --sides 160 --views 2,5 --epochs 4 --set dropout=0 >> rows.jsonl

Each line has an error of cross-validation on the training images: of the linear classifier, and with ``--epochs`` of
three parts after fine-tuning from it too. ``--images`` takes some of them, drawn once.
"""

import argparse
import json
from dataclasses import replace

import numpy as np

from verydeep.data.open import open_data
from verydeep.device import fp32_choice
from verydeep.machine import environment
from verydeep.progress import ignore_progress
from verydeep.runs.auto import choose_batch_size, head_rate
from verydeep.runs.comparison import cross_validate
from verydeep.runs.plan import Plan
from verydeep.training.loop import make_state
from verydeep.training.recipe import find_recipe
from verydeep.training.stored_maps import store_maps
from verydeep.transfer.classifier import fit_classifier
from verydeep.transfer.metrics import one_against_rest, score_accuracy
from verydeep.weights.resolve import load

START = "vgg16-features"


def numbers(text: str) -> list[int]:
    return [int(part) for part in text.split(",") if part]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data")
    parser.add_argument("--sides", type=numbers, default=[64, 96, 128, 160, 192, 224])
    parser.add_argument("--views", type=numbers, default=[3])
    parser.add_argument("--epochs", type=numbers, default=[])
    parser.add_argument("--block", type=int, default=5, help="the first that is fine-tuned")
    parser.add_argument("--images", type=int)
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="of the recipe")
    options = parser.parse_args()
    data, net, compute = open_data(options.data), load(START), fp32_choice("cpu")
    images = data.train
    if options.images:
        chosen = np.random.default_rng(0).permutation(len(images))[: options.images]
        images = images.subset(np.sort(chosen).tolist())
        data = replace(data, train=images)
    targets = one_against_rest(np.asarray(images.labels), len(images.classes))
    changes = {key: json.loads(value) for key, value in (pair.split("=") for pair in options.set)}
    for side in options.sides:
        about = {"data": options.data, "side": side, "num_images": len(images)}
        stored = store_maps(
            net, images, compute, side=side, views=range(max(options.views) if options.epochs else 1), seed=0,
            first_block=options.block if options.epochs else None, mirror=data.mirror, progress=ignore_progress,
        )  # fmt: skip
        if not options.epochs:
            fitted = fit_classifier(stored.descriptors, targets, images.classes, score_accuracy, kind="svm")
            row = {"what": "linear", **about, "cv_error": 1 - max(fitted.held_out.values())}
            print(json.dumps(row | {"environment": environment()}), flush=True)
        length = float(np.linalg.norm(stored.descriptors, axis=1).mean())
        for views in options.views if options.epochs else []:
            for epochs in options.epochs:
                recipe = find_recipe(
                    "auto", epochs=epochs, batch_size=choose_batch_size(len(images)), head_rate=head_rate(length),
                    train_scale=side, trainable=f"conv{options.block}", **changes,
                )  # fmt: skip
                plan = Plan(seconds=0, start=START, side=side, then="fine-tune", first_block=options.block, folds=3)
                state = make_state(net, recipe, compute, seed=0, num_images=len(images), momentum={})
                some = replace(stored, maps=stored.maps[:views])
                found = cross_validate(plan, net, state, some, data, ignore_progress)
                row = {"what": "fine-tune", **about, "views": views, "epochs": epochs, "block": options.block}
                row |= {"changes": changes, "wrong_linear": found.before, "wrong": found.after}
                print(json.dumps(row | {"environment": environment()}), flush=True)


if __name__ == "__main__":
    main()
