"""Saved posteriors: one safetensors file that says what they are of.

It holds ``posteriors`` (n,k float32) and ``labels`` (n int64). The names of the images, the classes, the net, the
protocol and the data set are one JSON string in its metadata. Error rates, fusion and comparisons follow from such
files alone.
"""

import json
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy import ndarray
from pydantic import BaseModel, ConfigDict, ValidationError
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from verydeep.errors import UserError
from verydeep.evaluation.cost import Cost
from verydeep.evaluation.result import Member, Result
from verydeep.files import atomic_write, check_output_file

_METADATA_KEY = "verydeep_posteriors"


class _Member(BaseModel):
    model_config = ConfigDict(extra="ignore")

    model: str
    architecture: str
    protocol: str
    test_scales: tuple[int, ...]
    selected_on: str | None
    cost: dict[str, int | float | None] | None

    def member(self) -> Member:
        # pydantic has checked that they are numbers; which are whole is Cost's own
        cost = Cost(**self.cost) if self.cost else None  # type: ignore[arg-type]
        return Member(**{**self.model_dump(), "cost": cost})


class _Card(BaseModel):
    model_config = ConfigDict(extra="ignore")

    format_version: Literal[1] = 1
    names: list[Any]  # a file's name need not be Unicode, which pydantic would refuse
    classes: tuple[str, ...]
    members: tuple[_Member, ...]
    split: str
    data: str
    fingerprint: str
    seconds: float
    skipped: list[Any]


def is_saved_posteriors(file: str | Path) -> bool:
    """Whether a file is one of saved posteriors; a file that cannot be read is none."""
    path = Path(file)
    try:
        return path.is_file() and _METADATA_KEY in _read_metadata(path)
    except (SafetensorError, OSError):
        return False


def _read_metadata(file: Path) -> dict[str, str]:
    with safe_open(file, framework="np") as opened:
        metadata: dict[str, str] | None = opened.metadata()
    return metadata or {}


def check_writable(file: Path) -> None:
    """Checks, before a long test, that its posteriors can be written, and that they overwrite nothing else.

    Raises:
        UserError: it cannot be written there, or the file is there and no saved posteriors.
        UsageError: there is no such folder, or it is one.
    """
    check_output_file(file, "--save", "posteriors.safetensors", any_ending=True)
    if file.exists() and not is_saved_posteriors(file):
        raise UserError(f"--save {file} is there already and holds no posteriors: give another name")


def save_posteriors(result: Result, file: str | Path) -> None:
    """Writes the posteriors of a test, whole or not at all.

    Args:
        result: of one net, or of several fused.
        file: such as ``hands-dense.safetensors``.

    Raises:
        UserError: the file cannot be written.
    """
    card = {
        "format_version": 1,
        "names": list(result.names),
        "classes": list(result.classes),
        "members": [
            {
                "model": member.model,
                "architecture": member.architecture,
                "protocol": member.protocol,
                "test_scales": list(member.test_scales),
                "selected_on": member.selected_on,
                "cost": member.cost.as_record() if member.cost else None,
            }
            for member in result.members
        ],
        "split": result.split,
        "data": result.data,
        "fingerprint": result.fingerprint,
        "seconds": result.seconds,
        "skipped": list(result.skipped),
    }
    tensors: dict[str, ndarray] = {
        "posteriors": np.ascontiguousarray(result.posteriors, dtype=np.float32),
        "labels": np.ascontiguousarray(result.labels, dtype=np.int64),
    }
    try:
        with atomic_write(Path(file)) as temporary:
            save_file(tensors, temporary, metadata={_METADATA_KEY: json.dumps(card)})
    except (OSError, SafetensorError) as error:
        raise UserError(f"{file} cannot be written: {getattr(error, 'strerror', None) or error}") from error


def load_posteriors(file: str | Path) -> Result:
    """Reads saved posteriors.

    Raises:
        UserError: there is no such file, it is none of saved posteriors, or it is damaged.
    """
    path = Path(file)
    if not path.is_file():
        raise UserError(f"no such file: {path}")
    try:
        metadata = _read_metadata(path)
        if _METADATA_KEY not in metadata:
            raise UserError(f"{path} holds no posteriors: give a file that evaluate --save wrote")
        card = _Card.model_validate(json.loads(metadata[_METADATA_KEY]))
        with safe_open(path, framework="np") as opened:
            posteriors, labels = opened.get_tensor("posteriors"), opened.get_tensor("labels")
        members = tuple(member.member() for member in card.members)
    except ValidationError as error:
        problem = error.errors()[0]
        field = ".".join(map(str, problem["loc"]))
        raise UserError(f"{path}: what it says of itself is not readable at {field}: {problem['msg']}") from error
    except (SafetensorError, OSError, json.JSONDecodeError, TypeError) as error:
        raise UserError(f"{path} is damaged or cut short ({error}): evaluate again") from error
    _check(path, card, posteriors, labels)
    return Result(
        posteriors=posteriors,
        labels=labels,
        names=card.names,
        classes=card.classes,
        members=members,
        split=card.split,
        seconds=card.seconds,
        data=card.data,
        fingerprint=card.fingerprint,
        skipped=card.skipped,
    )


def _check(path: Path, card: _Card, posteriors: ndarray, labels: ndarray) -> None:
    shape = (len(card.names), len(card.classes))
    reason = None
    if posteriors.shape != shape or posteriors.dtype != np.float32:
        reason = f"posteriors are {posteriors.dtype} of shape {posteriors.shape}, not float32 of {shape}"
    elif labels.shape != shape[:1] or labels.dtype != np.int64:
        reason = f"labels are {labels.dtype} of shape {labels.shape}, not int64 of {shape[:1]}"
    elif not len(labels) or not card.members:
        reason = "it holds nothing"
    elif labels.min() < 0 or labels.max() >= shape[1]:
        reason = f"a label is not in 0..{shape[1] - 1}"
    if reason:
        raise UserError(f"{path} is damaged: {reason}: evaluate again")
