"""The trainings of a chain, one after another, each in a run folder of its own below one folder.

What the chain was asked for stands in the ``run.json`` of each of its runs, so that any of them is enough to go on.
"""

import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from verydeep.device import find_device
from verydeep.distributed import broadcast_from_rank0, process_group
from verydeep.errors import UsageError, UserError
from verydeep.nets.architecture import find_architecture
from verydeep.report.pages import REPORT_FILE
from verydeep.runs.finish import Trained
from verydeep.runs.preparation import ComputeOptions
from verydeep.runs.start import resume, train
from verydeep.training.callbacks import Reporter, Silent
from verydeep.training.chains import CHAINS, Chain, Step
from verydeep.training.run_folder import SETTINGS_FILE, Run, check_asked_alike, check_free

_FILE_OF_0_1 = "chain.json"
"""Where verydeep 0.1.0 kept what a chain was asked for."""


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
        steps = steps_for(chain, asked.get("architecture", "A"))
        folders = [out / f"{number}-{step.title}" for number, step in enumerate(steps, start=1)]
        record = broadcast_from_rank0(lambda: _begin(chain, data, out, folders, go_on=go_on, asked=asked))
        before: Path | None = None
        trained: Trained | None = None
        for number, (step, folder) in enumerate(zip(steps, folders, strict=True), start=1):
            is_done = (folder / REPORT_FILE).exists()
            reporter.note(f"step {number} of {len(steps)}: {folder.name}" + (" (done)" if is_done else ""))
            if not is_done or number == len(steps):
                trained = _train_step(step, data, folder, before, reporter, asked, record)
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


def _begin(
    chain: Chain, data: str, out: Path, folders: list[Path], *, go_on: bool, asked: dict[str, Any]
) -> dict[str, Any]:
    """Checks that a chain can begin in a folder, or that the one there was asked for alike; gives its record."""
    record = {"chain": chain.name, "data": data} | {key: value for key, value in asked.items() if key != "command"}
    if record.get("execution") is not None:
        record["execution"] = asdict(record["execution"])
    began = find_chain(out)
    if began is None:
        # a step that was killed before it began has left nothing to keep
        if not out.is_dir() or {entry.name for entry in out.iterdir()} - {folder.name for folder in folders}:
            check_free(out)
        return record | {"command": asked.get("command")}
    if not go_on:
        raise UsageError(f"--out {out} holds a chain already: go on with it by --resume, or give another folder")
    check_asked_alike(f"the chain in {out}", began, {key: record[key] for key in record if key != "execution"})
    return began


def find_chain(out: Path) -> dict[str, Any] | None:
    """What the chain in a folder was asked for; None where there is no chain.

    Raises:
        UserError: a file of it cannot be read.
    """
    for file in sorted(out.glob(f"*/{SETTINGS_FILE}")):
        found: dict[str, Any] | None = Run.open(file.parent).settings.get("chain")
        if found is not None:
            return found
    file = out / _FILE_OF_0_1
    try:
        old: dict[str, Any] | None = json.loads(file.read_text(encoding="utf-8")) if file.exists() else None
    except (OSError, json.JSONDecodeError) as error:
        raise UserError(f"{file} cannot be read: {error}") from error
    return old


def resume_chain(out: str | Path, *, reporter: Reporter | None = None) -> Trained:
    """Goes on with the chain in a folder.

    Raises:
        UserError: the folder holds no chain, or as ``train_chain``.
    """
    found = find_chain(Path(out))
    if found is None:
        raise UserError(f"{out} holds no chain: --resume needs --out with the folder of a chain or of a run")
    asked = dict(found)
    if asked.get("execution"):
        asked["execution"] = ComputeOptions(**asked["execution"])
    return train_chain(asked.pop("chain"), asked.pop("data"), out=out, go_on=True, reporter=reporter, **asked)


def _train_step(
    step: Step,
    data: str,
    folder: Path,
    before: Path | None,
    reporter: Reporter,
    asked: dict[str, Any],
    record: dict[str, Any],
) -> Trained:
    if (folder / SETTINGS_FILE).exists():
        return resume(folder, reporter=reporter)
    options = step_options(step, asked) | ({} if before is None else {"init_from": before})
    return train(data, out=folder, reporter=reporter, chain=record, **options)


def step_options(step: Step, asked: dict[str, Any]) -> dict[str, Any]:
    """The options of ``train`` for a step, of those that were asked for the chain."""
    options = asked | {"recipe": step.recipe, "changes": {**step.changes, **(asked.get("changes") or {})}}
    return options | ({"architecture": step.architecture} if step.architecture else {})
