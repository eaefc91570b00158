"""What ``verydeep train`` does with its options: plan, start several processes, go on, follow a chain, or train."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from verydeep.data.datasets import open_data
from verydeep.device import find_device
from verydeep.errors import UsageError
from verydeep.files import check_outside
from verydeep.runs.chain import find_chain, resume_chain, step_options, steps_for, train_chain
from verydeep.runs.estimate import Plan, plan
from verydeep.runs.finish import Trained
from verydeep.runs.launch import launch
from verydeep.runs.preparation import ComputeOptions
from verydeep.runs.start import resume, train
from verydeep.training.callbacks import Reporter
from verydeep.training.chains import CHAINS, Step
from verydeep.training.recipe import RECIPES, find_recipe
from verydeep.training.run_folder import SETTINGS_FILE


@dataclass(frozen=True, kw_only=True)
class Asked:
    """The options of the verb.

    Attributes:
        data: what to train on; None with ``--resume`` alone.
        out: the run folder.
        recipe: name of a recipe or a chain, or a JSON file.
        changes: new values of fields of the recipe.
        resume: go on where there is a run already.
        others: names of the options that were given and say what to train.
        net: options of ``train`` that say what net to make, and of the seed.
        execution: how it is computed.
        skip_damaged: leave damaged images out.
        command: that gives the run again.
    """

    data: str | None
    out: Path | None
    recipe: str
    changes: dict[str, Any]
    resume: bool
    others: Sequence[str]
    net: dict[str, Any]
    execution: ComputeOptions
    skip_damaged: bool
    command: str

    def check(self) -> None:
        """Checks what can be checked before anything is read.

        Raises:
            UsageError: options that do not go together, or a value that cannot be right.
        """
        self.execution.check()
        if self.resume and self.out is None:
            raise UsageError("--resume: give the run folder with --out")
        if not self.resume and self.data is None:
            raise UsageError("which data? Give a folder, or a name such as digits, or --resume with --out")
        if self.data is None and self.others:
            raise UsageError(f"{self.others[0]} cannot change what a run began with: leave it out, or train anew")
        check_outside(self.out or Path("runs"), "--out", self.data)
        if self.recipe not in CHAINS and self.recipe not in RECIPES and not self.recipe.endswith(".json"):
            names = f"{', '.join(RECIPES)}; or a chain of them: {', '.join(CHAINS)}; or a .json file"
            raise UsageError(f"unknown recipe {self.recipe!r}: choose one of {names}")
        for step in self.steps:
            find_recipe(step.recipe, **step.changes | self.changes)

    @property
    def steps(self) -> tuple[Step, ...]:
        """The trainings asked for, in their order: those of a chain, or a single one."""
        if self.recipe in CHAINS:
            return steps_for(CHAINS[self.recipe], self.net["architecture"])
        return (Step(self.recipe),)

    @property
    def goes_on(self) -> bool:
        """Whether the folder holds what is to go on just as it began."""
        if self.out is None or not self.resume or self.others:
            return False
        return (self.out / SETTINGS_FILE).exists() or find_chain(self.out) is not None


def make_plans(asked: Asked, devices: int, reporter: Reporter) -> dict[str, Plan]:
    """Says what each training would take, by its recipe, and its architecture where the chain fixes it."""
    if asked.data is None:
        raise UsageError("--plan: give the data and the options of the training that is to begin")
    options = asked.net | {"changes": asked.changes, "execution": asked.execution, "devices": devices}
    return {
        step.title: plan(asked.data, out=asked.out, reporter=reporter, **step_options(step, options))
        for step in asked.steps
    }


def start_processes(asked: Asked, devices: int) -> int:
    """Starts this same command in several processes, and gives its exit status."""
    if asked.data is not None:
        open_data(asked.data)  # a mistake is said once, by this process
    given, kept = iter(sys.argv[1:]), []
    for argument in given:
        if argument == "--devices":
            next(given)
        elif not argument.startswith("--devices="):
            kept.append(argument)
    return launch(devices, kept, find_device(asked.execution.device))


def run(asked: Asked, reporter: Reporter) -> Trained:
    """Trains, goes on with a training, or follows a chain."""
    if asked.data is None or asked.goes_on:
        assert asked.out is not None
        if not (asked.out / SETTINGS_FILE).exists() and find_chain(asked.out) is not None:
            return resume_chain(asked.out, reporter=reporter)
        return resume(asked.out, data=asked.data, reporter=reporter)
    options: dict[str, Any] = asked.net | {
        "changes": asked.changes,
        "execution": asked.execution,
        "skip_damaged": asked.skip_damaged,
        "command": asked.command,
    }
    if asked.recipe not in CHAINS:
        return train(asked.data, out=asked.out, recipe=asked.recipe, go_on=asked.resume, reporter=reporter, **options)
    if asked.out is None:
        raise UsageError(f"--recipe {asked.recipe} needs --out: the folder of its {len(asked.steps)} trainings")
    return train_chain(asked.recipe, asked.data, out=asked.out, go_on=asked.resume, reporter=reporter, **options)
