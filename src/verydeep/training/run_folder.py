"""The run folder: the options, the log, the checkpoints, the model file.

Only the first of several processes writes. A folder with a ``run.json`` always holds a checkpoint too: the first is
written before it.
"""

import json
import os
import shlex
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from verydeep.distributed import broadcast_from_rank0, processes
from verydeep.errors import UsageError, UserError
from verydeep.files import append_line, as_text, atomic_write, is_leftover, parse_json, read_lines, remove_leftovers
from verydeep.nets.model_card import ModelCard
from verydeep.nets.stored_net import (
    CHECKPOINT_FILE,
    MODEL_FILE,
    PREVIOUS_CHECKPOINT_FILE,
    format_error,
    read_progress,
)
from verydeep.training.run_lock import HOLDER_FILE, LOCK_FILE, locked
from verydeep.training.run_settings import check_resumable, check_settings
from verydeep.training.state import Position
from verydeep.weights.resolve import read_card

if TYPE_CHECKING:
    from torch import Tensor

    from verydeep.nets.net import VeryDeep

SETTINGS_FILE, LOG_FILE = "run.json", "log.jsonl"
RESULT_FILE, TENSORBOARD_FOLDER = "result.json", "tensorboard"
PAGE_FILE, IMAGES_FILE = "report.html", "images.json"
CLASSIFIER_FILE = "classifier.safetensors"
"""Of a localiser: the classifier that was trained before it."""

_NEXT_CHECKPOINT_FILE = "checkpoint-next.safetensors"
_FILES = (
    CHECKPOINT_FILE, PREVIOUS_CHECKPOINT_FILE, _NEXT_CHECKPOINT_FILE, LOG_FILE, SETTINGS_FILE, RESULT_FILE, PAGE_FILE,
    IMAGES_FILE, CLASSIFIER_FILE,
)  # fmt: skip


