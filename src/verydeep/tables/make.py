"""What ``verydeep tables`` does: trains the nets that are missing, tests all, fuses them, writes what it finds."""

import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from verydeep.data.dataset import DataSet, describe
from verydeep.data.open import open_data
from verydeep.files import read_lines
from verydeep.machine import environment, now
from verydeep.nets.architecture import layers
from verydeep.nets.model_file import MODEL_FILE
from verydeep.runs.start import check_images, default_crop, train
from verydeep.tables.grid import (
    BOTH,
    FUSED,
    Asked,
    Training,
    fusions,
    measured_protocols,
)
from verydeep.tables.results import RESULTS_FILE, Results, read_results, write_results
from verydeep.tables.rows import TableNet, row_of
from verydeep.tables.whole import Whole
from verydeep.testing.evaluate import check_classes, evaluate_each
from verydeep.testing.result import Result, check_alike, fuse, is_saved_posteriors, load_posteriors, save_posteriors
from verydeep.training.run_folder import LOG_FILE, Run, check_same_options
from verydeep.training.state import Callback
from verydeep.weights.resolve import load

_TRAINING_PASSES = 3
"""A training step costs about three forward passes."""

_PASSES = {"centre": 1, "single": 0, "multi-scale": 6, "multi-crop": 150}
"""Forward passes of a protocol, beyond those of the others."""


