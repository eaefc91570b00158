"""The full protocol of localisation beside plain dense classification of the same photograph at the same scales.

Usage: python -m benchmarks.localise_speed [--test-scales 256,384] [--classes 1000] [--hidden 512] [--threads 1]

A photograph of 500x375 and its mirror image, net D at crop 224, boxes of each class. Timed in turn, after a round that
does not count: dense classification; the full protocol where the localiser has convolutions of its own; the same where
it shares those of the classifier, which are then computed once; and, of that, merging alone. At last 10,000 boxes of
one image are merged.
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from PIL import Image

from benchmarks.compare.photographs import find_photographs, of_four_thirds
from verydeep import VeryDeep
from verydeep.localisation.merging import find_library, merge
from verydeep.localisation.protocols import BoxFinder
from verydeep.machine import environment
from verydeep.speed.backend import make_test_backend
from verydeep.testing.classifier import posterior_and_map
from verydeep.testing.protocols import PROTOCOLS, ProtocolAt, ViewPlan

SIZE = (500, 375)


@dataclass
class Localiser:
    """A net of random weights whose boxes lie about the middle of each crop, a little apart."""

    net: VeryDeep
    classes: tuple[str, ...]
    regression: str = "pcr"
    merge_threshold: float = 0.5
    test_scales: tuple[int, ...] | None = None
    classifier: str | None = None


def make_nets(count: int, hidden: int | None) -> tuple[VeryDeep, Localiser, Localiser]:
    """A classifier; a localiser with convolutions of its own; one with those of the classifier."""
    classes = tuple(map(str, range(count)))
    narrower: dict[str, Any] = {} if hidden is None else {"hidden": hidden}
    own, shared = (VeryDeep("D", num_classes=4 * count, **narrower) for _ in range(2))
    classifier = VeryDeep("D", num_classes=count)
    classifier.classes = classes
    for net in (own, shared):
        with torch.no_grad():
            last = net.get_submodule("fc8")
            assert isinstance(last.weight, torch.Tensor)
            assert isinstance(last.bias, torch.Tensor)
            last.weight.mul_(0.1)
            last.bias.copy_(torch.tensor([0.5, 0.5, 0.5, 0.5]).repeat(count))
    shared.load_state_dict(
        {name: tensor for name, tensor in classifier.state_dict().items() if not name.startswith("fc")}, strict=False
    )
    return classifier.eval(), Localiser(own.eval(), classes), Localiser(shared.eval(), classes)


def measure(scales: tuple[int, ...], count: int, hidden: int | None, rounds: int, precision: str) -> dict[str, Any]:
    """Times everything in turn; seconds are medians."""
    photograph = of_four_thirds(find_photographs(None, 1)[0])
    pixels = np.asarray(photograph.resize(SIZE, Image.Resampling.BILINEAR))
    classifier, own, shared = make_nets(count, hidden)
    finders = {
        "full, convolutions of its own": BoxFinder([own], classifier, test_scales=scales, precision=precision),
        "full, convolutions shared": BoxFinder([shared], classifier, test_scales=scales, precision=precision),
    }
    backend = make_test_backend(classifier, finders["full, convolutions shared"].compute)
    plan = ViewPlan([ProtocolAt(PROTOCOLS["multi-scale"], scales)], 224, mirror=True)
    calls: dict[str, Callable[[], object]] = {
        "dense classification": lambda: posterior_and_map(backend, plan, pixels),
        **{name: partial(finder.find, pixels) for name, finder in finders.items()},
    }
    assert finders["full, convolutions shared"].is_shared
    found, _ = finders["full, convolutions shared"].candidates_of(pixels)
    calls["merging, five classes"] = lambda: found.merged(0.5)
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    for round_ in range(rounds + 1):
        for name, call in calls.items():
            begun = time.perf_counter()
            call()
            if round_:
                seconds[name].append(time.perf_counter() - begun)
    medians = {name: statistics.median(taken) for name, taken in seconds.items()}
    dense, apart, together, merging = medians.values()
    medians["merging 10,000 boxes"] = _ten_thousand()
    return {
        "what": "localisation",
        "machine": environment(),
        "boxes_of_a_class": found.corners.shape[1],
        "merging_by": "C++" if find_library() else "NumPy",
        "rows": [{"name": name, "seconds": taken} for name, taken in medians.items()],
        "own_over_dense": apart / dense,
        "shared_over_dense": together / dense,
        "merging_share": merging / together,
    }


def _ten_thousand() -> float:
    """Seconds to merge 10,000 boxes about ten objects."""
    generator = np.random.default_rng(0)
    centre = (generator.random((10, 2)) * 400 + 50)[generator.integers(0, 10, 10_000)]
    centre, size = centre + generator.normal(0, 8, (10_000, 2)), 100 * np.exp(generator.normal(0, 0.08, (10_000, 2)))
    begun = time.perf_counter()
    merge(np.concatenate([centre - size / 2, centre + size / 2], 1), np.ones((10_000, 1)), 0.5)
    return time.perf_counter() - begun


def main() -> None:
    """Reads the command line, measures, prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--test-scales", type=lambda text: tuple(map(int, text.split(","))), default=(256, 384))
    parser.add_argument("--classes", type=int, default=1000)
    parser.add_argument("--hidden", type=int, help="channels of fc6 and fc7 of the localiser [4096]")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--precision", default="fp32")
    parser.add_argument("--threads", type=int, help="[the cores]")
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    if given.threads:
        torch.set_num_threads(given.threads)
    found = measure(given.test_scales, given.classes, given.hidden, given.rounds, given.precision)
    if given.json:
        print(json.dumps(found, indent=2))
        return
    for row in found["rows"]:
        print(f"{row['name']:34} {1000 * row['seconds']:9.1f} ms")
    for name in ("own_over_dense", "shared_over_dense", "merging_share", "boxes_of_a_class", "merging_by"):
        print(f"{name.replace('_', ' '):34} {found[name]}")


if __name__ == "__main__":
    main()
