"""The state of a training, and the callbacks that watch it; importing this needs no torch.

A resumed training is bit-exact, for nothing random has a state that could be lost: the order of the images is drawn
from (seed, epoch), each crop from (seed, epoch, sample), each dropout mask from (seed, epoch, iteration, layer). A
checkpoint holds the weights, the velocities, the position and the running sums in full precision; run.json says how the
net is computed: device, precision, layout, threads.
"""

import math
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from verydeep.training.plateau import Plateau

if TYPE_CHECKING:
    import torch

    from verydeep.device import Compute
    from verydeep.nets.net import VeryDeep
    from verydeep.training.recipe import Recipe


@dataclass(frozen=True, kw_only=True)
class Position:
    """Position of a training: epoch, iteration, and the running sums of the present epoch."""

    epoch: int = 0  # epochs completed
    iteration: int = 0
    loss: float = 0.0  # sum over the images seen
    score: float = 0.0  # the same; for classes, the images classified wrongly when they were used
    seen: int = 0
    seconds: float = 0.0
    plateau: Plateau = field(default_factory=Plateau)
    best_error: float = float("inf")  # by validation, a fraction
    waited: int = 0  # epochs since then
    log_lines: int = 0  # lines of the log that belong to this state

    @staticmethod
    def from_record(record: dict[str, Any]) -> "Position":
        # 0.1.0 called the score ``wrong``; until 0.3
        fields = {"score" if name == "wrong" else name: value for name, value in record.items()}
        return Position(**fields | {"plateau": Plateau(**record["plateau"])})

    def as_record(self) -> dict[str, Any]:
        return asdict(self)

    def next_epoch(self) -> "Position":
        return Position(
            epoch=self.epoch + 1,
            plateau=self.plateau,
            best_error=self.best_error,
            waited=self.waited,
            log_lines=self.log_lines + 1,
        )

    def is_last(self, epochs: int, patience: int | None) -> bool:
        """Whether the training has ended, by its recipe or by ``--patience``."""
        return self.epoch >= epochs or self.plateau.ended or self.is_out_of_patience(patience)

    def is_out_of_patience(self, patience: int | None) -> bool:
        return patience is not None and self.waited >= patience


@dataclass(kw_only=True)
class TrainState:
    """A training as it is now: changed by the loop, read by callbacks."""

    net: "VeryDeep"
    recipe: "Recipe"
    compute: "Compute"
    seed: int
    num_images: int
    optimiser: "torch.optim.SGD"
    patience: int | None = None  # epochs without a better validation error, after which it ends
    position: Position = field(default_factory=Position)  # its sums are brought up to date when they are reported
    stopping: bool = False  # agreed by all processes
    images: "torch.Tensor | None" = None  # of the last batch, n,3,h,w uint8
    is_best: bool = False  # whether the last validation error is the lowest so far
    record: dict[str, Any] = field(default_factory=dict)  # line of the log of the last epoch
    errors: dict[str, Any] | None = None  # its validation errors, as the model card has them

    @property
    def num_updates(self) -> int:
        return math.ceil(self.num_images / self.recipe.batch_size)

    @property
    def in_epoch(self) -> bool:
        return self.position.iteration < self.num_updates

    @property
    def finished(self) -> bool:
        return self.position.is_last(self.recipe.epochs, self.patience)


class Callback:
    """Called by the training loop, and by the steps before and after it; override what is wanted."""

    def note(self, text: str) -> None:
        """A line worth keeping."""

    def progress(self, what: str, done: int, total: int) -> None:
        """Progress of a step outside the loop."""

    def before_training(self, state: TrainState) -> None:
        """The loop begins, or resumes."""

    def after_update(self, state: TrainState) -> None:
        """After a weight update, a few times a second at most: the sums are those of all processes."""

    def wants_stop(self) -> bool:
        """Whether the training shall stop; called after every update, in every process."""
        return False

    def after_epoch(self, state: TrainState) -> None:
        """After the last update of an epoch; callbacks are called in their order."""
