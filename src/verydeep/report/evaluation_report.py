"""The report of ``verydeep evaluate``: its figures, joined with what the model knows of its training."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from verydeep.data.dataset import describe
from verydeep.data.open import open_data
from verydeep.errors import UserError
from verydeep.evaluation.result import Result
from verydeep.files import read_lines
from verydeep.machine import environment
from verydeep.nets.model_card import ModelCard
from verydeep.report.report import Report, write_report
from verydeep.report.worst import worst_mistakes
from verydeep.training.run_folder import LOG_FILE
from verydeep.weights.resolve import find_model_file, load, read_card


def write_evaluation_report(file: Path, result: Result, model: str, data: str, command: str) -> Path:
    """Writes the report of a test.

    Args:
        file: where.
        result: of the test.
        model: the model file or run folder that was tested.
        data: what it was tested on.
        command: that gave the result.

    Raises:
        UserError: the file cannot be written.
    """
    opened, net, card = open_data(data), load(model), read_card(model)
    images = opened.split(result.split).without(result.skipped)
    report = Report(
        title=f"{net.geometry.title} on {opened.name}",
        result=result,
        selected_on=result.selected_on,
        mistakes=worst_mistakes(result, images, net),
        log=_log(model),
        commands=[command],
        facts={
            "The data": {
                "contents": describe(opened),
                "validation": opened.validation,
                "fingerprint": opened.fingerprint,
            },
            "The net": _net_facts(card, model),
            "The recipe it was trained by": card.recipe or {},
            "How it was computed": environment(),
        },
    )
    try:
        return write_report(file, report)
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
