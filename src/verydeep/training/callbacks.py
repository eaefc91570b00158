"""The callbacks of a training: validation with the plateau rule, health, log and checkpoints, stop on Ctrl-C."""

import math
import signal
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from types import FrameType
from typing import Any

from torch import Tensor, nn

from verydeep.data.image_set import ImageSet
from verydeep.distributed import all_reduce_sum, launched, processes
from verydeep.images.augment import TrainingView
from verydeep.machine import now
from verydeep.nets.model_card import ModelCard
from verydeep.nets.net import VeryDeep
from verydeep.training.health import examine, is_hopeless, is_stuck, stuck_at_chance, watch
from verydeep.training.objective import Chance
from verydeep.training.run_folder import Run
from verydeep.training.state import UPDATES_BETWEEN_CHECKS, Callback, TrainState
from verydeep.training.update import NotFiniteError


class Validation(Callback):
    """Measures the net after each epoch, makes the line of the log and applies the plateau rule."""

    def __init__(self, measure: Callable[[VeryDeep], dict[str, Any]]) -> None:
        self._measure = measure

    def after_epoch(self, state: TrainState) -> None:
        average_statistics(state.net)
        state.errors = self._measure(state.net)
        error, position, recipe = error_of(state.errors), state.position, state.recipe
        state.record = {
            "epoch": position.epoch + 1,
            "learning_rate": state.optimiser.param_groups[0]["lr"],
            "loss": position.loss / position.seen,
            "train_error": position.score / position.seen,
            "split": state.errors.get("split", "val"),
            "protocol": state.errors.get("protocol", "centre"),
            "num_images": state.errors.get("num_images"),
            "val_top1_error": error,
            "val_top5_error": state.errors.get("top5_error"),
            "images_per_second": position.seen / position.seconds,
            "seconds": position.seconds,
            "time": now(),
        }
        plateau = position.plateau
        if recipe.schedule == "plateau":
            plateau = plateau.after(error, patience=recipe.patience, most_drops=recipe.drops)
        state.is_best = error < position.best_error
        state.position = replace(
            position,
            plateau=plateau,
            best_error=min(error, position.best_error),
            waited=0 if state.is_best else position.waited + 1,
        )


def error_of(errors: Mapping[str, Any]) -> float:
    """The error that a training is judged by, a fraction: of classes top-1, of boxes the localisation error."""
    error: float = errors["localisation_error" if "localisation_error" in errors else "top1_error"]
    return error


def average_statistics(net: VeryDeep) -> None:
    for module in net.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            for statistic in (module.running_mean, module.running_var):
                assert statistic is not None
                all_reduce_sum(statistic).div_(processes().size)


class HealthCheck(Callback):
    """Reports what is wrong with a training, each thing once, and ends it where the loss is not finite.

    A training that stays at chance is stopped, unless its option ``stuck`` says otherwise or it was resumed after that.
    """

    def __init__(
        self, run: Run, images: ImageSet, view: TrainingView | None, chance: Chance, report: Callable[[str], None]
    ) -> None:
        self._run, self._images, self._view, self._report = run, images, view, report
        self._chance = chance
        self._stops = run.settings.get("options", {}).get("stuck", "stop") == "stop"
        self._stop = False

    def wants_stop(self) -> bool:
        return self._stop

    def after_update(self, state: TrainState) -> None:
        """Checks the sum of the losses, which a GPU's updates do not wait for."""
        if not math.isfinite(state.position.loss):
            assert state.images is not None
            raise NotFiniteError(state.position.loss, state.images)
        checks, other_updates = divmod(state.position.iteration, UPDATES_BETWEEN_CHECKS)
        if state.in_epoch and other_updates:
            return
        # at the end of an epoch too, before the plateau rule
        state.position = watch(state.position, self._chance)
        if state.in_epoch:
            is_early = state.position.epoch == 0 and checks > 1 and checks.bit_count() == 1  # 200, 400, 800 updates ...
            if is_early or is_stuck(state):
                self._examine(state)
            self._stop_at_chance(state)

    def after_epoch(self, state: TrainState) -> None:
        self._examine(state)
        state.record["findings"] = list(state.position.findings)
        self._stop_at_chance(state)

    def _examine(self, state: TrainState) -> None:
        before = state.position
        log = self._run.log_records()[: before.log_lines]
        lines = (*(line.get("findings", ()) for line in log), before.findings)
        reported = {finding["kind"] for findings in lines for finding in findings}
        found = examine(state, self._images, self._view, self._chance, self._run.settings)
        for finding in found:
            if finding.kind not in reported:
                self._report(str(finding))
        records = {record["kind"]: record for record in (*before.findings, *(finding.as_record() for finding in found))}
        state.position = replace(before, findings=tuple(records.values()))

    def _stop_at_chance(self, state: TrainState) -> None:
        at = state.position
        ends_anyway = not state.in_epoch and at.next_epoch().is_last(state.recipe.epochs, state.patience)
        if not self._stops or at.was_stuck or ends_anyway or not is_hopeless(state):
            return
        self._stop, state.stopping = True, True
        state.position = replace(at, was_stuck=True)
        why = stuck_at_chance(state, self._chance, self._run.settings)
        self._report(
            f"stopped, and saved: {why.saw}; train anew: {why.helps}; to go on anyway: "
            f"{self._run.resume_command} (or --stuck continue from the start)"
        )


