"""Nets, images and a protocol become error rates."""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path

import torch

from verydeep.data.dataset import DataSet
from verydeep.data.folder import class_folders, image_files
from verydeep.data.image_set import ImageSet
from verydeep.data.open import open_data
from verydeep.device import Compute, find_device
from verydeep.errors import UserError
from verydeep.evaluation.measure import Note, measure_posteriors
from verydeep.evaluation.measure import posterior as posterior
from verydeep.evaluation.protocols import Protocol, check_scales, find_protocol
from verydeep.evaluation.result import LabelledImages, Member, check_alike, fuse
from verydeep.evaluation.result import Result as Result
from verydeep.evaluation.saved import is_saved_posteriors, load_posteriors
from verydeep.images.decode import DAMAGED_REMEDY, DamagedImageError, is_image_file
from verydeep.nets.net import VeryDeep
from verydeep.progress import Progress, ignore_progress
from verydeep.speed.accelerate import fastest
from verydeep.weights.resolve import load, read_card

Model = VeryDeep | str | Path
"""A net, a model file, a run folder or a file of saved posteriors."""


def evaluate(
    model: Model | Sequence[Model],
    data: str | Path | DataSet | ImageSet | None = None,
    *,
    protocol: str = "single",
    test_scales: Sequence[int] | None = None,
    split: str | None = None,
    device: str | None = None,
    skip_damaged: bool = False,
    progress: Progress = ignore_progress,
    note: Note | None = None,
) -> Result:
    """Measures the error rates of a net by a protocol, or of several nets whose posteriors are averaged.

    Args:
        model: a net, a model file, a run folder or a file of saved posteriors; or several of these, which are fused.
        data: a built-in name, a folder or shards; or a data set that is open, or its images. Files of saved posteriors
            need none.
        protocol: a name in ``PROTOCOLS``, such as ``multi-scale``.
        test_scales: Q, pixels; by default what the protocol says for the net's training scale.
        split: train, val or test; by default test where there is one, else val.
        device: cpu, cuda or mps; by default the fastest there is.
        skip_damaged: leave damaged images out and name them, instead of failing.
        progress: told how far it is.
        note: told what it will cost, before it begins.

    Raises:
        UserError: a model, the data or an image cannot be used; the classes are not the net's; or saved posteriors
            are of other images.
        UsageError: an unknown protocol or a scale below the crop.

    Paper: section 3.2, section 4.
    """
    models = [model] if isinstance(model, VeryDeep | str | Path) else list(model)
    return fuse(
        evaluate_each(
            models,
            data,
            protocol=protocol,
            test_scales=test_scales,
            split=split,
            device=device,
            skip_damaged=skip_damaged,
            progress=progress,
            note=note,
        )
    )


def evaluate_each(
    models: Sequence[Model],
    data: str | Path | DataSet | ImageSet | None = None,
    *,
    protocol: str = "single",
    test_scales: Sequence[int] | None = None,
    split: str | None = None,
    device: str | None = None,
    skip_damaged: bool = False,
    progress: Progress = ignore_progress,
    note: Note | None = None,
) -> list[Result]:
    """Measures the error rates of several nets on the same images; as ``evaluate``, not fused.

    Raises:
        UserError: as ``evaluate``.
        UsageError: as ``evaluate``.
    """
    find_protocol(protocol)
    saved = {
        number: load_posteriors(one)
        for number, one in enumerate(models)
        if not isinstance(one, VeryDeep) and is_saved_posteriors(one)
    }
    if data is None and len(saved) < len(models):
        raise UserError("which data? Only files of saved posteriors need none")
    opened = None if data is None else _open(data, split, skip_damaged, progress)
    if opened is None:
        return list(saved.values())
    for result in saved.values():
        check_alike(result, opened.described)
    ready = {  # every mistake is told before the first net is tested
        number: _prepare(one, opened.images, protocol, test_scales)
        for number, one in enumerate(models)
        if number not in saved
    }
    choice = Compute(device=find_device(device), precision="fp32", channels_last=True, threads=torch.get_num_threads())
    return [
        saved[number] if number in saved else ready[number].test(opened, choice, progress, note)
        for number in range(len(models))
    ]


def _open(
    data: str | Path | DataSet | ImageSet, split: str | None, skip_damaged: bool, progress: Progress
) -> "_Opened":
    name = fingerprint = ""
    if isinstance(data, ImageSet):
        images = data
    else:
        if not isinstance(data, DataSet):
            _check_labelled(Path(data))
            data = open_data(data, progress)
        images, name, fingerprint = data.split(split), data.name, data.fingerprint
    images, skipped = images.checked(skip_damaged=True) if skip_damaged else (images, [])
    described = LabelledImages(
        labels=images.labels,
        names=images.names,
        classes=images.classes,
        split=images.split,
        data=name,
        fingerprint=fingerprint,
        skipped=skipped,
    )
    return _Opened(images, described)


@dataclass(frozen=True)
class _Opened:
    images: ImageSet
    described: LabelledImages


def _check_labelled(path: Path) -> None:
    """Refuses images without labels before anything else is said of them."""
    if path.is_file() and is_image_file(path):
        raise UserError(f"{path} is an image: error rates need labelled images; verydeep predict names its classes")
    if path.is_dir() and not class_folders(path) and image_files(path):
        raise UserError(
            f"{path} holds images without labels: error rates need a folder for each class; for the classes of "
            "images without labels use verydeep predict"
        )


@dataclass(frozen=True)
class _Ready:
    """A net that can be tested."""

    net: VeryDeep
    name: str
    selected_on: str | None
    protocol: Protocol
    scales: tuple[int, ...]

    def test(self, opened: _Opened, choice: Compute, progress: Progress, note: Note | None) -> Result:
        computing = fastest(self.net) if choice.device == "cpu" else self.net
        try:
            measured = measure_posteriors(computing, opened.images, self.protocol, self.scales, choice, progress, note)
        except DamagedImageError as error:
            raise DamagedImageError(f"{error}; {DAMAGED_REMEDY}") from error
        member = Member(
            model=self.name,
            architecture=self.net.geometry.architecture.name,
            protocol=self.protocol.name,
            test_scales=self.scales,
            selected_on=self.selected_on,
            cost=measured.cost,
        )
        return Result(
            **{part.name: getattr(opened.described, part.name) for part in fields(opened.described)},
            posteriors=measured.posteriors,
            members=(member,),
            seconds=measured.seconds,
        )


def _prepare(model: Model, images: ImageSet, protocol: str, test_scales: Sequence[int] | None) -> _Ready:
    row = find_protocol(protocol)
    if isinstance(model, VeryDeep):
        net, name, selected = model, "", None
    else:
        net, name, selected = load(model), str(model), read_card(model).selected_on
    check_classes(net, images)
    scales = row.test_scales(net) if test_scales is None else check_scales(net, test_scales)
    return _Ready(net, name, selected, row, scales)


def check_classes(net: VeryDeep, images: ImageSet) -> None:
    """Checks that the scores of a net mean the classes of the images.

    Raises:
        UserError: they do not; the message names a class that differs. Or the net gives no scores.
    """
    net.require_scores()
    if net.geometry.num_classes != len(images.classes):
        raise UserError(
            f"the net has {net.geometry.num_classes} classes and the data {len(images.classes)}: "
            "test on the data it was trained for"
        )
    if net.classes is not None and net.classes != images.classes:
        ours, theirs = next(pair for pair in zip(net.classes, images.classes, strict=True) if pair[0] != pair[1])
        raise UserError(f"the net's classes are not the data's: it has {ours!r} where the data have {theirs!r}")
