"""Curves of a training for TensorBoard, by a callback as anybody could write it."""

import importlib.util
from pathlib import Path
from typing import TYPE_CHECKING

from verydeep.distributed import processes
from verydeep.errors import UserError
from verydeep.training.state import Callback, TrainState

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter


def check_tensorboard() -> None:
    """Raises UserError where the package is missing."""
    if importlib.util.find_spec("tensorboard") is None:
        raise UserError("--log tensorboard needs the package tensorboard: pip install 'verydeep[tensorboard]'")


class TensorBoard(Callback):
    """Writes loss, errors, rate and speed of a training, over its updates.

    A resumed training replaces what was written after its checkpoint.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._writer: SummaryWriter | None = None

    def after_update(self, state: TrainState) -> None:
        at = state.position
        self._write(
            state,
            {
                "train/loss": at.loss / at.seen,
                "train/error": at.score / at.seen,
                "train/rate": state.optimiser.param_groups[0]["lr"],
                "train/images_per_second": at.seen / at.seconds,
            },
        )

    def after_epoch(self, state: TrainState) -> None:
        record = state.record
        names = {"loss": "loss", "error": "train_error", "val_top1_error": "val_top1_error"}
        figures = {f"epoch/{tag}": record[name] for tag, name in names.items()}
        if record["val_top5_error"] is not None:
            figures["epoch/val_top5_error"] = record["val_top5_error"]
        self._write(state, figures)
        if self._writer is not None:
            self._writer.flush()

    def after_training(self, state: TrainState) -> None:
        if self._writer is not None:
            self._writer.close()

    def _write(self, state: TrainState, figures: dict[str, float]) -> None:
        if not processes().is_first:
            return
        step = state.position.epoch * state.num_updates + state.position.iteration
        if self._writer is None:
            check_tensorboard()
            from torch.utils.tensorboard import SummaryWriter

            self._writer = SummaryWriter(str(self._folder), purge_step=step)
        for tag, figure in figures.items():
            self._writer.add_scalar(tag, figure, step)
