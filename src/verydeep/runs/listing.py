"""What lies in a folder of runs: the state of each, its errors, and how two of them differ."""

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from verydeep.errors import UsageError, UserError
from verydeep.training.run_folder import LOG_FILE, SETTINGS_FILE, Run
from verydeep.training.run_lock import is_locked

_DEEPEST = 3
"""Folders below the one asked for: the trainings of a chain and of tables lie in folders of their own."""

_OF_THE_RECIPE = ("changes", "recipe", "epochs", "batch_size", "initialise", "keep", "train_scale")
"""Options that are fields of the recipe, where they are compared."""

State = Literal["finished", "running", "interrupted", "damaged", "no run"]


@dataclass(frozen=True, kw_only=True)
class RunSummary:
    """A run folder in one line of the table."""

    folder: Path
    state: State
    problem: str | None = None  # why it is damaged, or no run
    data: str | None = None
    net: str | None = None
    recipe: str | None = None
    epochs: int | None = None  # done
    most_epochs: int | None = None
    top1_error: float | None = None  # of the end, else of the last epoch, a fraction
    top5_error: float | None = None
    num_images: int | None = None
    protocol: str | None = None
    split: str | None = None
    images_per_second: float | None = None
    began: str | None = None

    def as_record(self) -> dict[str, Any]:
        return asdict(self) | {"folder": str(self.folder)}


@dataclass(frozen=True, kw_only=True)
class Difference:
    """One thing in which two runs differ."""

    about: Literal["recipe", "options", "training", "errors"]
    name: str
    first: Any
    second: Any


def list_runs(folder: Path) -> list[RunSummary]:
    """Lists the runs in a folder, by name; a folder in it that holds no run is named too.

    Raises:
        UserError: there is no such folder.
    """
    if not folder.is_dir():
        raise UserError(f"no folder {folder}: give the one that the runs lie in")
    if (folder / SETTINGS_FILE).exists():
        return [summarise(folder)]
    runs = []
    for child in _folders(folder):
        found = [summarise(run) for run in _runs_in(child, _DEEPEST)]
        runs += found or [RunSummary(folder=child, state="no run", problem="it holds no run of train")]
    return runs


def _runs_in(folder: Path, depth: int) -> Iterator[Path]:
    if (folder / SETTINGS_FILE).exists():
        yield folder
    elif depth > 1:
        for child in _folders(folder):
            yield from _runs_in(child, depth - 1)


def _folders(folder: Path) -> list[Path]:
    try:
        return sorted(entry for entry in folder.iterdir() if entry.is_dir() and not entry.name.startswith("."))
    except OSError:  # it may not be read: it is named as a folder without runs
        return []


def summarise(folder: Path) -> RunSummary:
    """Summarises a run folder; one that is damaged says why."""
    try:
        run = Run.open(folder)
        settings = run.settings
        known: dict[str, Any] = {
            "data": str(settings["data"]),
            "net": str(settings["net"]),
            "recipe": str(settings["recipe"]["name"]),
            "most_epochs": int(settings["recipe"]["epochs"]),
            "began": str(settings["began"]),
        }
    except UserError as error:
        return RunSummary(folder=folder, state="damaged", problem=str(error))
    except (KeyError, TypeError, ValueError) as error:
        problem = f"{folder / SETTINGS_FILE} lacks what a run has ({error})"
        return RunSummary(folder=folder, state="damaged", problem=problem)
    try:
        finished = run.finished
        state: State = "running" if is_locked(folder) else "finished" if finished else "interrupted"
        return RunSummary(folder=folder, state=state, **known, **_measured(run))
    except UserError as error:
        return RunSummary(folder=folder, state="damaged", problem=str(error), **known)
    except (OSError, KeyError, TypeError, ValueError, ZeroDivisionError) as error:
        problem = f"{folder / LOG_FILE} or its checkpoint cannot be read ({error})"
        return RunSummary(folder=folder, state="damaged", problem=problem, **known)


def _measured(run: Run) -> dict[str, Any]:
    log, end = run.log_records(), run.read_result()
    rates = [line["images_per_second"] for line in log]
    common = {
        "epochs": len(log),
        "images_per_second": len(rates) / sum(1 / rate for rate in rates) if rates else None,
    }
    if end is not None:
        figures = {name: end.get(name) for name in _FIGURES}
        return common | figures | {"top1_error": end.get("localisation_error", figures["top1_error"])}
    if not log:
        return common
    last = log[-1]
    return common | {
        "top1_error": last["val_top1_error"],
        "top5_error": last.get("val_top5_error"),
        "protocol": last.get("protocol", "centre"),
        "split": last.get("split", "val"),
        "num_images": last.get("num_images"),
    }


_FIGURES = ("top1_error", "top5_error", "num_images", "protocol", "split")


def find_run(run: Path, folder: Path) -> Path:
    """Finds a run by its path, or by its name in a folder of runs."""
    for path in (run, folder / run):
        if (path / SETTINGS_FILE).exists():
            return path
    raise UsageError(f"--compare {run}: no run there, nor in {folder}: give two run folders")


def compare_runs(first: Path, second: Path) -> list[Difference]:
    """Lists what differs between two runs: recipe, options, how they were trained, and their errors.

    Raises:
        UserError: one of them cannot be read.
    """
    sides = []
    for folder in (first, second):
        summary = summarise(folder)
        if summary.state == "damaged":
            raise UserError(f"{folder} cannot be compared: {summary.problem}")
        sides.append(_facts(Run.open(folder).settings, summary))
    differences: list[Difference] = []
    for about in sides[0]:
        ours, theirs = sides[0][about], sides[1][about]
        differences += [
            Difference(about=about, name=name, first=ours.get(name), second=theirs.get(name))
            for name in dict.fromkeys((*ours, *theirs))
            if json.dumps(ours.get(name)) != json.dumps(theirs.get(name))
        ]
    return differences


def _facts(
    settings: dict[str, Any], summary: RunSummary
) -> dict[Literal["recipe", "options", "training", "errors"], dict[str, Any]]:
    options = settings.get("options") or {}
    environment = {f"environment: {name}": value for name, value in (settings.get("environment") or {}).items()}
    training = {name: settings.get(name) for name in ("data", "fingerprint", "net", "processes", "origin", "skipped")}
    return {
        "recipe": settings["recipe"],
        "options": {name: value for name, value in options.items() if name not in _OF_THE_RECIPE},
        "training": training | {f"computed: {name}": value for name, value in _choice(settings).items()} | environment,
        "errors": {name: getattr(summary, name) for name in ("state", "epochs", *_FIGURES)},
    }


def _choice(settings: dict[str, Any]) -> dict[str, Any]:
    choice = settings.get("choice")
    return choice if isinstance(choice, dict) else {}