@dataclass(frozen=True)
class Run:
    """A run folder; ``settings`` are all that the training needs to be resumed."""

    folder: Path
    settings: dict[str, Any]

    @staticmethod
    def create(folder: Path, settings: dict[str, Any], net: "VeryDeep", card: ModelCard) -> "Run":
        """Makes a run folder with its first checkpoint: from then on the training can be resumed whatever happens."""
        run, made = Run(folder, settings), not folder.exists()
        if processes().is_first:
            check_free(folder)
            try:
                with _named(folder):
                    folder.mkdir(parents=True, exist_ok=True)
                run._clear()
                run._save_checkpoint(net, card, {}, Position())
                run._save_settings()
            except BaseException:
                run._clear()
                if made and folder.is_dir():
                    folder.rmdir()
                raise
        return run

    def _save_settings(self) -> None:
        file = self.folder / SETTINGS_FILE
        with _named(file), atomic_write(file) as temporary:
            temporary.write_text(json.dumps(self.settings, indent=2) + "\n", encoding="utf-8")

    @staticmethod
    def open(folder: Path) -> "Run":
        try:
            settings = parse_json((folder / SETTINGS_FILE).read_bytes())
        except FileNotFoundError as error:
            raise UserError(f"{folder} is not a run folder: --resume needs --out with the folder of a run") from error
        except (OSError, ValueError) as error:
            raise UserError(f"{folder / SETTINGS_FILE} cannot be read: {error}") from error
        check_settings(folder / SETTINGS_FILE, settings)
        return Run(folder, settings)

    def check_resumable(self) -> None:
        """Raises UserError where ``run.json`` lacks what a training needs to be resumed."""
        check_resumable(self.folder / SETTINGS_FILE, self.settings)

    @property
    def model_file(self) -> Path:
        return self.folder / MODEL_FILE

    @property
    def checkpoint_file(self) -> Path:
        return self.folder / CHECKPOINT_FILE

    @property
    def previous_checkpoint_file(self) -> Path:
        return self.folder / PREVIOUS_CHECKPOINT_FILE

    @property
    def finished(self) -> bool:
        """Whether the training came to its end; where its checkpoints are gone, whether it left a model file."""
        if not self.checkpoint_file.exists():
            return self.model_file.exists()
        position = Position.from_record(read_progress(self.checkpoint_file))
        return position.is_last(self.settings["recipe"]["epochs"], self.patience)

    @property
    def patience(self) -> int | None:
        """Of ``--patience``: epochs without a better validation error after which the training ends."""
        patience: int | None = self.settings.get("options", {}).get("patience")
        return patience

    @property
    def verb(self) -> str:
        """What trained it: ``train``, or ``localise train``."""
        verb: str = self.settings.get("verb", "train")
        return verb

    @property
    def resume_command(self) -> str:
        return f"verydeep {self.verb} --resume --out {shlex.quote(str(self.folder))}"

    @property
    def plan(self) -> dict[str, Any]:
        """The plan of ``auto``, or the limit of ``--minutes``; empty where there is neither."""
        return self.settings.get("plan") or {}

    @property
    def pictures(self) -> bool:
        """Whether its report may show pictures: not with ``--no-pictures``."""
        return not self.settings.get("options", {}).get("no_pictures", False)

    def save_result(self, record: dict[str, Any]) -> None:
        """Writes the errors that were measured at the end."""
        if processes().is_first:
            with _named(self.folder / RESULT_FILE), atomic_write(self.folder / RESULT_FILE) as temporary:
                temporary.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")

    def read_result(self) -> dict[str, Any] | None:
        """Reads the errors that were measured at the end; None where there are none, or not whole."""
        try:
            record = parse_json((self.folder / RESULT_FILE).read_bytes())
        except (OSError, ValueError):
            return None
        return record if isinstance(record, dict) else None

    def _clear(self) -> None:
        if self.folder.is_dir():
            for name in _FILES:
                (self.folder / name).unlink(missing_ok=True)
            shutil.rmtree(self.folder / TENSORBOARD_FOLDER, ignore_errors=True)
            remove_leftovers(self.folder)

    def discard_if_new(self) -> None:
        """Removes the files of a training that failed before it had anything to keep."""
        if processes().is_first and not self._is_kept:
            self._clear()

    @property
    def _is_kept(self) -> bool:
        """Whether the training has something to keep."""
        if self.model_file.exists():
            return True
        if not self.checkpoint_file.exists():
            return False
        position = Position.from_record(read_progress(self.checkpoint_file))
        return (position.epoch, position.iteration) != (0, 0)

    def log(self, record: dict[str, Any]) -> None:
        if processes().is_first:
            with _named(self.folder / LOG_FILE):
                append_line(self.folder / LOG_FILE, record)

    def log_records(self) -> list[dict[str, Any]]:
        file = self.folder / LOG_FILE
        return read_lines(file, errors="replace") if file.exists() else []

    def save_model(self, net: "VeryDeep", card: ModelCard, precision: str = "fp32") -> None:
        if processes().is_first:
            from verydeep.nets.model_file import save

            save(net, self.model_file, card=card, precision=precision)

    def save_checkpoint(
        self, net: "VeryDeep", card: ModelCard, momentum: "dict[str, Tensor]", position: Position
    ) -> None:
        """Writes the state to resume from; the one before it is kept, and both stay whole while this one is written.

        A ``run.json`` that somebody has removed meanwhile is written again: nothing could be resumed without it.
        """
        if processes().is_first:
            self._save_checkpoint(net, card, momentum, position)
            if not (self.folder / SETTINGS_FILE).exists():
                self._save_settings()

    def _save_checkpoint(
        self, net: "VeryDeep", card: ModelCard, momentum: "dict[str, Tensor]", position: Position
    ) -> None:
        from verydeep.nets.model_file import save

        written = self.folder / _NEXT_CHECKPOINT_FILE
        try:
            save(net, written, card=card, state=momentum, progress=position.as_record())
        except UserError as error:
            _check_there(self.folder)
            again = f"resume with --resume --out {self.folder}" if self._is_kept else "train again"
            raise UserError(f"{error}; free some space, then {again}") from error
        with _named(self.checkpoint_file):
            if self.checkpoint_file.exists():
                self.checkpoint_file.replace(self.previous_checkpoint_file)
            written.replace(self.checkpoint_file)

    def restore(self) -> "tuple[VeryDeep, dict[str, Tensor], Position, str | None]":
        """Reads the state to resume from, and cuts the log back to it.

        Returns the net, its velocities, its position, and what is wrong with the newest checkpoint where the one before
        it was read.
        """
        from verydeep.nets.model_file import load_checkpoint

        problem = None
        try:
            net, momentum, record = load_checkpoint(self.checkpoint_file)
            file = self.checkpoint_file
        except UserError as error:
            if not self.previous_checkpoint_file.exists():
                raise
            problem = str(error)
            net, momentum, record = load_checkpoint(self.previous_checkpoint_file)
            file = self.previous_checkpoint_file
        if read_card(file).recipe != self.settings["recipe"]:
            raise UserError(
                f"the recipe in {self.folder / SETTINGS_FILE} is not the one that {file.name} was trained by: "
                "restore it, or train anew"
            )
        position = Position.from_record(record)
        if processes().is_first:
            with _named(self.folder):
                remove_leftovers(self.folder)
                self._cut_log(position.log_lines)
        return net, momentum, position, problem

    def _cut_log(self, num_lines: int) -> None:
        lines = self.log_records()[:num_lines]
        with atomic_write(self.folder / LOG_FILE) as temporary:
            temporary.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")


