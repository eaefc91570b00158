"""Which nets the tables consist of, what those that are missing will take, and which claims they can decide."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from verydeep.data.dataset import DataSet
from verydeep.data.image_set import ImageSet
from verydeep.data.open import open_data
from verydeep.device import find_device, fp32_choice
from verydeep.nets.architecture import Geometry, feature_macs
from verydeep.nets.net import VeryDeep, empty_net
from verydeep.runs.compute import choose_compute
from verydeep.runs.net import default_crop
from verydeep.runs.timing import UpdateTime, filled, rates_of, time_update
from verydeep.speed.backend import make_backend
from verydeep.tables.contrasts import CellKey
from verydeep.tables.given import given_runs
from verydeep.tables.grid import TableNet, TableRun, TablesOptions
from verydeep.tables.listing import fusions, list_runs
from verydeep.tables.protocols import list_fused_tests, list_tests
from verydeep.tables.rows import RESULTS_FILE, TableResults, read_results
from verydeep.tables.verdicts import PlannedClaim, plan_claims
from verydeep.testing.protocols import ProtocolAt, ViewPlan
from verydeep.training.run_folder import SETTINGS_FILE, Run
from verydeep.training.state import Callback
from verydeep.weights.resolve import load

_TIMED_PIXELS = 4 * 224 * 224
_NUM_LOOKED_AT = 16
"""Images whose sizes stand for all."""


def runs_of(options: TablesOptions, data: DataSet, folder: Path) -> list[TableRun]:
    """The trainings, or the models that were given.

    Raises:
        UserError: a model cannot be read.
        UsageError: an unknown architecture, or a scale below the crop.
    """
    crop = options.crop or default_crop(data)
    runs = given_runs(options.models) if options.models else list_runs(options, crop=crop, out=folder)
    for run in runs:
        list_tests(run.net, options)
        if not options.models:
            options.training(run).find_recipe().scales(crop)
    return runs


def is_trained(run: TableRun) -> bool:
    return (run.model / SETTINGS_FILE).exists() and Run.open(run.model).finished


@dataclass(frozen=True, kw_only=True)
class PlannedNet:
    """A net of one seed that is not done yet, and the seconds it will take; 0 for a training that is done."""

    name: str
    training_seconds: float
    testing_seconds: float


@dataclass(frozen=True, kw_only=True)
class TablesPlan:
    """What the tables will take, net by net."""

    nets: tuple[PlannedNet, ...]
    claims: tuple[PlannedClaim, ...] = ()  # which of the paper's claims so many images and seeds can decide

    @property
    def training_seconds(self) -> float:
        return sum(net.training_seconds for net in self.nets)

    @property
    def testing_seconds(self) -> float:
        return sum(net.testing_seconds for net in self.nets)

    @property
    def seconds(self) -> float:
        return self.training_seconds + self.testing_seconds

    def as_record(self) -> dict[str, Any]:
        return {
            "nets": [vars(net) for net in self.nets],
            "claims": [one.as_record() for one in self.claims],
            "training_seconds": self.training_seconds,
            "testing_seconds": self.testing_seconds,
            "seconds": self.seconds,
        }


def plan_tables(data: str, options: TablesOptions, *, reporter: Callback | None = None) -> TablesPlan:
    """Measures one net for a moment, takes the others in proportion to their multiplications; nothing is written.

    Raises:
        UserError: the data, a model or the results in the folder cannot be used.
        UsageError: an option that cannot be right.
    """
    reporter = reporter or Callback()
    options.check(data)
    options.recipe_record()  # checks it
    opened = open_data(data, reporter.progress)
    folder = options.folder(data)
    file = folder / RESULTS_FILE
    results = read_results(file) if file.exists() else TableResults(about={})
    stopwatch = _Stopwatch(options, reporter)
    planned = []
    runs = runs_of(options, opened, folder)
    for done, run in enumerate(runs):
        tests = list_tests(run.net, options)
        left = [one for one in tests if not results.has([run.net], run.seed, one.protocol.name, one.scales)]
        if left:
            net = _net(options, run, opened)
            trained = bool(options.models) or is_trained(run)
            planned.append(
                PlannedNet(
                    name=run.title,
                    training_seconds=0.0 if trained else stopwatch.training_seconds(net, run, opened),
                    testing_seconds=stopwatch.testing_seconds(net, opened, left),
                )
            )
        reporter.progress("planning nets", done + 1, len(runs))
    seeds = len({run.seed for run in runs})
    claims = plan_claims(_keys([run.net for run in runs], options), seeds, len(opened.split(options.split)))
    return TablesPlan(nets=tuple(planned), claims=tuple(claims))


def _keys(nets: Sequence[TableNet], options: TablesOptions) -> list[CellKey]:
    """The cells that nets, and fusions of them, will give."""
    alone = list(dict.fromkeys(nets))
    fused = [(group, test) for group in fusions(alone) for test in list_fused_tests(group, options)]
    tests = [((net,), test) for net in alone for test in list_tests(net, options)] + fused
    return [CellKey(group, test.protocol.name, test.scales) for group, test in tests]


def _net(options: TablesOptions, run: TableRun, opened: DataSet) -> VeryDeep:
    """A model that was given, or a net that is to be trained, here without weights: times do not depend on them."""
    if options.models:
        net = load(run.model)
    else:
        net = empty_net(options.geometry(run.net, len(opened.classes))).eval()
        net.train_scale = run.net.train_scale
    net.mirror = net.mirror and opened.mirror
    return net


class _Stopwatch:
    """Times a net of each kind: seconds for a multiplication are nearly those of others of the kind.

    Batch norm and local response normalisation, which multiplications do not count, and the sizes of the maps make
    kinds. For 10^9 multiplications of an update at 224 A took 57 ms of CPU time, B 58, D 48, and A-LRN 121.
    """

    def __init__(self, options: TablesOptions, reporter: Callback) -> None:
        self.options = options
        self.reporter = reporter
        self._updates: dict[object, tuple[int, UpdateTime]] = {}  # by kind: multiplications of one image, and times
        self._pixels: dict[object, tuple[int, float]] = {}  # the same, and pixels a second

    def training_seconds(self, net: VeryDeep, run: TableRun, opened: DataSet) -> float:
        options, kind, macs = (
            self.options.training(run),
            _kind(net.geometry),
            feature_macs(net.geometry, net.geometry.crop, net.geometry.crop),
        )
        recipe = options.find_recipe()
        if kind not in self._updates:
            compute = choose_compute(net, recipe, options, self.reporter.note)
            found = time_update(net, recipe, compute, recipe.batch_size, self.reporter.progress)
            self._updates[kind] = macs, found
        else:
            compute = choose_compute(net, recipe, options, Callback().note)
        measured, update_time = self._updates[kind]
        rates = rates_of(opened, options, net.geometry.crop, compute, update_time.scaled(macs / measured))
        return rates.seconds(opened, recipe.epochs)

    def testing_seconds(self, net: VeryDeep, opened: DataSet, tests: Sequence[ProtocolAt]) -> float:
        kind, macs = _kind(net.geometry), feature_macs(net.geometry, net.geometry.crop, net.geometry.crop)
        if kind not in self._pixels:
            self._pixels[kind] = macs, _pixels_per_second(filled(net).eval(), self.options.device)
        measured, pixels_per_second = self._pixels[kind]
        images = opened.split(self.options.split)
        return _pixels_per_image(net, images, tests) * len(images) * macs / measured / pixels_per_second


def _kind(geometry: Geometry) -> object:
    return (
        geometry.architecture.local_response_norm, geometry.batch_norm, geometry.crop, geometry.width, geometry.head
    )  # fmt: skip


def _pixels_per_image(net: VeryDeep, images: ImageSet, tests: Sequence[ProtocolAt]) -> float:
    """Counts the pixels that a net is applied to, by the sizes of a few images: each view counts once."""
    views = ViewPlan(tests, net.geometry.crop, mirror=net.mirror)
    few = images.some_pixels(_NUM_LOOKED_AT)
    total: float = sum(
        (2 if views.views[number].mirrored else 1) * part.shape[0] * part.shape[1]
        for pixels in few
        for number, part in views.cut(pixels)
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
