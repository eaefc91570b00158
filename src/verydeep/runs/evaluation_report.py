"""The figures and pictures of a test's page, as data for the report."""

import math
import shlex
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from verydeep.data.dataset import DataSet, describe
from verydeep.data.image_set import ImageSet
from verydeep.data.open import open_data
from verydeep.device import fp32_choice
from verydeep.errors import UserError
from verydeep.files import read_lines
from verydeep.images.geometry import rescaled_size
from verydeep.machine import environment
from verydeep.nets.described import DescribedNet
from verydeep.nets.model_card import ModelCard
from verydeep.paper.constants import TOTAL_STRIDE
from verydeep.report.heatmap import HeatMap
from verydeep.report.pages import MOST_CLASSES, REPORT_FILE, Errors, Page, Section, page_of_test, write_page
from verydeep.report.worst import worst_errors
from verydeep.runs.image_findings import read_findings, sections_of_findings
from verydeep.speed.backend import make_backend
from verydeep.testing.classifier import ScoreMap, score_map_at
from verydeep.testing.metrics import confusion_counts, errors_by_class, interval95
from verydeep.testing.protocols import default_test_scale
from verydeep.testing.result import Result
from verydeep.training.run_folder import LOG_FILE, Run
from verydeep.weights.resolve import find_model_file, open_net

_MOST_PIXELS = 4_000_000
"""Pixels of a rescaled image at most, so that the maps of a page take seconds."""


def errors_of(
    result: Result, images: ImageSet, net: DescribedNet | None, remark: str = "", *, pictures: bool = True
) -> Errors:
    """Gathers the errors of a test for its page: class by class, and the worst as pictures with the net's score maps.

    ``images`` are those of the result, in its order; ``remark`` says which test it is on a page of several. Without
    ``pictures`` the worst errors have the names of their files alone.
    """
    assert len(images) == len(result.labels)
    tested = result.posteriors, result.labels
    classes = errors_by_class(*tested, result.classes)
    indices = sorted(row.index for row in classes[:MOST_CLASSES])
    return Errors(
        classes=[vars(row) for row in classes],
        counts=confusion_counts(*tested, indices),
        worst=worst_errors(
            *tested,
            result.names,
            result.classes,
            images.read if pictures else None,
            None if net is None or not pictures else _maps(net),
        ),
        remark=remark,
    )


def _maps(net: DescribedNet) -> Callable[[Image.Image, int], HeatMap | None]:
    """Makes the maps of the worst errors.

    Choice: Q is twice that of the test, so that the map has positions to tell apart, and smaller for long images.
    """
    backend = make_backend(net, fp32_choice(net.device_type))
    crop, wanted = net.geometry.crop, 2 * default_test_scale(net)

    def make(image: Image.Image, index: int) -> HeatMap | None:
        fitting = int(wanted * math.sqrt(_MOST_PIXELS / math.prod(rescaled_size(image.size, wanted))))
        scale = max(min(wanted, fitting), crop)
        if math.prod(rescaled_size(image.size, scale)) > 1.02 * _MOST_PIXELS:
            return None
        return heat_map(score_map_at(backend, np.asarray(image), scale), index)

    return make


def heat_map(map_: ScoreMap, index: int) -> HeatMap:
    return HeatMap(map_.scores[index], map_.first, map_.size, TOTAL_STRIDE)


def page_of_result(
    title: str,
    result: Result,
    errors: Errors,
    *,
    selected_on: str | None,
    log: Sequence[Mapping[str, Any]],
    commands: Sequence[str],
    facts: Mapping[str, Mapping[str, Any]],
    of_training: Sequence[Section] = (),
) -> Page:
    record = result.as_record() | {"selected_on": selected_on, "num_classes": len(result.classes)}
    intervals = {
        name: interval95(record[name], len(result.labels))
        for name in ("top1_error", "top5_error")
        if record[name] is not None
    }
    return page_of_test(
        title, record, intervals, errors, log=log, commands=commands, facts=facts, of_training=of_training
    )


