"""Trainings from Python: ``verydeep.train`` and ``verydeep.fit``."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from verydeep.data.open import AnyData, open_data, source_of
from verydeep.device import find_device
from verydeep.distributed import process_group
from verydeep.errors import UsageError
from verydeep.nets.net import VeryDeep
from verydeep.runs.finish import TrainedRun
from verydeep.runs.options import read_keywords
from verydeep.runs.start import begin, check_selection, start
from verydeep.training.recipe import Recipe, find_recipe
from verydeep.training.state import Callback

_MAKE_A_NET = ("architecture", "batch_norm", "crop", "width", "init_from", "initialise", "resume", "go_on")

_NEED_A_NET = ("fine-tune", "paper-384", "paper-jitter", "paper-jitter-fc")
"""Recipes whose rates are for a net that was trained before."""


def train(
    data: AnyData,
    *,
    reporter: Callback | None = None,
    callbacks: Sequence[Callback] = (),
    data_source: str | None = None,
    command: str | None = None,
    **options: Any,  # noqa: ANN401 - the fields of TrainOptions and of a recipe
) -> TrainedRun:
    """Makes a net for a data set and trains it.

    Args:
        data: what ``open_data`` opens: a name, a folder, a CSV, a data set of torch, ...
        reporter: reports the progress.
        callbacks: called by the training loop too: see ``Callback``.
        data_source: where the data came from, if ``data`` is a data set.
        command: command line that reproduces the run; stored in run.json and shown in the report.
        options: fields of ``TrainOptions``, such as ``architecture``, ``recipe``, ``out`` or ``seed``, and of the
            recipe, such as ``learning_rate``; of ``patience``, which both have, the option's.

    Returns:
        The trained net, its run folder and its errors on the validation images.

    Raises:
        UserError: the data, the model or the run folder cannot be used, or a callback raised an exception.
        UsageError: an option that cannot be right, or a run in ``out`` that began with other options.
    """
    given = read_keywords(options)
    return start(data, given, reporter=reporter, callbacks=callbacks, data_source=data_source, command=command)


def fit(
    net: VeryDeep | AnyData | None = None,
    data: AnyData | None = None,
    *,
    recipe: str | Recipe | None = None,
    reporter: Callback | None = None,
    callbacks: Sequence[Callback] = (),
    data_source: str | None = None,
    **options: Any,  # noqa: ANN401 - the fields of TrainOptions and of a recipe
) -> TrainedRun:
    """Trains a net on a data set into a run folder: ``fit(net, "photos/")``, or ``fit("photos/")``.

    Without a net this is ``verydeep.train``: the recipe finds the net. The ``mean`` and ``divisor`` of a net are set
    from the training images and the recipe, unless ``net.input_is_set``. Ctrl-C saves a checkpoint and stops;
    ``verydeep.resume`` continues the run.

    Args:
        net: trained in place; parameters with ``requires_grad=False`` stay frozen. Or the data, and no net.
        data: what ``open_data`` opens: a name, a folder, a CSV, a data set of torch, a list of pairs, ...
        recipe: a recipe, its name, or a JSON file; by default ``small-images`` for a net that is given.
        reporter: reports the progress.
        callbacks: called by the training loop too: see ``Callback``.
        data_source: where the data came from, if ``data`` is a data set.
        options: fields of ``TrainOptions``, such as ``out``, ``seed`` or ``device``, and of the recipe, such as
            ``learning_rate`` or ``label_smoothing``; those that make a net only where none is given.

    Returns:
        The trained net, its run folder and its errors on the validation images.

    Raises:
        UserError: the data or the run folder cannot be used, or do not fit the net; or a callback raised an exception.
        UsageError: an option that cannot be right, or no net for a recipe that needs one.
    """
    if not isinstance(net, VeryDeep):
        named = options if recipe is None else options | {"recipe": recipe}
        return train(
            _only_data(net, data, named), reporter=reporter, callbacks=callbacks, data_source=data_source, **named
        )
    if data is None:
        raise UsageError("fit(net) without data: give a folder, a name or a data set, fit(net, data)")
    recipe = "small-images" if recipe is None else recipe
    for name in options:
        if name in _MAKE_A_NET:
            raise UsageError(f"{name} chooses the net, and fit is given one: leave it out, or use verydeep.train")
    given = read_keywords(options)
    if isinstance(recipe, Recipe) and given.recipe_changes:
        raise UsageError(f"{next(iter(given.recipe_changes))} is a field of the recipe: change it there")
    row = recipe if isinstance(recipe, Recipe) else find_recipe(recipe, **given.recipe_changes)
    given, reporter = replace(given, recipe=row.name), reporter or Callback()
    given.check_compute()
    check_selection(row, given)
    with process_group(find_device(given.device)):
        opened = open_data(data, reporter.progress)
        facts = {"command": None, "data": data_source or source_of(data), "origin": None}
        return begin(net, opened, row, given, facts, reporter, callbacks)


def _only_data(first: AnyData | None, data: AnyData | None, options: dict[str, Any]) -> AnyData:
    """The data that ``fit`` is given without a net, checked."""
    if first is not None and data is not None:
        how = f"verydeep.load({first!r}), or fit(data, init_from={first!r})" if isinstance(first, str) else "a VeryDeep"
        raise UsageError(f"fit(net, data) is given a net of type {type(first).__name__}: give {how}")
    only = data if first is None else first
    if only is None:
        raise UsageError("which data? Give a folder, a name or a data set: fit(data), or fit(net, data)")
    recipe = options.get("recipe")
    if isinstance(recipe, Recipe):
        raise UsageError("a Recipe trains a net that is given: fit(net, data, recipe=...), or give the name of one")
    if recipe in _NEED_A_NET and options.get("init_from") is None:
        raise UsageError(
            f"the recipe {recipe} continues a trained net: give one, fit(net, data, recipe={recipe!r}) or init_from=..."
        )
    return only
