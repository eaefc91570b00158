"""The five likeliest classes of photographs by their central crops: the work of the plain script, done by verydeep.

Usage: python -m benchmarks.compare.top5 MODEL PRECISION PHOTOGRAPH...
"""

import sys
from pathlib import Path

from verydeep.speed.allocator import tune_allocator, use_huge_pages


def main(model: str, precision: str, files: list[str]) -> None:
    """Prints the classes of each photograph.

    Args:
        model: a model file.
        precision: as ``accelerate`` takes it.
        files: the photographs.
    """
    import numpy as np
    import torch

    from verydeep.data.image_set import ImageSet
    from verydeep.data.sources import FolderSource
    from verydeep.device import Compute
    from verydeep.evaluation.measure import measure_posteriors
    from verydeep.evaluation.protocols import find_protocol
    from verydeep.nets.architecture import scaled_length
    from verydeep.paper.constants import TRAIN_SCALE
    from verydeep.speed.accelerate import accelerate
    from verydeep.weights.resolve import load

    net = load(model)
    images = ImageSet(
        split="photographs",
        classes=net.classes or (),
        names=files,
        labels=np.zeros(len(files), dtype=np.int64),
        source=FolderSource(Path()),
    )
    choice = Compute(device="cpu", precision="fp32", channels_last=True, threads=torch.get_num_threads())
    scale = scaled_length(TRAIN_SCALE, net.geometry.crop)
    fast = accelerate(net, precision=precision)
    posteriors = measure_posteriors(fast, images, find_protocol("centre"), [scale], choice).posteriors
    for row in posteriors:
        first = np.argsort(-row, kind="stable")[:5]
        print(" ".join(f"{index}:{row[index]:.4f}" for index in first))


if __name__ == "__main__":
    tune_allocator()
    use_huge_pages()
    main(sys.argv[1], sys.argv[2], sys.argv[3:])