def data_facts(data: DataSet) -> dict[str, Any]:
    return {"contents": describe(data), "validation": data.validation, "fingerprint": data.fingerprint}


def write_training_report(
    run: Run,
    result: Result,
    data: DataSet,
    net: DescribedNet,
    selected_on: str | None,
    *,
    lines: Sequence[str] = (),
    findings: Mapping[str, Any] | None = None,
) -> None:
    """Writes the report of a training into its run folder.

    Args:
        run: the run.
        result: of the test on the validation images.
        data: the data that it was trained on.
        net: as it was trained.
        selected_on: the split that its weights were selected on.
        lines: what was chosen for it, with the reasons; by default those of its plan.
        findings: of ``record_findings``, about the training images; by default those kept in the run folder.
    """
    settings = run.settings
    computed = settings["choice"] | {"seed": settings["seed"]} | settings["environment"] | {"began": settings["began"]}
    page = page_of_result(
        f"{net.geometry.title} on {data.name}",
        result,
        errors_of(result, data.val, net, pictures=run.pictures),
        selected_on=selected_on,
        log=run.log_records(),
        commands=[settings["command"], shlex.join(["verydeep", "evaluate", str(run.folder), settings["data"]])],
        facts={
            "The data": data_facts(data),
            "The recipe": settings["recipe"],
            "How it was computed": computed,
        },
        of_training=[
            Section("What was chosen, and why", "lines", lines or run.plan.get("reasons", ())),
            *sections_of_findings(
                findings or read_findings(run.folder),
                data.classes,
                data.train.names,
                data.train.read if run.pictures else None,
            ),
        ],
    )
    write_page(run.folder / REPORT_FILE, page)


def dense_is_worse(result: Result, of_crop: dict[str, Any]) -> str | None:
    """Says where dense testing is worse than the central crop of the net, by two points and five images at least."""
    error = of_crop.get("top1_error", 1.0)
    worse = result.top1_error - error
    if worse < 0.02 or worse * len(result.labels) < 5:
        return None
    return (
        f"dense testing ({result.protocol}) has an error of {100 * result.top1_error:.2f}%, the central crop "
        f"{100 * error:.2f}%: evaluate and predict with --protocol centre do better here"
    )


def write_evaluation_report(
    file: Path, result: Result, model: str, data: str, command: str, *, pictures: bool = True
) -> Path:
    """Writes the report of the test of a model file or run folder; ``command`` gave the result."""
    opened, net = open_data(data), open_net(model)
    images = opened.split(result.split).without(result.skipped)
    page = page_of_result(
        f"{net.geometry.title} on {opened.name}",
        result,
        errors_of(result, images, net, pictures=pictures),
        selected_on=result.selected_on,
        log=_log(model),
        commands=[command],
        facts={
            "The data": data_facts(opened),
            "The net": _net_facts(net.file.card, model),
            "The recipe it was trained by": net.file.card.recipe or {},
            "How it was computed": environment(),
        },
    )
    try:
        return write_page(file, page)
    except OSError as error:
        raise UserError(f"--report {file} cannot be written: {error.strerror or error}") from error


def _net_facts(card: ModelCard, model: str) -> dict[str, Any]:
    names = ("architecture", "batch_norm", "crop", "width", "train_scale", "mirror", "epochs", "licence", "source")
    facts = {"model": model} | {name: getattr(card, name) for name in names}
    trained_on = {"trained on": f"{card.data.num_train:,} images of {card.data.name}"} if card.data else {}
    return {name: value for name, value in facts.items() if value is not None} | trained_on


def _log(model: str) -> Sequence[dict[str, Any]]:
    """The log of the training, where the model lies in its run folder."""
    file = find_model_file(model).parent / LOG_FILE
    return read_lines(file) if file.is_file() else []
