"""The trainings of a chain, one after another, each in a run folder of its own below one folder."""

import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from verydeep.device import find_device
from verydeep.distributed import broadcast_from_rank0, process_group
from verydeep.errors import UsageError, UserError
from verydeep.files import atomic_write
from verydeep.nets.architecture import find_architecture
from verydeep.report.report import REPORT_FILE
from verydeep.runs.finish import Trained
from verydeep.runs.preparation import ComputeOptions
from verydeep.runs.start import resume, train
from verydeep.training.callbacks import Reporter, Silent
from verydeep.training.chains import CHAINS, Chain, Step
from verydeep.training.run_folder import SETTINGS_FILE, check_asked_alike, check_free

CHAIN_FILE = "chain.json"
"""Name of the file that says what a chain was asked for."""


def train_chain(
    name: str,
    data: str,
    *,
    out: str | Path,
    go_on: bool = False,
    reporter: Reporter | None = None,
    **asked: Any,  # noqa: ANN401 - the options of train
) -> Trained:
    """Trains the steps of a chain; steps that are done already are not done again.

    Args:
        name: of the chain.
        data: a built-in name or a folder.
        out: the folder of all steps.
        go_on: go on where there is something in ``out`` already.
        reporter: is told how it goes.
        asked: further options of ``train``; ``changes`` apply to every step, ``init_from`` to the first.

    Returns:
        What the last step gave, or the one that was stopped.

    Raises:
        UserError: as ``train``.
        UsageError: as ``train``; or the chain in ``out`` was asked for otherwise.
    """
    reporter, out = reporter or Silent(), Path(out)
    chain = CHAINS[name]
    execution: ComputeOptions = asked.get("execution") or ComputeOptions()
    with process_group(find_device(execution.device)):
        broadcast_from_rank0(lambda: _begin(chain, data, out, go_on=go_on, asked=asked))
        before: Path | None = None
        trained: Trained | None = None
        steps = steps_for(chain, asked.get("architecture", "A"))
        for number, step in enumerate(steps, start=1):
            folder = out / f"{number}-{step.title}"
            is_done = (folder / REPORT_FILE).exists()
            reporter.note(f"step {number} of {len(steps)}: {folder.name}" + (" (done)" if is_done else ""))
            if not is_done or number == len(steps):
                trained = _train_step(step, data, folder, before, reporter, asked)
                if not trained.finished:
                    return replace(trained, run=out)
            before = folder
    assert trained is not None
    return trained


def steps_for(chain: Chain, architecture: str) -> tuple[Step, ...]:
    """The steps for an architecture: nothing is grown into A itself."""
    row, _ = find_architecture(architecture)
    return tuple(
        step
        for step, later in zip(chain.steps, (*chain.steps[1:], None), strict=True)
        if not (later and step.recipe == later.recipe and step.architecture == row.name)
    )


def _begin(chain: Chain, data: str, out: Path, *, go_on: bool, asked: dict[str, Any]) -> dict[str, Any]:
    """Makes the folder of a chain, or checks that the one there was asked for alike."""
    record = {"chain": chain.name, "data": data} | {key: value for key, value in asked.items() if key != "command"}
    if record.get("execution") is not None:
        record["execution"] = asdict(record["execution"])
    file = out / CHAIN_FILE
    if not file.exists():
        check_free(out)
        out.mkdir(parents=True, exist_ok=True)
        with atomic_write(file) as temporary:
            temporary.write_text(json.dumps(record | {"command": asked.get("command")}, indent=2), encoding="utf-8")
        return {}
    if not go_on:
        raise UsageError(f"--out {out} holds a chain already: go on with it by --resume, or give another folder")
    record.pop("execution", None)
    check_asked_alike(f"the chain in {out}", _read(out), record)
    return {}


def _read(out: Path) -> dict[str, Any]:
    try:
        record: dict[str, Any] = json.loads((out / CHAIN_FILE).read_text(encoding="utf-8"))
    except (OSError, json.JSONDecodeError) as error:
        raise UserError(f"{out / CHAIN_FILE} cannot be read: {error}") from error
    return record


def resume_chain(out: str | Path, *, reporter: Reporter | None = None) -> Trained:
    """Goes on with the chain in a folder.

    Raises:
        UserError: the folder holds no chain, or as ``train_chain``.
    """
    asked = _read(Path(out))
    if asked.get("execution"):
        asked["execution"] = ComputeOptions(**asked["execution"])
    return train_chain(asked.pop("chain"), asked.pop("data"), out=out, go_on=True, reporter=reporter, **asked)


def _train_step(
    step: Step, data: str, folder: Path, before: Path | None, reporter: Reporter, asked: dict[str, Any]
) -> Trained:
    if (folder / SETTINGS_FILE).exists():
        return resume(folder, reporter=reporter)
    options = step_options(step, asked) | ({} if before is None else {"init_from": before})
    return train(data, out=folder, reporter=reporter, **options)


def step_options(step: Step, asked: dict[str, Any]) -> dict[str, Any]:
    """The options of ``train`` for a step, of those that were asked for the chain."""
    options = asked | {"recipe": step.recipe, "changes": {**step.changes, **(asked.get("changes") or {})}}
    return options | ({"architecture": step.architecture} if step.architecture else {})
