"""The state of a training, and the callbacks that watch it; importing this needs no torch.

A resumed training is bit-exact, for nothing random has a state that could be lost: the order of the images is drawn
from (seed, epoch), each crop from (seed, epoch, sample), each dropout mask from (seed, epoch, iteration, layer). A
checkpoint holds the weights, the velocities, the position and the running sums in full precision; run.json says how the
net is computed: device, precision, layout, threads.
"""

import math
from dataclasses import asdict, dataclass, field, fields
from typing import TYPE_CHECKING, Any, Final

from verydeep.errors import UserError
from verydeep.training.plateau import Plateau

if TYPE_CHECKING:
    import torch

    from verydeep.device import Compute
    from verydeep.nets.net import VeryDeep
    from verydeep.training.recipe import Recipe


UPDATES_BETWEEN_CHECKS: Final = 100
"""A report is due after every so many updates of an epoch, whatever the clock says: what is checked then is the same in
a resumed training."""


_DAMAGED: Final = "what a checkpoint says of the progress of its training is damaged: train anew"


@dataclass(frozen=True)
class Sums:
    """Updates, and the sums over the images they saw."""

    updates: int = 0
    seen: int = 0
    loss: float = 0.0
    score: float = 0.0

    def __add__(self, other: "Sums") -> "Sums":
        return Sums(
            self.updates + other.updates, self.seen + other.seen, self.loss + other.loss, self.score + other.score
        )

    def __neg__(self) -> "Sums":
        return Sums(-self.updates, -self.seen, -self.loss, -self.score)


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
    window: Sums = field(default_factory=Sums)  # of the updates that are checked next, less those of the present epoch
    flat: int = 0  # updates before these, in succession, whose loss was no better than chance
    at_chance: bool = False  # whether the loss of the epoch is no better than chance
    findings: tuple[dict[str, str], ...] = ()  # of the present epoch
    was_stuck: bool = False  # whether the training was stopped at chance once: it is not stopped again

    @staticmethod
    def from_record(record: dict[str, Any]) -> "Position":
        """Makes a position of what a checkpoint stores, or raises UserError where that is damaged."""
        # 0.1.0 called the score ``wrong``; until 0.3
        given = {"score" if name == "wrong" else name: value for name, value in record.items()}
        try:
            parts = {"plateau": Plateau(**record["plateau"]), "window": Sums(**record.get("window", {}))}
            position = Position(**given | parts | {"findings": tuple(record.get("findings", ()))})
        except (TypeError, KeyError, AttributeError) as error:
            raise UserError(f"{_DAMAGED} ({error})") from error
        for part in (position, position.plateau, position.window):
            for one in fields(part):
                value, usual = getattr(part, one.name), type(one.default)
                kinds = {float: (int, float), int: (int,), bool: (bool,)}.get(usual, (object,))
                if not isinstance(value, kinds) or (isinstance(value, bool) and usual in (int, float)):
                    raise UserError(f"{_DAMAGED} ({one.name} is {str(value)[:40]!r})")
        if min(position.epoch, position.iteration, position.seen, position.log_lines) < 0:
            raise UserError(f"{_DAMAGED} (a count is negative)")
        return position

    def as_record(self) -> dict[str, Any]:
        return asdict(self)

    @property
    def sums(self) -> Sums:
        """Of the present epoch."""
        return Sums(self.iteration, self.seen, self.loss, self.score)

    def next_epoch(self) -> "Position":
        return Position(
            epoch=self.epoch + 1,
            plateau=self.plateau,
            best_error=self.best_error,
            waited=self.waited,
            log_lines=self.log_lines + 1,
            window=self.window + self.sums,
            flat=self.flat,
            was_stuck=self.was_stuck,
        )

    def is_last(self, epochs: int, patience: int | None) -> bool:
        """Whether the training has ended, by its recipe or by ``--patience``."""
        return self.epoch >= epochs or self.plateau.ended or self.is_out_of_patience(patience)

    def is_out_of_patience(self, patience: int | None) -> bool:
        return patience is not None and self.waited >= patience


