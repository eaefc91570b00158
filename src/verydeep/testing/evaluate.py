"""Nets, images and protocols become error rates."""

import functools
import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from numpy import ndarray

from verydeep.data.image_set import ImageSet
from verydeep.data.open import AnyData
from verydeep.device import Compute
from verydeep.errors import UsageError, UserError
from verydeep.images.decode import DamagedImageError
from verydeep.nets.described import DescribedNet
from verydeep.paper.constants import TOTAL_STRIDE
from verydeep.progress import Progress, ignore_progress
from verydeep.speed.backend import Backend, find_compute, make_test_backend
from verydeep.testing.images import Model, class_order, open_images, order_note
from verydeep.testing.measure import MeanPosterior, Measured, measure
from verydeep.testing.metrics import check_finite, wrong
from verydeep.testing.protocols import Protocol, ProtocolAt, at_scales, find_protocol
from verydeep.testing.result import (
    LabelledImages,
    Member,
    Result,
    check_alike,
    fuse,
    is_saved_posteriors,
    load_posteriors,
)
from verydeep.testing.statistics import Comparison, compare, holm
from verydeep.testing.transferred import TransferredModel
from verydeep.weights.resolve import is_transfer_folder, open_net


def evaluate(
    model: Model | Sequence[Model],
    data: AnyData | ImageSet | None = None,
    *,
    protocol: str = "single",
    test_scales: Sequence[int] | None = None,
    split: str | None = None,
    device: str | None = None,
    precision: str = "fp32",
    skip_damaged: bool = False,
    progress: Progress = ignore_progress,
    note: Callable[[str], None] | None = None,
) -> Result:
    """Measures the error rates of a net by a protocol, or of several nets whose posteriors are averaged.

    Args:
        model: a net, a model file, a run folder or a file of saved posteriors; or several of these, which are fused.
        data: what ``open_data`` opens, or the images of a split. Files of saved posteriors need none.
        protocol: a name in ``PROTOCOLS``, such as ``multi-scale``.
        test_scales: Q, pixels; by default what the protocol says for the net's training scale.
        split: train, val, test or all; by default test where there is one, else val; and all images of data without
            such a split that no model was trained on.
        device: cpu, cuda or mps; by default the fastest there is.
        precision: fp32, bf16, or auto for the faster of the two by a rule over the machine.
        skip_damaged: leave damaged images out and name them, instead of failing.
        progress: called with the number of images done.
        note: called with a line that a reader of the errors should know.

    Raises:
        UserError: a model, the data or an image cannot be used; the classes are not the net's; or saved posteriors
            are of other images.
        UsageError: an unknown protocol or a scale below the crop.

    Paper: section 3.2, section 4.
    """
    models = [model] if isinstance(model, DescribedNet | str | Path) else list(model)
    results = evaluate_each(
        models,
        data,
        [protocol],
        test_scales=test_scales,
        split=split,
        device=device,
        precision=precision,
        skip_damaged=skip_damaged,
        progress=progress,
        note=note,
    )
    return fuse([result for (result,) in results])


def evaluate_each(
    models: Sequence[Model],
    data: AnyData | ImageSet | None,
    protocols: Sequence[str | ProtocolAt],
    *,
    test_scales: Sequence[int] | None = None,
    split: str | None = None,
    device: str | None = None,
    precision: str = "fp32",
    skip_damaged: bool = False,
    progress: Progress = ignore_progress,
    note: Callable[[str], None] | None = None,
) -> list[list[Result]]:
    """Measures the error rates of several nets on the same images, otherwise as ``evaluate``.

    Returns for each model its results by the protocols, computed in one pass over the images; one may have test scales
    of its own. A file of saved posteriors has its own protocol.
    """
    rows = [find_protocol(one) if isinstance(one, str) else one for one in protocols]
    compute = find_compute(device, precision)
    saved = {
        number: [load_posteriors(one)]
        for number, one in enumerate(models)
        if not isinstance(one, DescribedNet) and is_saved_posteriors(one)
    }
    if data is None and len(saved) < len(models):
        raise UserError("which data? Only files of saved posteriors need none")
    if data is None:
        return list(saved.values())
    images, name, fingerprint = open_images(data, models, split, progress, note)
    nets = {  # every error is raised before the first net is tested
        number: _take(one, images, rows, test_scales) for number, one in enumerate(models) if number not in saved
    }
    skipped: list[str] = []
    if skip_damaged:
        scale = max((net.largest_scale for net in nets.values()), default=0)
        images, skipped = images.checked(skip_damaged=True, scale=scale or None)
    described = _described(images, name, fingerprint, skipped)
    for (result,) in saved.values():
        check_alike(result, described)
    return [
        saved[number] if number in saved else nets[number].results(images, described, compute, progress, note)
        for number in range(len(models))
    ]


def _described(images: ImageSet, name: str = "", fingerprint: str = "", skipped: Sequence[str] = ()) -> LabelledImages:
    return LabelledImages(
        labels=images.labels,
        names=images.names,
        classes=images.classes,
        split=images.split,
        data=name,
        fingerprint=fingerprint,
        skipped=skipped,
    )


