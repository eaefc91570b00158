"""The trainings of a chain, one after another, each in a run folder of its own below one folder.

The options of the chain stand in the ``run.json`` of each of its runs, so that any of them is enough to resume it.

Paper: sections 3.1 and 4.4.
"""

from dataclasses import replace
from pathlib import Path
from typing import Any

from verydeep.device import find_device
from verydeep.distributed import broadcast_from_rank0, process_group
from verydeep.errors import UsageError, UserError
from verydeep.files import parse_json
from verydeep.nets.architecture import find_architecture
from verydeep.runs.estimate import Estimate, plan
from verydeep.runs.finish import TrainedRun
from verydeep.runs.net import settle
from verydeep.runs.options import COMPUTE_FIELDS, TrainOptions
from verydeep.runs.resume import resume
from verydeep.runs.start import start
from verydeep.training.recipe import CHAINS, Step
from verydeep.training.run_folder import SETTINGS_FILE, Run, check_free, check_same_options
from verydeep.training.state import Callback


def run_options(
    data: str | None,
    options: TrainOptions,
    *,
    given: bool = True,
    reporter: Callback | None = None,
    command: str | None = None,
) -> TrainedRun:
    """Trains a net or a chain, or resumes it.

    Without ``data``, or without options ``given`` that say what to train, what is in ``out`` is resumed as it began;
    otherwise it must have begun with the same options.
    """
    out = options.out
    if out is not None and (data is None or (options.resume and not given)):
        if find_chain(out) is not None:
            return resume_chain(out, reporter=reporter)
        if data is None or (out / SETTINGS_FILE).exists():
            return resume(out, data=data, reporter=reporter)
    assert data is not None
    if options.recipe in CHAINS:
        return train_chain(data, options, reporter=reporter, command=command)
    return start(data, options, reporter=reporter, command=command)


def train_chain(
    data: str, options: TrainOptions, *, reporter: Callback | None = None, command: str | None = None
) -> TrainedRun:
    """Trains the steps of a chain; those that are done already are not trained again.

    ``changes`` apply to every step, ``init_from`` to the first.
    """
    options = settle(options)
    reporter, out, steps = reporter or Callback(), options.out, steps_of(options)
    if out is None:
        raise UsageError(f"--recipe {options.recipe} needs --out: the folder of its {len(steps)} trainings")
    folders = [out / f"{number}-{step.title}" for number, step in enumerate(steps, start=1)]
    with process_group(find_device(options.device)):
        record = broadcast_from_rank0(lambda: _check_chain(data, options, out, folders, command))
        before: Path | None = None
        trained: TrainedRun | None = None
        for number, (step, folder) in enumerate(zip(steps, folders, strict=True), start=1):
            is_done = _is_done(folder)
            reporter.note(f"step {number} of {len(steps)}: {folder.name}" + (" (done)" if is_done else ""))
            if not is_done or number == len(steps):
                if (folder / SETTINGS_FILE).exists():
                    trained = resume(folder, reporter=reporter)
                else:
                    own = replace(step_options(step, options), out=folder, init_from=before or options.init_from)
                    trained = start(data, own, reporter=reporter, command=record["command"], chain=record)
                if not trained.finished:
                    return replace(trained, run=out)
            before = folder
    assert trained is not None
    return trained


def _is_done(folder: Path) -> bool:
    """Whether a step has ended and its errors are measured: a page alone may be that of a training that was stopped."""
    return (folder / SETTINGS_FILE).exists() and Run.open(folder).read_result() is not None


def steps_of(options: TrainOptions) -> tuple[Step, ...]:
    """The trainings of a chain, or the only one; nothing is grown into A itself."""
    if options.recipe not in CHAINS:
        return (Step(options.recipe),)
    steps = CHAINS[options.recipe]
    architecture = settle(options).architecture
    assert architecture is not None
    row, _ = find_architecture(architecture)
    return tuple(
        step
        for step, later in zip(steps, (*steps[1:], None), strict=True)
        if not (later and step.recipe == later.recipe and step.architecture == row.name)
    )


def step_options(step: Step, options: TrainOptions) -> TrainOptions:
    return replace(
        options,
        recipe=step.recipe,
        architecture=step.architecture or options.architecture,
        changes=step.changes | options.recipe_changes,
    )


def plan_steps(data: str, options: TrainOptions, *, reporter: Callback | None = None) -> dict[str, Estimate]:
    """Plans each training of a chain, or the only one, by its recipe, and its architecture where the chain fixes it."""
    return {step.title: plan(data, step_options(step, options), reporter=reporter) for step in steps_of(options)}


def _check_chain(
    data: str, options: TrainOptions, out: Path, folders: list[Path], command: str | None
) -> dict[str, Any]:
    began = find_chain(out)
    if began is None:
        # a step that was killed before it began has left nothing to keep
        if not out.is_dir() or {entry.name for entry in out.iterdir()} - {folder.name for folder in folders}:
            check_free(out)
        return {"chain": options.recipe, "data": data, "command": command, "options": options.as_record()}
    if not options.resume:
        raise UsageError(f"--out {out} holds a chain already: add --resume to resume it, or give another folder")
    check_same_options(
        f"the chain in {out}",
        {"chain": began["chain"], "data": began["data"]} | began["options"],
        {"chain": options.recipe, "data": data}
        | {name: value for name, value in options.as_record().items() if name not in COMPUTE_FIELDS},
    )
    return began


def find_chain(out: Path) -> dict[str, Any] | None:
    """The options of the chain in a folder, as its runs have them; None where there is no chain."""
    for file in sorted(out.glob(f"*/{SETTINGS_FILE}")):
        found: dict[str, Any] | None = Run.open(file.parent).settings.get("chain")
        if found is not None:
            return found
    return _chain_of_0_1(out / "chain.json")


def resume_chain(out: str | Path, *, reporter: Callback | None = None) -> TrainedRun:
    found = find_chain(Path(out))
    if found is None:
        raise UserError(f"{out} holds no chain: --resume needs --out with the folder of a chain or of a run")
    options = replace(TrainOptions.from_record(found["options"]), out=Path(out), resume=True)
    return train_chain(found["data"], options, reporter=reporter)


def _chain_of_0_1(file: Path) -> dict[str, Any] | None:
    """Reads the options of a chain from the file of its own that version 0.1.0 kept them in; until 0.3."""
    if not file.exists():
        return None
    try:
        old = parse_json(file.read_bytes())
    except (OSError, ValueError) as error:
        raise UserError(f"{file} cannot be read: {error}") from error
    options = TrainOptions.from_record(old | {"recipe": old["chain"]}).as_record()
    return {"chain": old["chain"], "data": old["data"], "command": old.get("command"), "options": options}