@dataclass(kw_only=True)
class TrainState:
    """A training as it is now: changed by the loop, read by callbacks.

    Attributes:
        net: the net, on its device.
        recipe: how it is trained.
        compute: device, precision and memory layout.
        seed: of everything random.
        num_images: training images.
        optimiser: with the velocities; its ``param_groups`` hold the present rate.
        patience: epochs without a better validation error, after which it ends.
        position: epochs done, iteration within the epoch, and the sums of the epoch over ``seen`` images: ``loss``, and
            ``score``, the images classified wrongly.
        stopping: whether it stops, as all processes agree.
        model: computes the scores of a batch where that is not the net itself, such as its upper blocks on stored maps.
        images: the last batch, n,3,h,w uint8; or stored maps.
        is_best: whether the last validation error is the lowest so far.
        record: line of the log of the last epoch, as in ``log.jsonl``.
        errors: its validation errors, as the model card has them.
    """

    net: "VeryDeep" = field(repr=False)
    recipe: "Recipe"
    compute: "Compute"
    seed: int
    num_images: int
    optimiser: "torch.optim.SGD" = field(repr=False)
    patience: int | None = None
    model: "torch.nn.Module | None" = None
    position: Position = field(default_factory=Position)
    stopping: bool = False
    images: "torch.Tensor | None" = field(default=None, repr=False)
    is_best: bool = False
    record: dict[str, Any] = field(default_factory=dict)
    errors: dict[str, Any] | None = None

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
    """Called by the training loop; override the hooks that are wanted.

    ``verydeep.fit(net, data, callbacks=[...])`` takes any number of them. Validation, the plateau rule, the log, the
    checkpoints, the progress bar and the stop on Ctrl-C are callbacks too. The user's are called last, in their order:
    after an epoch its checkpoint is written already. An exception in one of them ends the training after the present
    update; everything is saved, and the run can be resumed.

    A callback reads ``state`` (see ``TrainState``) and leaves it as it is, so that a resumed training stays bit-exact.
    Of several processes each calls its own; ``processes().is_first`` of ``verydeep.distributed`` says which may write.

    Paper: section 3.1.
    """

    def note(self, text: str) -> None:
        """A line worth keeping; called on the ``reporter`` of a training only."""

    def progress(self, what: str, done: int, total: int) -> None:
        """Progress of a step outside the loop; called on the ``reporter`` only."""

    def before_training(self, state: TrainState) -> None:
        """The loop begins, or resumes."""

    def after_update(self, state: TrainState) -> None:
        """After a weight update, a few times a second at most: the sums are those of all processes."""

    def wants_stop(self) -> bool:
        """Whether the training shall stop; called after every update, in every process."""
        return False

    def after_epoch(self, state: TrainState) -> None:
        """After the last update of an epoch, when ``state.record`` and ``state.errors`` are those of the epoch."""

    def after_training(self, state: TrainState) -> None:
        """The loop has ended, however it did: at the end of the recipe, stopped, or by an exception."""


class UserCallback(Callback):
    """Guards a callback of the user: its exception stops the training, and is kept until all is saved."""

    def __init__(self, callback: Callback) -> None:
        self._callback = callback
        self.error: Exception | None = None
        self.hook = ""

    def before_training(self, state: TrainState) -> None:
        self._call("before_training", state)

    def after_update(self, state: TrainState) -> None:
        self._call("after_update", state)

    def wants_stop(self) -> bool:
        wanted = bool(self._call("wants_stop"))
        return wanted or self.error is not None

    def after_epoch(self, state: TrainState) -> None:
        self._call("after_epoch", state)

    def after_training(self, state: TrainState) -> None:
        self._call("after_training", state)

    def _call(self, hook: str, *arguments: object) -> object:
        if self.error is not None and hook != "after_training":
            return None
        try:
            return getattr(self._callback, hook)(*arguments)
        except Exception as error:  # whatever it is, the training is saved first
            if self.error is None:
                self.error, self.hook = error, f"{type(self._callback).__name__}.{hook}"
            return None