def _take(
    model: Model, images: ImageSet, protocols: Sequence[Protocol | ProtocolAt], test_scales: Sequence[int] | None
) -> "_Tested | TransferredModel":
    if isinstance(model, DescribedNet) or not is_transfer_folder(model):
        return _Tested.of(model, images, protocols, test_scales)
    if test_scales is not None or list(protocols) != [find_protocol("single")]:
        raise UsageError(
            f"{model} is a classifier of descriptors with scales of its own: give no protocol and no scales"
        )
    transferred = TransferredModel(model)
    transferred.check_images(images)
    return transferred


@dataclass(frozen=True)
class _Tested:
    net: DescribedNet
    name: str
    selected_on: str | None
    tests: tuple[ProtocolAt, ...]
    order: list[int] | None  # of the net's scores, where the data have another

    @staticmethod
    def of(
        model: Model, images: ImageSet, protocols: Sequence[Protocol | ProtocolAt], test_scales: Sequence[int] | None
    ) -> "_Tested":
        if isinstance(model, DescribedNet):
            net, name, selected = model, "", None
        else:
            net, name = open_net(model), str(model)
            selected = net.file.card.selected_on
        order = class_order(net, images)
        tests = (one if isinstance(one, ProtocolAt) else at_scales(one, net, test_scales) for one in protocols)
        return _Tested(net, name, selected, tuple(tests), order)

    @property
    def largest_scale(self) -> int:
        """At which a whole image must be held, pixels; 0 where there is none: the centre may be cut out before."""
        return max((max(test.scales) for test in self.tests if test.protocol.name != "centre"), default=0)

    def results(
        self,
        images: ImageSet,
        described: LabelledImages,
        compute: Compute,
        progress: Progress,
        note: Callable[[str], None] | None,
    ) -> list[Result]:
        measured: dict[ProtocolAt, Measured[ndarray]] = {}
        for rounds_up in (False, True):
            tests = [test for test in self.tests if test.protocol.rounds_up == rounds_up]
            if not tests:
                continue
            backend = make_test_backend(self.net, compute, rounds_up=rounds_up)
            of_tests = _posteriors(backend, images, tests, mirror=self.net.mirror, progress=progress)
            for one in of_tests:
                check_finite(one.result, self.name or self.net.geometry.title)
            measured |= zip(tests, of_tests, strict=True)
            dense = [one for one in of_tests if one.is_dense]
            if note is not None and dense and all(one.is_one_position for one in dense):
                note(
                    "every score map has a single position at these sizes, so that dense testing sees no more than the "
                    f"centre of an image: give --test-scales of {(backend.head_kernel + 1) * TOTAL_STRIDE} or more"
                )
        results = [
            Result(
                **vars(described),
                posteriors=measured[test].result if self.order is None else measured[test].result[:, self.order],
                members=(self.member(test, compute.precision, measured[test]),),
                seconds=measured[test].seconds,
            )
            for test in self.tests
        ]
        warning = next(filter(None, (result.warning for result in results)), None)
        for line in (warning, order_note(self.net, self.order, images)):
            if note is not None and line is not None:
                note(f"{self.name or self.net.geometry.title}: {line}")
        return results

    def member(self, test: ProtocolAt, precision: str, measured: Measured[ndarray]) -> Member:
        return Member(
            model=self.name,
            architecture=self.net.geometry.architecture.name,
            protocol=test.protocol.name,
            test_scales=test.scales,
            selected_on=self.selected_on,
            precision=precision,
            map_positions=measured.map_positions,
            share_seen=measured.share_seen,
        )


def evaluate_with(
    backend: Backend, net: DescribedNet, images: ImageSet, *, mirror: bool, progress: Progress = ignore_progress
) -> Result:
    """Measures a net by ``single`` with a backend of one's own, with mirror images or without."""
    tested = _Tested.of(net, images, [find_protocol("single")], None)
    (found,) = _posteriors(backend, images, tested.tests, mirror=mirror, progress=progress)
    return Result(
        **vars(_described(images)),
        posteriors=found.result,
        members=(tested.member(tested.tests[0], "fp32", found),),
        seconds=found.seconds,
    )


def _posteriors(
    backend: Backend, images: ImageSet, tests: Sequence[ProtocolAt], *, mirror: bool, progress: Progress
) -> list[Measured[ndarray]]:
    reduction = functools.partial(MeanPosterior, len(images), backend.num_classes)
    try:
        return measure(backend, images, tests, reduction, mirror=mirror, progress=progress)
    except DamagedImageError as error:
        raise error.in_a_set() from error


@dataclass(frozen=True, kw_only=True)
class ComparedPair:
    first: str  # title of the first
    second: str  # title of the second
    comparison: Comparison  # of their top-1 errors
    corrected_p_value: float  # corrected for the number of pairs, by Holm's method

    def as_record(self) -> dict[str, Any]:
        names = {"first": self.first, "second": self.second}
        return names | self.comparison.as_record() | {"corrected_p_value": self.corrected_p_value}


def compare_pairs(results: Sequence[Result]) -> list[ComparedPair]:
    """Compares every two results, corrected for the number of pairs."""
    pairs = list(itertools.combinations(results, 2))
    comparisons = []
    for first, second in pairs:
        check_alike(first, second)
        comparisons.append(compare(wrong(first.posteriors, first.labels), wrong(second.posteriors, second.labels)))
    corrected = holm([comparison.p_value for comparison in comparisons])
    return [
        ComparedPair(first=first.title, second=second.title, comparison=comparison, corrected_p_value=value)
        for (first, second), comparison, value in zip(pairs, comparisons, corrected, strict=True)
    ]
