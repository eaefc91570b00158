"""Options that several verbs have, and what their texts mean."""

import json
from collections.abc import Sequence
from typing import Annotated, Any

import typer

from verydeep.errors import UsageError

DeviceOption = Annotated[str | None, typer.Option(help="cpu, cuda or mps; by default the fastest there is.")]
DATA_HELP = (
    "A name (see verydeep fetch); a folder: class folders, or train/ val/ test/; or shards: 'x-{000..009}.tar', a "
    "folder or a URL."
)
DamagedOption = Annotated[str, typer.Option(help="What to do with damaged images: fail, or skip and count them.")]


def skips_damaged(damaged: str) -> bool:
    """Reads --damaged."""
    if damaged not in ("fail", "skip"):
        raise UsageError(f"--damaged {damaged}: give fail or skip")
    return damaged == "skip"


def read_numbers(text: str, option: str, remedy: str) -> tuple[int, ...]:
    """Reads integers between commas; the remedy says what to give, with an example."""
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError as error:
        raise UsageError(f"{option} {text}: give {remedy}") from error


def read_scales(text: str, option: str) -> tuple[int, ...]:
    """Reads scales of images."""
    return read_numbers(text, option, "pixels, such as 256 or 256,512")


def read_changes(settings: Sequence[str]) -> dict[str, Any]:
    """Reads the fields of a recipe that --set changes."""
    changes: dict[str, Any] = {}
    for setting in settings:
        key, equals, value = setting.partition("=")
        if not equals:
            raise UsageError(f"--set {setting}: give key=value, such as dropout=0")
        try:
            changes[key] = json.loads(f"[{value}]" if "," in value else value)
        except json.JSONDecodeError:
            changes[key] = value
    return changes


def fetch_weights(*models: str | None) -> None:
    """Fetches those of the models that are published names and not here yet, and shows how far that is."""
    from verydeep.cli.weights_printed import fetch_shown, is_to_fetch

    for model in filter(None, models):
        if is_to_fetch(model):
            fetch_shown(model)


def prepare_process() -> None:
    """Sets the allocator for these nets; to be called before torch is imported."""
    from verydeep.speed.allocator import tune_allocator, use_huge_pages

    tune_allocator()
    use_huge_pages()


def options_given(context: typer.Context, *, besides: Sequence[str]) -> list[str]:
    """Gives the options that stand on the command line.

    Args:
        context: of the verb.
        besides: names of parameters that do not count.
    """
    return [
        parameter.opts[-1]
        for parameter in context.command.params
        if parameter.name not in besides
        and (source := context.get_parameter_source(parameter.name or ""))
        and source.name == "COMMANDLINE"
    ]