class Tables:
    """The tables in the making; what is done is written at once, and is not done again, even where its net is gone.

    Args:
        asked: the options of the verb.
        reporter: is told how it goes.

    Attributes:
        planned: the nets, each with its seed and its folder.
        opened: the data set.
        results: what is done.
        file: where it is written.

    Raises:
        UserError: the data, a model or the folder cannot be used.
        UsageError: an option that cannot be right, or results in the folder that were asked for otherwise.
    """

    def __init__(self, asked: Asked, reporter: Callback | None = None) -> None:
        reporter = reporter or Callback()
        asked.find_recipe()
        opened = open_data(asked.data, reporter.progress)
        self.asked, self.reporter = asked, reporter
        self.planned = planned = asked.nets(asked.crop or default_crop(opened))
        for model in asked.models:
            check_classes(load(model), opened.split(asked.split))
        self.file = asked.out / RESULTS_FILE
        self.results, self.opened = self._begin(opened), opened
        missing = [training for training in planned if self.is_missing(training)]
        if missing and not asked.models:
            self.opened, _ = check_images(opened, asked.skip_damaged, reporter)
        self.whole = Whole(reporter, dict(work for training in missing for work in self._works(training)))
        self.whole.note(describe(opened))

    def _begin(self, opened: DataSet) -> Results:
        asked, images = self.asked, opened.split(self.asked.split)
        alike: dict[str, Any] = {"fingerprint": opened.fingerprint, "split": images.split, "models": list(asked.models)}
        if not asked.models:
            alike |= {"width": asked.width, "recipe": asked.find_recipe().as_record()}
        about = {
            "command": asked.command,
            "data": opened.name,
            "source": asked.data,
            "contents": describe(opened),
            "validation": opened.validation,
            "num_train": len(opened.train),
            "num_images": len(images),
            "classes": list(opened.classes),
            "environment": environment(),
            "began": now(),
            "seconds": 0.0,
            "remarks": [],
            **alike,
        }
        if not self.file.exists():
            return Results(about=about)
        before = read_results(self.file)
        check_same_options(f"the results in {self.file}", before.about, alike)
        kept = {name: before.about[name] for name in ("began", "seconds", "remarks")}
        return replace(before, about=about | kept)

    def protocols(self, net: TableNet) -> tuple[str, ...]:
        """The protocols of a net."""
        measured = measured_protocols(net)
        return (*measured, BOTH) if "multi-crop" in measured else measured

    def is_missing(self, training: Training) -> bool:
        """Whether a test of a net is still to be done."""
        return any(
            self.results.row([training.net], training.seed, name) is None for name in self.protocols(training.net)
        )

    def _works(self, training: Training) -> list[tuple[str, float]]:
        """The pieces of work of a net, in products of a crop with the net."""
        net = training.net
        macs = sum(layer.macs for layer in layers(self.asked.geometry(net, len(self.opened.classes))))
        works = []
        if not self.asked.models and not training.is_trained:
            passes = _TRAINING_PASSES * self.asked.find_recipe().epochs * len(self.opened.train)
            works.append((f"training {training.title}", float(macs * passes)))
        images = len(self.opened.split(self.asked.split))
        passes = sum(_PASSES[protocol] for protocol in measured_protocols(net))
        works.append((f"testing {training.title}", float(macs * images * passes)))
        return works

    def train_and_test(self) -> bool:
        """Does what is missing; False where somebody stopped it."""
        for training in self.planned:
            if not self.is_missing(training):
                continue
            begun = time.monotonic()
            if not self.asked.models and not self._train(training):
                self._save(begun)
                return False
            self._test(training)
            self._save(begun)
        return True

    def _save(self, begun: float) -> None:
        self.results.about["seconds"] += time.monotonic() - begun
        self.file.parent.mkdir(parents=True, exist_ok=True)
        write_results(self.results, self.file)

    def _train(self, training: Training) -> bool:
        asked, net, folder = self.asked, training.net, training.folder
        recipe = asked.find_recipe(net)
        if training.is_trained:
            began = Run.open(folder).settings
            check_same_options(
                f"the run in {folder}",
                {"fingerprint": began["fingerprint"], "net": began["net"], "seed": began["seed"]} | began["recipe"],
                {
                    "fingerprint": self.opened.fingerprint,
                    "net": asked.geometry(net, len(self.opened.classes)).title,
                    "seed": training.seed,
                    **recipe.as_record(),
                },
            )
        else:
            with self.whole.piece(f"training {training.title}"):
                trained = train(
                    self.opened,
                    out=folder,
                    architecture=net.architecture,
                    batch_norm=net.batch_norm,
                    crop=net.crop,
                    width=asked.width,
                    recipe=asked.recipe,
                    changes=(asked.changes or {}) | {"train_scale": recipe.train_scale},
                    seed=training.seed,
                    execution=asked.execution,
                    skip_damaged=asked.skip_damaged,
                    go_on=True,
                    reporter=self.whole,
                    command=asked.command,
                    data_source=asked.data,
                )
            if not trained.finished:
                return False
        log = read_lines(folder / LOG_FILE)
        record = {"net": net.model_dump(), "seed": training.seed, "seconds": sum(line["seconds"] for line in log)}
        self.results.trainings.append(record | {"log": log})
        return True

    def _test(self, training: Training) -> None:
        """Tests a net by all protocols that are missing in one pass over the images."""
        net, names = training.net, self.protocols(training.net)
        with self.whole.piece(f"testing {training.title}"):
            there = {name: self._kept(training, name) for name in names}
            found = {name: result for name, result in there.items() if result is not None}
            missing = [name for name in names if name not in found]
            if missing:
                (results,) = evaluate_each(
                    [training.folder],
                    self.opened,
                    missing,
                    split=self.asked.split,
                    device=self.asked.execution.device if self.asked.execution else None,
                    skip_damaged=self.asked.skip_damaged,
                    progress=self.whole.progress,
                    note=self._remark,
                )
                found |= zip(missing, results, strict=True)
        for name in missing:
            file = self.posteriors_file(training, name)
            file.parent.mkdir(parents=True, exist_ok=True)
            save_posteriors(found[name], file)
        for name in names:
            if self.results.row([net], training.seed, name) is None:
                self.results.rows.append(row_of(found[name], [net], training.seed))
        errors = ", ".join(f"{name} {100 * found[name].top1_error:.2f}%" for name in names)
        self.reporter.note(f"{training.title}: top-1 error on {found[names[0]].split} {errors}")

    def _remark(self, text: str) -> None:
        if text not in self.results.about["remarks"]:
            self.results.about["remarks"].append(text)

    def posteriors_file(self, training: Training, protocol: str) -> Path:
        """Where the posteriors of a net by a protocol are kept."""
        name = training.folder.name if not self.asked.models else training.net.name.strip("/").replace("/", "-")
        return self.asked.out / "posteriors" / f"{name}-{protocol}.safetensors"

    def _kept(self, training: Training, protocol: str) -> Result | None:
        """The posteriors of a test that was done, unless the net is newer."""
        file = self.posteriors_file(training, protocol)
        model = training.folder / MODEL_FILE if training.folder.is_dir() else training.folder
        if not is_saved_posteriors(file) or (model.exists() and file.stat().st_mtime < model.stat().st_mtime):
            return None
        result = load_posteriors(file)
        if result.fingerprint != self.opened.fingerprint or result.split != self.opened.split(self.asked.split).split:
            return None
        return result

    def fuse_all(self) -> None:
        """Fuses nets of the same seed, by the protocols that all of them were tested by.

        Paper: section 4.4.
        """
        begun, missing = time.monotonic(), 0
        for seed in dict.fromkeys(training.seed for training in self.planned):
            members = {training.net: training for training in self.planned if training.seed == seed}
            for group in fusions(list(members)):
                for protocol in FUSED:
                    if any(protocol not in self.protocols(net) for net in group) or self.results.row(
                        group, seed, protocol
                    ):
                        continue
                    results = [self._kept(members[net], protocol) for net in group]
                    there = [result for result in results if result is not None]
                    if len(there) < len(group):
                        missing += 1
                        continue
                    for other in there[1:]:
                        check_alike(there[0], other)
                    self.results.rows.append(row_of(fuse(there), group, seed))
        if missing:
            self.reporter.note(f"{missing} fusions are left out: the posteriors of their nets are not here any more")
        self._save(begun)
