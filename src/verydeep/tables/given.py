"""The nets of tables that train nothing: models that were given, some of them seeds of one net."""

import json
import re
from collections.abc import Sequence
from pathlib import Path

from verydeep.errors import UsageError
from verydeep.tables.grid import TableNet, TableRun
from verydeep.training.run_folder import SETTINGS_FILE, Run
from verydeep.weights.resolve import read_card

_SEED = re.compile(r"[-_. ]*(seed|s)?[-_. ]*[0-9]+$")
"""What tells the seeds of a net apart at the end of its name."""


def given_runs(models: Sequence[str]) -> list[TableRun]:
    """Lists the models as nets; run folders that differ in their seed alone are seeds of one net.

    Raises:
        UserError: a model cannot be read.
        UsageError: a model is given twice.
    """
    names, trained = short_names(models), [_training_of(model) for model in models]
    runs = []
    for model, name, (training, seed) in zip(models, names, trained, strict=True):
        seeds = [other for one, other in trained if one == training]
        is_one_of_several = len(seeds) == len(set(seeds)) > 1
        first = names[[one for one, _ in trained].index(training)]
        card = read_card(model)
        net = TableNet(
            name=(_SEED.sub("", first) or first) if is_one_of_several else name,
            architecture=card.architecture,
            batch_norm=card.batch_norm,
            crop=card.crop,
            train_scale=card.train_scale,
        )
        stem = name.strip("/").replace("/", "-")
        runs.append(TableRun(net=net, seed=seed if is_one_of_several else 0, model=Path(model), stem=stem))
    return runs


def _training_of(model: str) -> tuple[str, int]:
    """What a run folder was trained as, but for its seed, and the seed; another model is by itself."""
    folder = Path(model)
    if not (folder / SETTINGS_FILE).is_file():
        return model, 0
    settings = Run.open(folder).settings
    alike = [settings.get(name) for name in ("net", "recipe", "fingerprint", "hold_out")]
    copied = (settings.get("origin") or {}).get("copied")
    return json.dumps([*alike, copied], sort_keys=True), settings["seed"]


def short_names(models: Sequence[str]) -> list[str]:
    """Names to tell models apart: of their files or folders alone, where these differ.

    Raises:
        UsageError: a model is given twice.
    """
    if len(set(models)) < len(models):
        raise UsageError("--models: a model is given twice: give each once")
    short = [Path(model).name.removesuffix(".safetensors") for model in models]
    return short if len(set(short)) == len(short) else list(models)
