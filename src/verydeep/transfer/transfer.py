"""Transfer: images are described by a trained net, and a linear classifier is fitted to the descriptors and measured.

Paper: appendix B.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from verydeep.device import find_device, fp32_choice
from verydeep.distributed import processes
from verydeep.errors import UsageError
from verydeep.files import check_outside
from verydeep.nets.net import VeryDeep
from verydeep.progress import Progress, ignore_progress
from verydeep.testing.descriptors import DescriptorOptions, describe, find_layer, find_settings
from verydeep.transfer.classifier import LinearClassifier, fit_classifier
from verydeep.transfer.findings import look_at_images
from verydeep.transfer.labels import DoubtfulLabel
from verydeep.transfer.learning_curve import LearningCurve
from verydeep.transfer.options import TransferOptions
from verydeep.transfer.result import SplitResult, TransferResult, measure_scores, metrics_of
from verydeep.transfer.splits import Split, TransferData, make_splits, open_for_transfer
from verydeep.transfer.write import ModelWriter, rounded
from verydeep.weights.resolve import load


def transfer(
    models: str | Path | Sequence[str | Path],
    data: str | Path,
    options: TransferOptions = TransferOptions(),
    *,
    progress: Progress = ignore_progress,
    note: Callable[[str], None] | None = None,
) -> TransferResult:
    """Fits a linear classifier to descriptors of images, measures it, and writes it as a model.

    Args:
        models: a model file, run folder or published name, or several, whose descriptors are stacked.
        data: as ``open_data`` takes them, a folder in the layout of the Pascal VOC, or one of Caltech's.
        options: what is measured, on which images, how they are described, and where the model goes.
        progress: called with the number of images described, and of classifiers fitted.
        note: called with a line that a reader of the result should know.

    Raises:
        UserError: a model, the data or an image cannot be used; there is one class, or a class has too few images.
        UsageError: options that contradict each other, or a layer that a net has not.

    Paper: appendix B.
    """
    options.check()
    given = [models] if isinstance(models, str | Path) else list(models)
    if not given:
        raise UsageError("no model: give one, such as vgg16-features")
    if len({str(model) for model in given}) < len(given):
        raise UsageError("a model is given twice: its descriptor would be stacked on itself; give each once")
    if options.out is not None:
        check_outside(options.out, "--out", data)
    nets = [load(model) for model in given]
    opened = open_for_transfer(data, options, progress, note)
    metric = _find_metric(options, opened)
    splits = make_splits(opened, options)
    folds_in = can_fold(nets, options, opened)
    describing = _describing(nets, options, opened, normalise=not folds_in)
    writer = None
    if options.out is not None and processes().is_first:
        writer = ModelWriter(
            folder=options.out, models=given, nets=nets, describing=describing, data=opened, seed=options.seed
        )
    begun = time.perf_counter()
    compute = fp32_choice(find_device(options.device))
    rows = np.concatenate(
        [describe(nets, images, describing, compute=compute, progress=progress) for images in opened.sets]
    )
    described = time.perf_counter()
    measure = partial(measure_scores, multi_label=opened.multi_label, eleven_points="2007" in opened.name)
    results: list[SplitResult] = []
    for number, split in enumerate(splits):
        classifier = fit_classifier(
            rows[split.train],
            opened.targets[split.train],
            opened.classes,
            lambda scores, targets: measure(scores, targets, metric),
            kind=options.classifier,
            seed=split.seed,
            multi_label=opened.multi_label,
            progress=progress,
        )
        if folds_in:
            classifier = rounded(classifier, given[0])
        results.append(_measured(classifier, rows, opened, split, measure))
        if number == 0:
            first = classifier
    fitted = time.perf_counter()
    curve: LearningCurve | None = None
    doubtful: list[DoubtfulLabel] = []
    if options.out is not None and not opened.multi_label:
        inside = splits[0].train
        curve, found = look_at_images(first, rows[inside], opened.targets[inside], opened.classes, seed=splits[0].seed)
        doubtful = [replace(one, index=int(inside[one.index])) for one in found]
    result = TransferResult(
        data=opened.name,
        classes=opened.classes,
        multi_label=opened.multi_label,
        metric=metric,
        splits=results,
        about_split=_in_words(opened, options, splits),
        is_drawn=options.per_class is not None,
        models=[str(model) for model in given],
        architectures=[net.geometry.architecture.name for net in nets],
        describing=_record(nets, describing),
        classifier=options.classifier,
        eleven_points="2007" in opened.name,
        fingerprint=opened.fingerprint,
        skipped=opened.skipped,
        seconds={"describing": described - begun, "fitting": fitted - described},
        names=[opened.names[index] for index in splits[0].test.tolist()],
        curve=curve,
        doubtful=doubtful,
        all_names=opened.names,
        read=opened.read,
    )
    if writer is not None:
        file = writer.write(first, result, as_net=folds_in)
        result = replace(result, model=str(file))
        if note is not None and len(splits) > 1:
            note(f"{file} is the classifier of the first of the {len(splits)} splits")
    return result


def _find_metric(options: TransferOptions, data: TransferData) -> str:
    if options.metric is None:
        return "map" if data.multi_label else "accuracy" if options.per_class is None else "recall"
    if options.metric not in metrics_of(data.multi_label):
        raise UsageError(f"--metric {options.metric}: images of {data.name} show several classes each: give map")
    return options.metric


def _describing(
    nets: Sequence[VeryDeep], options: TransferOptions, data: TransferData, *, normalise: bool
) -> DescriptorOptions:
    return DescriptorOptions(
        layer=options.layer,
        test_scales=options.test_scales,
        combine=options.combine,
        pool=options.pool,
        mirror={"on": True, "off": False, "auto": None if data.mirror else False}[options.mirror],
        normalise=normalise,
        root=options.root,
    )


def can_fold(nets: Sequence[VeryDeep], options: TransferOptions, data: TransferData) -> bool:
    """Whether a net with a linear head holds the classifier: one net, the mean of pool5 at one scale, one class."""
    return (
        len(nets) == 1
        and not data.multi_label
        and options.pool == "mean"
        and not options.root
        and len(options.test_scales or (0,)) == 1
        and find_layer(nets[0], options.layer) == "pool5"
    )


def _record(nets: Sequence[VeryDeep], describing: DescriptorOptions) -> dict[str, Any]:
    """The layer, the test scales and the mirror of each net, and how they are combined."""
    settings = find_settings(nets, describing)
    return {
        "layer": [one.layer.name for one in settings],
        "test_scales": [list(one.scales) for one in settings],
        "mirror": [one.mirror for one in settings],
        "combine": describing.combine,
        "pool": describing.pool,
        "normalise": describing.normalise,
        "root": describing.root,
    }


def _measured(
    classifier: LinearClassifier,
    rows: Float[ndarray, "n d"],
    data: TransferData,
    split: Split,
    measure: Callable[[ndarray, ndarray, str], float],
) -> SplitResult:
    scores, targets = classifier.scores(rows[split.test]), data.targets[split.test]
    return SplitResult(
        scores=scores,
        targets=targets,
        values={metric: measure(scores, targets, metric) for metric in metrics_of(data.multi_label)},
        measured_on=split.measured_on,
        num_train=len(split.train),
        seed=split.seed,
        c=classifier.c,
        temperature=classifier.temperature,
        held_out=classifier.held_out,
    )


def _in_words(data: TransferData, options: TransferOptions, splits: Sequence[Split]) -> str:
    if options.per_class is None:
        fitted = "train and val" if splits[0].measured_on == "test" else "train"
        return (
            f"the data's own splits, fitted on {fitted}, measured on {splits[0].measured_on}; C chosen within {fitted}"
        )
    most = "all the others" if options.test_per_class is None else f"at most {options.test_per_class}"
    seeds = ", ".join(str(split.seed) for split in splits)
    return (
        f"{len(splits)} split{'s' if len(splits) > 1 else ''} drawn of {len(data.targets):,} images (seed {seeds}): "
        f"{options.per_class} a class to fit and to choose C on, {most} to measure on"
    )
