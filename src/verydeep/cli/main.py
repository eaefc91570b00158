"""The command line: a contract. Each verb parses its options, calls one function and prints what it gives.

torch is imported inside the verbs that need it, so that ``--help`` answers at once.
"""

import atexit
import gc
import io
import os
import sys
from typing import Annotated, Any, Final

import typer
from typer.main import get_command

from verydeep.cli.data import doctor, fetch, shards
from verydeep.cli.inspect import inspect
from verydeep.cli.testing import evaluate, predict, tables
from verydeep.cli.train import train
from verydeep.cli.weights import weights_app
from verydeep.errors import UserError, printable

app = typer.Typer(
    rich_markup_mode=None,
    add_completion=False,
    no_args_is_help=True,
    help="Very deep convolutional networks (VGG): train, evaluate and use the nets of the paper on your own images.",
    epilog="Begin with: verydeep train digits --recipe quick --batch-norm",
)

app.add_typer(weights_app, name="weights")

# what the parser raises for any wrong use; typer exports only this one subclass of it
_USAGE_ERROR: Any = typer.BadParameter.__mro__[1]


_CTRL_C: Final = 130
"""What typer gives for it, after having caught it."""


def main() -> None:
    """Runs the command line; a user's mistake becomes one line on standard error."""
    _spare_the_collector()
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # names of files need not be text
    command = get_command(app)
    try:
        status = command(prog_name="verydeep", standalone_mode=False)
    except UserError as error:
        if error.is_reported:
            sys.exit(error.exit_status)
        _fail(f"{_which_process()}{error}", error.exit_status)
    except _USAGE_ERROR as error:
        context = getattr(error, "ctx", None)
        if context and type(error).__name__ == "NoArgsIsHelpError":  # typer exports it no more than the others
            print(context.get_help(), file=sys.stderr)
            sys.exit(2)
        verb = context.command_path if context else "verydeep"
        message = error.format_message().rstrip(".")
        if "extra argument" in message and ".tar" in message:
            message += ": put a pattern of shards in quotes"
        _fail(f"{message} (see {verb} --help)", 2)
    except BrokenPipeError:
        sys.stderr.close()
        sys.exit(1)
    except OSError as error:
        named = f"{error.filename}: " if error.filename else ""
        _fail(f"{named}{error.strerror or error}", 1)
    except RuntimeError as error:
        if not _is_one_of_several():
            raise
        from verydeep.distributed import launched

        reason = str(error).splitlines()[0]
        _fail(f"process {launched().rank} lost the others ({reason}): go on with --resume when they are back", 1)
    except (KeyboardInterrupt, typer.Abort):
        status = _CTRL_C
    if status == _CTRL_C:
        _fail("interrupted", 1)
    _end(status if isinstance(status, int) else 0)


def _spare_the_collector() -> None:
    """Keeps the collector of reference cycles from going through what importing torch leaves: 0.4 s of each command.

    It would do so some hundred times during the import, and once more at the end of the process.
    """
    gc.set_threshold(100_000)
    atexit.register(gc.freeze)


def _end(status: int) -> None:
    """Ends the process; one of several without the interpreter's own end.

    A thread of gloo that asks for the interpreter while that ends takes the process down with it ("terminate called
    without an active exception", about once in fifty runs; PyTorch pull request 179291). All is written by now.
    """
    if _is_one_of_several():
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)
    sys.exit(status)


def _which_process() -> str:
    if not _is_one_of_several():
        return ""
    from verydeep.distributed import launched

    try:
        return "" if launched().is_first else f"process {launched().rank}: "
    except UserError:
        return ""


def _is_one_of_several() -> bool:
    return os.environ.get("WORLD_SIZE", "1") != "1"


def _fail(message: str, status: int) -> None:
    print(f"verydeep: {printable(' '.join(message.split()))}", file=sys.stderr)
    sys.exit(status)


def _print_version(asked: bool) -> None:
    if asked:
        from verydeep import __version__

        print(f"verydeep {__version__}")
        raise typer.Exit


@app.callback()
def _before(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version and exit.", is_eager=True, callback=_print_version)
    ] = False,
) -> None:
    """Takes the options that stand before a verb."""


for verb in (train, evaluate, tables, predict, fetch, shards, doctor, inspect):
    app.command()(verb)