class Checkpoints(Callback):
    """Writes the log, the model file, and checkpoints after each epoch and every so many seconds within it."""

    def __init__(
        self,
        run: Run,
        card: Callable[[int, dict[str, Any] | None], ModelCard],
        seconds: float,
        *,
        saves_model: bool = True,
    ) -> None:
        self._run, self._card, self._seconds, self._saves_model = run, card, seconds, saves_model
        self._saved = 0.0

    def before_training(self, state: TrainState) -> None:
        self._saved = time.perf_counter()

    def after_update(self, state: TrainState) -> None:
        if state.in_epoch and (state.stopping or time.perf_counter() - self._saved > self._seconds):
            self._save(state, self._card(state.position.epoch, None))

    def after_epoch(self, state: TrainState) -> None:
        after = replace(state, position=state.position.next_epoch())
        card = self._card(after.position.epoch, state.errors)
        self._run.log(state.record)
        if self._saves_model and (state.is_best if state.recipe.keep == "best" else after.finished):
            self._run.save_model(state.net, card)
        self._save(after, card)

    def _save(self, state: TrainState, card: ModelCard) -> None:
        self._run.save_checkpoint(state.net, card, _velocities(state), state.position)
        self._saved = time.perf_counter()


def _velocities(state: TrainState) -> dict[str, Tensor]:
    found = {
        name: state.optimiser.state[parameter].get("momentum_buffer")
        for name, parameter in state.net.named_parameters()
    }
    return {name: velocity for name, velocity in found.items() if velocity is not None}


_STOPPING = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name))


class StopOnSignals(Callback):
    """Stops the training on the first Ctrl-C, SIGTERM or SIGHUP while it is entered; the second one acts as usual.

    SIGHUP comes when a terminal is closed; whoever ignores it (nohup) goes on ignoring it.

    One of several processes only stops, however many signals come: its launcher passes on what the terminal has sent it
    already, and kills what does not end.
    """

    def __init__(self) -> None:
        self._stopped = False
        self._before: dict[signal.Signals, Any] = {}

    def wants_stop(self) -> bool:
        return self._stopped

    def __enter__(self) -> "StopOnSignals":
        try:
            for name in _STOPPING:
                if signal.getsignal(name) != signal.SIG_IGN:
                    self._before[name] = signal.signal(name, self._stop)
        except ValueError:  # only the main thread may: elsewhere nobody can press Ctrl-C
            self._before.clear()
        return self

    def __exit__(self, *_: object) -> None:
        for name, handler in self._before.items():
            signal.signal(name, handler)

    def _stop(self, number: int, frame: FrameType | None) -> None:
        self._stopped = True
        if launched().size == 1:
            self.__exit__()