@contextmanager
def _named(file: Path) -> Iterator[None]:
    """Turns an OSError into a UserError that names the file."""
    try:
        yield
    except OSError as error:
        if isinstance(error, FileNotFoundError):
            _check_there(file.parent)
        raise UserError(f"{file} cannot be written: {format_error(error)}") from error


def _check_there(folder: Path) -> None:
    if not folder.is_dir():
        raise UserError(f"{folder} is gone: somebody has removed it while it was trained into: train again")


def check_same_options(where: str, began: Mapping[str, Any], options: Mapping[str, Any]) -> None:
    """Checks that the options of what is resumed are those that it began with; the first that differs is named."""
    for key, value in json.loads(json.dumps(options)).items():
        if began.get(key) != value:
            raise UsageError(
                f"{where} began with {key} {began.get(key)}, not {value}: give what it began with, or another --out"
            )


@contextmanager
def claimed(out: Path | None, free_name: Callable[[], Path]) -> Iterator[Path]:
    """A context with a run folder that no other training can take; removed where the block leaves no run in it.

    ``out`` is taken if it is free; without it ``free_name`` gives names until one is new. A folder that was there
    before stays, empty.

    Raises:
        UsageError: ``out`` holds a run or something else already.
        UserError: it cannot be made, or another process has claimed it.
    """

    def make() -> dict[str, Any]:
        while True:
            folder = out or free_name()
            check_free(folder)
            made = [str(one) for one in (folder, *folder.parents) if not one.exists()]
            try:
                folder.mkdir(parents=True, exist_ok=out is not None)
                return {"folder": str(folder), "made": made}
            except FileExistsError:  # another training has made it just now
                continue
            except OSError as error:
                raise UserError(f"{folder} cannot be written: {format_error(error)}") from error

    def check() -> dict[str, Any]:
        check_free(folder)
        return {}

    record = broadcast_from_rank0(make)
    folder = Path(record["folder"])
    with locked(folder):
        broadcast_from_rank0(check)
        try:
            yield folder
        finally:
            if processes().is_first and not (folder / SETTINGS_FILE).exists():
                for name in (LOCK_FILE, HOLDER_FILE):
                    (folder / name).unlink(missing_ok=True)
                with suppress(OSError):  # somebody has put something there
                    for made in record["made"]:
                        Path(made).rmdir()


def _has_begun(folder: Path) -> bool:
    """Whether a folder holds a checkpoint after the first."""
    with suppress(UserError):  # cut short, so the first
        position = Position.from_record(read_progress(folder / CHECKPOINT_FILE))
        return (position.epoch, position.iteration) != (0, 0)
    return False


def check_free(folder: Path) -> None:
    """Checks that a folder can become a run folder, without making it.

    What a training left that was killed before it began does not count.
    """
    if as_text(str(folder)) != str(folder):
        raise UsageError(f"--out {folder}: the name is no UTF-8, which model files need: give another")
    if (folder / SETTINGS_FILE).exists():
        raise UsageError(f"--out {folder} holds a run already: add --resume to resume it, or give another folder")
    if _has_begun(folder):
        raise UsageError(
            f"--out {folder} holds a training whose {SETTINGS_FILE} is gone: restore that to resume it, or give "
            "another folder"
        )
    if folder.is_dir():
        known = (*_FILES, LOCK_FILE, HOLDER_FILE)
        if any(entry.name not in known and not is_leftover(entry) for entry in folder.iterdir()):
            raise UsageError(f"--out {folder} is not empty: give a new folder")
    elif folder.exists() and not folder.is_dir():  # another training may make it just now
        raise UsageError(f"--out {folder} is a file: give a new folder")
    parent = next(parent for parent in (folder, *folder.absolute().parents) if parent.exists())
    if not parent.is_dir() or not os.access(parent, os.W_OK | os.X_OK):
        raise UserError(f"--out {folder} cannot be written: {parent} is not a folder you may write to")
