"""Options that several verbs have, what their texts mean, and the page that ``--help`` prints."""

import os
import textwrap
from collections.abc import Sequence
from dataclasses import fields
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import App, ArgumentCollection, CoercionError, Parameter

from verydeep.errors import UsageError
from verydeep.files import parse_json

if TYPE_CHECKING:
    from cyclopts.help import HelpEntry, HelpPanel
    from rich.console import Console, ConsoleOptions

DATA_HELP = (
    "A name (see verydeep fetch); a folder: class folders, or train/ val/ test/; a CSV of file,label[,split][,group]; "
    "or shards: 'x-{000..009}.tar', a folder or a URL."
)
Model = Annotated[str, Parameter(name="MODEL", help="A model file, a run folder or a published name.")]
Data = Annotated[str, Parameter(name="DATA", help=DATA_HELP)]
Json = Annotated[
    bool, Parameter(name="--json", help="Print one JSON object on standard output and nothing else there.")
]
Device = Annotated[str | None, Parameter(help="cpu, cuda or mps; by default the fastest there is.")]
Precision = Annotated[str, Parameter(help="fp32, bf16, or auto: the faster of the two, by a rule over the machine.")]
Damaged = Annotated[
    Literal["fail", "skip"], Parameter(help="What to do with damaged images: fail, or skip and count them.")
]
Set = Annotated[
    tuple[str, ...],
    Parameter(
        metavar="KEY=VALUE",
        help="Change a field of the recipe: key=value; repeatable. For classes of different size balance=loss (class "
        "weights) or balance=sampling (oversampling).",
    ),
]
Ray = Annotated[
    str | None,
    Parameter(help="Compute on a Ray cluster: its address, auto for the one of this machine, or local to start one."),
]
RayWorkers = Annotated[int | None, Parameter(help="Workers on the Ray cluster. [one a machine, or one a GPU]")]
Split = Annotated[
    str | None, Parameter(help="train, val, test or all. [test where there is one, else val; all of new data]")
]


MAX_PIXELS = "--max-pixels"
_MAX_PIXELS_HELP = (
    "Images with more pixels than this are not decoded, but refused like damaged ones. [100,000,000; or "
    "$VERYDEEP_MAX_PIXELS]"
)

_READ_IMAGES = (
    "train",
    "evaluate",
    "tables",
    "predict",
    "features",
    "stylise",
    "transfer",
    "search",
    "shards",
    "doctor",
)


def reads_images(arguments: Sequence[str]) -> bool:
    """Whether a command reads images, by its words after ``verydeep``."""
    return bool(arguments) and (arguments[0] in _READ_IMAGES or (arguments[0] == "localise" and len(arguments) > 1))


def models_then_data(models: str, more: str) -> Parameter:
    """The arguments of a verb that takes models, then the data; ``models`` and ``more`` say what else it takes."""
    text = f"Model files, run folders{models}; then the data: {DATA_HELP[0].lower()}{DATA_HELP[1:]} {more}"
    return Parameter(name="MODEL... DATA", required=True, help=text)


def split_arguments(arguments: Sequence[str], example: str) -> tuple[list[str], str]:
    """Splits the arguments of such a verb; ``example`` is of both."""
    *models, data = arguments
    if not models:
        raise UsageError(f"only {data} is given: give a model and then the data, such as {example}")
    return models, data


def read_scales(text: str, option: str) -> tuple[int, ...]:
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError as error:
        raise UsageError(f"{option} {text}: give pixels, such as 256 or 256,512") from error


def read_changes(settings: Sequence[str]) -> dict[str, Any]:
    changes: dict[str, Any] = {}
    for setting in settings:
        key, equals, value = setting.partition("=")
        if not equals:
            raise UsageError(f"--set {setting}: give key=value, such as dropout=0")
        try:
            changes[key] = parse_json(f"[{value}]" if "," in value else value)
        except ValueError:
            changes[key] = value
    return changes


def options_given(options: Any, *, besides: Sequence[str] = ()) -> list[str]:  # noqa: ANN401 - any dataclass
    """Returns the options whose values are not the defaults, but for some fields of the dataclass."""
    defaults = type(options)()
    return [
        "--set" if field.name == "changes" else "--" + field.name.rstrip("_").replace("_", "-")
        for field in fields(options)
        if field.name not in besides and getattr(options, field.name) != getattr(defaults, field.name)
    ]


def prepare_process() -> None:
    """Sets allocator and threads for these nets; to be called before torch is imported."""
    from verydeep.machine import has_quota, num_threads
    from verydeep.speed.allocator import tune_allocator, use_huge_pages
    from verydeep.speed.waiting import wait_politely

    if has_quota():  # torch looks at the affinity alone
        os.environ.setdefault("OMP_NUM_THREADS", str(num_threads()))

    tune_allocator()
    use_huge_pages()
    wait_politely()


def refuse_fractions(app: App, verb: tuple[str, ...], arguments: ArgumentCollection) -> None:
    """Refuses 1.5 where an integer is asked for: cyclopts would round it."""
    for argument in arguments:
        if argument.hint in (int, int | None):
            for token in argument.tokens:
                if "." in token.value:
                    raise CoercionError(token=token, argument=argument, target_type=int)


class HelpPage:
    """Prints help as plain text in two columns, on a terminal as in a file."""

    def __init__(self) -> None:
        self._reads_images = False

    def render_usage(self, console: "Console", options: "ConsoleOptions", usage: object) -> None:
        self._reads_images = reads_images(str(usage).split()[2:])
        _print(console, [str(usage).strip(), ""])

    def render_description(self, console: "Console", options: "ConsoleOptions", description: Any) -> None:  # noqa: ANN401
        """Prints what the verb does; the example stays on one line, to be copied."""
        for paragraph in str(description.primary_renderable).strip().split("\n\n"):
            text = " ".join(paragraph.split())
            whole = [f"  {text}"] if text.startswith("Example: ") else _wrapped(text, "  ", "  ", console.width)
            _print(console, [*whole, ""])

    def __call__(self, console: "Console", options: "ConsoleOptions", panel: "HelpPanel") -> None:
        rows = [
            (" ".join(entry.display_labels_with_metavar).removesuffix("..."), _help(entry)) for entry in panel.entries
        ]
        if self._reads_images and any(label.startswith("--") for label, _ in rows):
            rows.append((f"{MAX_PIXELS} INT", _MAX_PIXELS_HELP))
        if not rows:
            return
        column = min(max(len(label) for label, _ in rows), _WIDEST_LABEL) + 4
        _print(console, [f"{panel.title}:"])
        for label, text in rows:
            start = f"  {label}".ljust(column)
            if len(start) > column:
                _print(console, [start])
                start = " " * column
            _print(console, _wrapped(text, start, " " * column, console.width))
        _print(console, [""])


_WIDEST_LABEL = 26


def _label(entry: "HelpEntry") -> str:
    return " ".join(entry.display_labels_with_metavar).removesuffix("...")


def _help(entry: "HelpEntry") -> str:
    default = f" [default: {entry.default}]" if entry.default is not None else ""
    return f"{entry.description.primary_renderable}{default}"


def _wrapped(text: str, first: str, others: str, width: int) -> list[str]:
    return textwrap.wrap(
        text, width, initial_indent=first, subsequent_indent=others, break_on_hyphens=False, break_long_words=False
    )


def _print(console: "Console", lines: Sequence[str]) -> None:
    console.print("\n".join(lines), markup=False, highlight=False, soft_wrap=True)
