"""What the tables will take, before the first training begins."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from verydeep.data.dataset import DataSet
from verydeep.data.image_set import ImageSet
from verydeep.data.open import open_data
from verydeep.device import find_device, fp32_choice
from verydeep.nets.net import VeryDeep
from verydeep.runs.estimate import plan
from verydeep.runs.options import read_keywords
from verydeep.runs.start import default_crop
from verydeep.speed.backend import make_backend
from verydeep.tables.grid import Asked, Training, measured_protocols
from verydeep.tables.results import RESULTS_FILE, Results, read_results
from verydeep.testing.measure import ViewPlan
from verydeep.testing.protocols import PROTOCOLS, ProtocolAt, at_scales
from verydeep.training.state import Callback
from verydeep.weights.resolve import load

_TIMED_PIXELS = 8 * 224 * 224
_NUM_LOOKED_AT = 16
"""Images whose sizes stand for all."""


@dataclass(frozen=True, kw_only=True)
class Piece:
    """One training with its tests.

    Attributes:
        name: of the net and the seed.
        training_seconds: 0 where it is done.
        testing_seconds: 0 where it is done.
    """

    name: str
    training_seconds: float
    testing_seconds: float


@dataclass(frozen=True, kw_only=True)
class TablesPlan:
    """What the tables will take.

    Attributes:
        pieces: the nets that are not done yet.
    """

    pieces: tuple[Piece, ...]

    @property
    def training_seconds(self) -> float:
        """Of all trainings."""
        return sum(piece.training_seconds for piece in self.pieces)

    @property
    def testing_seconds(self) -> float:
        """Of all tests."""
        return sum(piece.testing_seconds for piece in self.pieces)

    @property
    def seconds(self) -> float:
        """Of everything."""
        return self.training_seconds + self.testing_seconds

    def as_record(self) -> dict[str, Any]:
        """The figures, for JSON."""
        return {
            "nets": [vars(piece) for piece in self.pieces],
            "training_seconds": self.training_seconds,
            "testing_seconds": self.testing_seconds,
            "seconds": self.seconds,
        }


def plan_tables(asked: Asked, reporter: Callback | None = None) -> TablesPlan:
    """Measures each architecture for a moment and adds up; nothing is written.

    Raises:
        UserError: the data, a model or the results in the folder cannot be used.
        UsageError: an option that cannot be right.
    """
    reporter = reporter or Callback()
    asked.find_recipe()
    opened = open_data(asked.data, reporter.progress)
    nets = asked.nets(asked.crop or default_crop(opened))
    file = asked.out / RESULTS_FILE
    results = read_results(file) if file.exists() else Results(about={})
    measured: dict[str, float] = {}
    pieces = []
    for training in nets:
        net, seed = training.net, training.seed
        left = [name for name in measured_protocols(net) if results.row([net], seed, name) is None]
        if not left:
            continue
        seconds = 0.0
        if not asked.models and not training.is_trained:
            if net.name not in measured:
                measured[net.name] = _training_seconds(asked, training, opened, reporter)
            seconds = measured[net.name]
        pieces.append(
            Piece(
                name=training.title,
                training_seconds=seconds,
                testing_seconds=_testing_seconds(asked, training, opened, left),
            )
        )
    return TablesPlan(pieces=tuple(pieces))


def _training_seconds(asked: Asked, training: Training, opened: DataSet, reporter: Callback) -> float:
    net = training.net
    options = {
        "out": asked.out,
        "architecture": net.architecture,
        "batch_norm": net.batch_norm,
        "crop": net.crop,
        "width": asked.width,
        "recipe": asked.recipe,
        "changes": (asked.changes or {}) | {"train_scale": asked.find_recipe(net).train_scale},
        "execution": asked.execution,
    }
    return plan(opened, read_keywords(options), reporter=reporter).seconds


def _testing_seconds(asked: Asked, training: Training, opened: DataSet, protocols: list[str]) -> float:
    if asked.models:
        net = load(training.folder)
    else:
        geometry = asked.geometry(training.net, len(opened.classes))
        net = VeryDeep(
            geometry.architecture.name,
            batch_norm=geometry.batch_norm,
            num_classes=geometry.num_classes,
            crop=geometry.crop,
            width=geometry.width,
        ).eval()
        net.train_scale = training.net.train_scale
    net.mirror = net.mirror and opened.mirror
    tests = [at_scales(PROTOCOLS[name], net) for name in protocols]
    pixels = _pixels_per_image(net, opened.split(asked.split), tests) * len(opened.split(asked.split))
    return pixels / _pixels_per_second(net, asked.execution.device if asked.execution else None)


def _pixels_per_image(net: VeryDeep, images: ImageSet, tests: Sequence[ProtocolAt]) -> float:
    """Counts the pixels that a net is applied to, by the sizes of a few images: each view counts once."""
    plan = ViewPlan(tests, net.geometry.crop, mirror=net.mirror)
    few = sorted(set(np.linspace(0, len(images) - 1, min(_NUM_LOOKED_AT, len(images))).astype(int).tolist()))
    total: float = sum(
        (2 if plan.views[number].mirrored else 1) * part.shape[0] * part.shape[1]
        for index in few
        for number, part in plan.cut(images.pixels(index))
    )
    return total / len(few)


def _pixels_per_second(net: VeryDeep, device: str | None) -> float:
    """Times one batch of crops as a test computes it, the second of two."""
    crop = net.geometry.crop
    images = np.zeros((max(1, _TIMED_PIXELS // crop**2), crop, crop, 3), dtype=np.uint8)
    backend = make_backend(net, fp32_choice(find_device(device)))
    backend.maps(images)
    start = time.perf_counter()
    backend.maps(images)
    return images.size / 3 / (time.perf_counter() - start)
