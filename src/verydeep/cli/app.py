"""The verbs as cyclopts calls them, and the parser's errors in our words."""

from typing import Final, Literal, get_args, get_origin

from cyclopts import (
    App,
    CoercionError,
    CycloptsError,
    MissingArgumentError,
    Parameter,
    Token,
    UnknownCommandError,
    UnusedCliTokensError,
)

from verydeep.cli.options import MAX_PIXELS, HelpPage, reads_images, refuse_fractions
from verydeep.errors import UsageError

_SHOWN_ARGUMENTS: Final = {
    "train": "[DATA]",
    "evaluate": "MODEL... [DATA]",
    "tables": "[DATA]",
    "predict": "MODEL IMAGE...",
    "features": "MODEL... DATA --out FILE",
    "stylise": "CONTENT STYLE",
    "transfer": "MODEL... DATA",
    "search": "MODEL FOLDER IMAGE...",
    "fetch": "[NAME...]",
    "shards": "DATA OUT",
    "doctor": "DATA",
    "inspect": "ARCHITECTURE|MODEL",
    "export": "MODEL --to TO --out OUT",
    "runs": "[FOLDER]",
    "cache": "",
}


def _shown_default(value: object) -> object:
    return value if value or (isinstance(value, int) and value is not False) else None


app = App(
    name="verydeep",
    usage="Usage: verydeep VERB [OPTIONS] [ARGUMENTS]",
    version_flags=(),
    help_flags="--help",
    help_format="plaintext",
    help_formatter=HelpPage(),
    group_commands="Verbs",
    group_parameters="Options",
    default_parameter=Parameter(negative=(), show_default=_shown_default, allow_repeating=True),
    config=refuse_fractions,
    suppress_keyboard_interrupt=False,
)
for _verb, _arguments in _SHOWN_ARGUMENTS.items():
    _module = "data" if _verb in ("fetch", "shards", "doctor") else _verb
    app.command(
        f"verydeep.cli.{_module}:{_verb}", name=_verb, usage=f"Usage: verydeep {_verb} [OPTIONS] {_arguments}".rstrip()
    )
for _room in ("localise", "weights"):
    app.command(f"verydeep.cli.{_room}:{_room}", name=_room)


def run_verb(arguments: list[str]) -> int:
    """Runs a verb and returns its exit status."""
    if reads_images(arguments):
        arguments = _take_max_pixels(arguments)
    try:
        _, apps, rest = app.parse_commands(arguments)
        if apps[-1].default_command is None and not rest:  # such as "weights" alone
            from rich.console import Console

            app.help_print(arguments, console=Console(stderr=True))
            return 2
        return app(arguments, result_action="return_value", exit_on_error=False, print_error=False) or 0
    except CycloptsError as error:
        raise UsageError(_message(error)) from error


def _take_max_pixels(arguments: list[str]) -> list[str]:
    """Sets the limit of pixels, which is the process's and not a verb's; returns the other arguments."""
    others: list[str] = []
    rest = iter(arguments)
    for argument in rest:
        name, equals, value = argument.partition("=")
        if argument == "--":
            return [*others, argument, *rest]
        if name != MAX_PIXELS:
            others.append(argument)
            continue
        given = value if equals else next(rest, "")
        try:
            count = int(given)
        except ValueError as error:
            raise UsageError(f"{MAX_PIXELS} {given}: give a number of pixels, such as 200000000") from error
        from verydeep.images.decode import limit_pixels  # numpy, for those who ask

        limit_pixels(count)
    return others


def _message(error: CycloptsError) -> str:
    match error:
        case CoercionError(target_type=kind, token=Token() as token) if get_origin(kind) is Literal:
            return f"{token.keyword} {token.value}: give {' or '.join(get_args(kind))}"
        case UnusedCliTokensError(unused_tokens=[first, *_] as unused):
            message = f"{first} is one argument too many"
            if any(token.endswith(".tar") for token in unused):
                message += ": put a pattern of shards in quotes"
        case MissingArgumentError(keyword=str(option)):
            message = f"{option} needs a value"
        case MissingArgumentError(argument=argument) if argument is not None:
            message = f"{argument.name} is missing"
        case UnknownCommandError(unused_tokens=[first, *_]) if first.startswith("-"):
            message = f"Unknown option: {first}"
        case _:
            message = str(error).partition(" Available commands:")[0].rstrip(".")
    verb = " ".join(["verydeep", *(error.command_chain or ())])
    return f"{message} (see {verb} --help)"
