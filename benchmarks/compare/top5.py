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

    from verydeep.data.image_set import ImageSet
    from verydeep.data.sources import FolderSource
    from verydeep.nets.architecture import scaled_length
    from verydeep.paper.constants import TRAIN_SCALE
    from verydeep.speed.accelerate import accelerate
    from verydeep.testing.measure import MeanPosterior, measure
    from verydeep.testing.protocols import ProtocolAt, find_protocol
    from verydeep.weights.resolve import load

    net = load(model)
    images = ImageSet(
        split="photographs",
        classes=net.classes or (),
        names=files,
        labels=np.zeros(len(files), dtype=np.int64),
        source=FolderSource(Path()),
    )
    scale = scaled_length(TRAIN_SCALE, net.geometry.crop)
    backend = accelerate(net, precision=precision).backend
    shape, test = (len(images), backend.num_classes), ProtocolAt(find_protocol("centre"), (scale,))
    (measured,) = measure(backend, images, [test], lambda: MeanPosterior(*shape), mirror=net.mirror)
    posteriors = measured.result
    for row in posteriors:
        first = np.argsort(-row, kind="stable")[:5]
        print(" ".join(f"{index}:{row[index]:.4f}" for index in first))


if __name__ == "__main__":
    tune_allocator()
    use_huge_pages()
    main(sys.argv[1], sys.argv[2], sys.argv[3:])
