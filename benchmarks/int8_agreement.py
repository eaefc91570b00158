"""How often a net in int8 names the class that it names in float32, on all test images of its own data.

    python benchmarks/int8_agreement.py verydeep-cifar10 .cache/cifar10/cifar10

The ranges of int8 are found on training images, as a user would find them. Every test image is shown by its central
crop. Both engines take turns with the same batches; the times are medians over the batches.
"""

import argparse
import json
import statistics
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

import verydeep
from verydeep.data.image_set import ImageSet
from verydeep.data.open import open_data
from verydeep.images.views import centre


def crops(images: ImageSet, scale: int, crop: int, batch: int) -> list[Tensor]:
    """Central crops in batches, in the order of the images."""
    cut = [centre(images.pixels(index), scale, crop)[0] for index in range(len(images))]
    starts = range(0, len(cut), batch)
    return [torch.from_numpy(np.stack(cut[start : start + batch])).permute(0, 3, 1, 2) for start in starts]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("data")
    parser.add_argument("--calibrate", type=int, default=300, help="training images to find the scales on")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--out", type=Path, help="write the answer to this file too")
    options = parser.parse_args()

    net, data = verydeep.load(options.model), open_data(options.data)
    assert data.test is not None, "the data have no test images"
    crop, scale = net.geometry.crop, sum(net.train_scale) // 2
    spread = torch.linspace(0, len(data.train) - 1, options.calibrate).long().tolist()
    shown = torch.cat(crops(data.train.subset(spread), scale, crop, options.batch))
    engines = {
        "fp32": verydeep.accelerate(net, precision="fp32"),
        "int8": verydeep.accelerate(net, precision="int8", calibrate=shown),
    }
    seconds: dict[str, list[float]] = {name: [] for name in engines}
    scores: dict[str, list[Tensor]] = {name: [] for name in engines}
    for images in crops(data.test, scale, crop, options.batch):
        for name, engine in engines.items():
            start = time.perf_counter()
            scores[name].append(engine(images))
            if len(images) == options.batch:
                seconds[name].append(time.perf_counter() - start)
    whole, short = torch.cat(scores["fp32"]), torch.cat(scores["int8"])
    labels = torch.from_numpy(data.test.labels)
    answer: dict[str, Any] = {
        "arguments": {key: str(value) for key, value in vars(options).items()},
        "engines": {name: engine.engine for name, engine in engines.items()},
        "images": len(labels),
        "agreement": float((whole.argmax(1) == short.argmax(1)).double().mean()),
        "relative_difference": float((short - whole).norm() / whole.norm()),
        "top1_error": {
            name: float((torch.cat(made).argmax(1) != labels).double().mean()) for name, made in scores.items()
        },
        "milliseconds_a_batch": {name: 1000 * statistics.median(taken) for name, taken in seconds.items()},
    }
    print(json.dumps(answer, indent=2))
    if options.out:
        options.out.write_text(json.dumps(answer, indent=2) + "\n")


if __name__ == "__main__":
    main()
