"""The run folder: what was asked for, the log, the checkpoint, the model file."""

import json
import os
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor

from verydeep.atomic import written_whole
from verydeep.convnets.model_file import CHECKPOINT_FILE, MODEL_FILE, ModelCard, load_checkpoint, save
from verydeep.convnets.net import VeryDeep
from verydeep.mistakes import MistakeError, WrongUseError
from verydeep.records import append_line, read_lines
from verydeep.training.plateau import Plateau

SETTINGS_FILE, LOG_FILE = "run.json", "log.jsonl"


@dataclass(frozen=True, kw_only=True)
class Progress:
    """How far a training has come.

    Attributes:
        epoch: epochs completed.
        iteration: weight updates of the present epoch.
        loss: sum of the losses of the present epoch's images.
        wrong: present epoch's training images classified wrongly when they were used.
        seen: present epoch's training images used.
        seconds: time spent on the present epoch's updates.
        plateau: state of the plateau rule.
        best_error: lowest validation error so far, a fraction.
        log_lines: lines of the log that belong to this state.
    """

    epoch: int = 0
    iteration: int = 0
    loss: float = 0.0
    wrong: int = 0
    seen: int = 0
    seconds: float = 0.0
    plateau: Plateau = field(default_factory=Plateau)
    best_error: float = float("inf")
    log_lines: int = 0

    @staticmethod
    def from_record(record: dict[str, Any]) -> "Progress":
        """Reads what as_record wrote."""
        return Progress(**record | {"plateau": Plateau(**record["plateau"])})

    def as_record(self) -> dict[str, Any]:
        """The fields, for JSON."""
        return asdict(self)


@dataclass(frozen=True)
class Run:
    """A run folder.

    Attributes:
        folder: where it lies.
        settings: everything the training needs to go on.
    """

    folder: Path
    settings: dict[str, Any]

    @staticmethod
    def create(folder: Path, settings: dict[str, Any]) -> "Run":
        """Makes a run folder.

        Raises:
            MistakeError: the folder cannot be written.
            WrongUseError: the folder holds something already.
        """
        check_free(folder)
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with written_whole(folder / SETTINGS_FILE) as temporary:
                temporary.write_text(json.dumps(settings, indent=2) + "\n", encoding="utf-8")
        except OSError as error:
            raise MistakeError(f"--out {folder} cannot be written: {error.strerror or error}") from error
        return Run(folder, settings)

    @staticmethod
    def open(folder: Path) -> "Run":
        """Opens a run folder to go on with it.

        Raises:
            MistakeError: it is none.
        """
        try:
            settings = json.loads((folder / SETTINGS_FILE).read_text(encoding="utf-8"))
        except FileNotFoundError as error:
            raise MistakeError(f"{folder} is no run folder: --resume needs --out with the folder of a run") from error
        except (OSError, json.JSONDecodeError) as error:
            raise MistakeError(f"{folder / SETTINGS_FILE} cannot be read: {error}") from error
        return Run(folder, settings)

    @property
    def model_file(self) -> Path:
        """The model file of the finished training."""
        return self.folder / MODEL_FILE

    @property
    def checkpoint_file(self) -> Path:
        """The state to go on from."""
        return self.folder / CHECKPOINT_FILE

    def discard(self) -> None:
        """Removes the folder of a training that failed before it had anything to keep."""
        if not self.checkpoint_file.exists() and not self.model_file.exists():
            for name in (SETTINGS_FILE, LOG_FILE):
                (self.folder / name).unlink(missing_ok=True)
            self.folder.rmdir()

    def log(self, record: dict[str, Any]) -> None:
        """Adds a line to the log."""
        append_line(self.folder / LOG_FILE, record)

    def log_records(self) -> list[dict[str, Any]]:
        """The lines of the log."""
        file = self.folder / LOG_FILE
        return read_lines(file) if file.exists() else []

    def save_checkpoint(self, net: VeryDeep, card: ModelCard, momentum: dict[str, Tensor], progress: Progress) -> None:
        """Writes the state to go on from."""
        save(net, self.checkpoint_file, card=card, state=momentum, progress=progress.as_record())

    def restore(self) -> tuple[VeryDeep, dict[str, Tensor], Progress]:
        """Reads the state to go on from, and cuts the log back to it.

        Raises:
            MistakeError: there is no checkpoint, or it is damaged.
        """
        if not self.checkpoint_file.exists():
            raise MistakeError(f"{self.folder} has no checkpoint yet: remove the folder and train anew")
        net, momentum, record = load_checkpoint(self.checkpoint_file)
        progress = Progress.from_record(record)
        lines = self.log_records()[: progress.log_lines]
        with written_whole(self.folder / LOG_FILE) as temporary:
            temporary.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
        return net, momentum, progress


def check_free(folder: Path) -> None:
    """Checks that a folder can become a run folder, without making it.

    Raises:
        MistakeError: it cannot be written.
        WrongUseError: it holds something already.
    """
    if (folder / SETTINGS_FILE).exists():
        raise WrongUseError(f"--out {folder} holds a run already: go on with it by --resume, or give another folder")
    if folder.is_dir():
        if any(folder.iterdir()):
            raise WrongUseError(f"--out {folder} is not empty: give a new folder")
    elif folder.exists():
        raise WrongUseError(f"--out {folder} is a file: give a new folder")
    parent = next(parent for parent in (folder, *folder.absolute().parents) if parent.exists())
    if not parent.is_dir() or not os.access(parent, os.W_OK | os.X_OK):
        raise MistakeError(f"--out {folder} cannot be written: {parent} is no folder you may write to")


def free_name(base: str, taken: Callable[[str], bool]) -> str:
    """Gives a name that is not taken: the base itself, or with -2, -3 ... after it."""
    name, number = base, 1
    while taken(name):
        number += 1
        name = f"{base}-{number}"
    return name
