"""Measures the linear classifier of ``auto`` by the side of the views: the table ``ERROR_BY_SIDE`` of runs/auto.py.

    python -m benchmarks.auto_sides .cache/clothing --sides 64,96,128 >> results/auto.jsonl

Each line has the error of cross-validation on the training images, of the first view, without its mirror image.
"""

import argparse
import json

import numpy as np

from verydeep.data.open import open_data
from verydeep.device import fp32_choice
from verydeep.machine import environment
from verydeep.progress import ignore_progress
from verydeep.training.stored_maps import store_maps
from verydeep.transfer.classifier import fit_classifier
from verydeep.transfer.metrics import one_against_rest, score_accuracy
from verydeep.weights.resolve import load


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data")
    parser.add_argument("--sides", default="64,96,128,160,192,224")
    options = parser.parse_args()
    images, net = open_data(options.data).train, load("vgg16-features")
    targets = one_against_rest(np.asarray(images.labels), len(images.classes))
    for side in map(int, options.sides.split(",")):
        stored = store_maps(
            net, images, fp32_choice("cpu"), side=side, views=range(1), first_block=None, seed=0, mirror=False,
            progress=ignore_progress,
        )  # fmt: skip
        fitted = fit_classifier(stored.descriptors, targets, images.classes, score_accuracy, kind="svm")
        error = 1 - max(fitted.held_out.values())
        row = {"what": "linear", "data": options.data, "side": side, "num_images": len(images), "cv_error": error}
        print(json.dumps(row | {"environment": environment()}), flush=True)


if __name__ == "__main__":
    main()
