"""The command line: a contract. Each verb fills its options, calls one function and prints what that returns.

What a verb needs is imported when it is called, so that ``--help`` answers at once.
"""

import atexit
import gc
import io
import os
import shutil
import signal
import sys
import textwrap
import warnings
from contextlib import suppress
from pathlib import Path
from types import FrameType, ModuleType
from typing import Final, NoReturn, TextIO

from verydeep.errors import UserError, printable

VERBS: Final = {
    "train": "Train a net into a run folder.",
    "evaluate": "Measure the error rates of a net on a data set, or of several nets whose posteriors are averaged.",
    "tables": "Train what is missing and print the paper's Tables 3 to 6 for a data set, beside the paper's numbers.",
    "predict": "Say what images show, the most likely classes first.",
    "localise": "Predict the boxes of objects: train a localiser, measure it, draw its boxes on pictures.",
    "features": "Describe images by a trained net, each by one row of numbers, and write these to a file.",
    "stylise": "Paint a picture in the style of another, to demonstrate the perceptual losses.",
    "transfer": "Fit a linear classifier to what a trained net sees in images, measure it, and write it as a model.",
    "search": "Find the images of a folder that are most like others, by the descriptors of a net.",
    "fetch": "Download public data sets by name, check and unpack them, so that they can stand where a folder does.",
    "shards": "Write WebDataset shards with an index, to be read from disk, http(s), s3, gs, az or hf.",
    "doctor": "Say what is wrong with a data set, before it costs a night; exit with 1 if something is fatal.",
    "inspect": "Print layers, shapes, parameters, MACs, receptive field and memory of a net, and a model file's card.",
    "export": "Write a net for another runtime, and compare the file with the net on photographs.",
    "runs": "List the runs in runs/: state, data, net, error and when; or show what differs between two of them.",
    "cache": "List what lies in the cache, with sizes, or remove one thing from it.",
    "weights": "List, fetch, import and export weights of other programs.",
}
"""What each verb does: the first paragraph of its own help."""

_ABOUT = "Very deep convolutional networks (VGG): train, evaluate and use the nets of the paper on your own images."


_NO_MEMORY: Final = (
    "allocate memory",
    "out of memory",
    "failed to map segment",
    "can't start new thread",
    "cannot allocate",
)
"""What libraries say where the memory, or its limit, is too small."""


class _StoppedError(KeyboardInterrupt):
    """A signal that ends the command like Ctrl-C: what was half written is removed."""


def main() -> None:
    """Runs the command line; a user's error becomes one line on standard error."""
    _spare_the_collector()
    sys.modules.setdefault("jaxtyping", _Shapes("jaxtyping"))
    for stream in ("stdout", "stderr"):
        if getattr(sys, stream) is None:  # closed, or there is no console
            setattr(sys, stream, Path(os.devnull).open("w", encoding="utf-8"))  # noqa: SIM115 - to the end
    _show_warnings()
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # names of files need not be text
    try:
        _end_by_signals()
        _check_folder()
        _end(_run(sys.argv[1:]))
    except UserError as error:
        if error.is_reported:
            sys.exit(error.exit_status)
        _fail(f"{_which_process()}{error}", error.exit_status)
    except BrokenPipeError:
        sys.stderr.close()
        sys.exit(1)
    except OSError as error:
        named = f"{error.filename}: " if error.filename else ""
        _fail(f"{named}{error.strerror or error}", 1)
    except ModuleNotFoundError as error:
        if error.name != "torch":
            raise
        _fail("this needs PyTorch, which is not installed here: pip install torch", 1)
    except (MemoryError, RuntimeError, ImportError) as error:
        if isinstance(error, MemoryError) or any(text in str(error).casefold() for text in _NO_MEMORY):
            _fail(
                f"{_which_process()}there is not enough memory: free some, raise its limit (ulimit -v), or compute "
                "less at a time (of a training: --batch-size, --micro-batch)",
                1,
            )
        if not isinstance(error, RuntimeError) or not _is_one_of_several():
            raise
        from verydeep.distributed import launched

        reason = str(error).splitlines()[0]
        _fail(f"process {launched().rank} lost the others ({reason}): resume with --resume when they are back", 1)
    except _StoppedError as stopped:
        _fail(f"ended by {stopped}", 1)
    except KeyboardInterrupt:
        _fail("interrupted", 1)


def _show_warnings() -> None:
    """Prints our own warnings as one line each; Pillow's name no file, so the doctor says what they mean."""
    warnings.filterwarnings("ignore", module=r"PIL\.")
    show = warnings.showwarning

    def show_ours(
        message: Warning | str,
        category: type[Warning],
        filename: str,
        lineno: int,
        file: TextIO | None = None,
        line: str | None = None,
    ) -> None:
        if category.__module__.startswith("verydeep."):
            print(f"verydeep: {printable(' '.join(str(message).split()))}", file=sys.stderr)
        else:
            show(message, category, filename, lineno, file, line)

    warnings.showwarning = show_ours


def _end_by_signals() -> None:
    """Lets SIGTERM and SIGHUP end the command as Ctrl-C does; whoever ignores one (nohup) goes on ignoring it."""
    if _is_one_of_several():  # its launcher ends it
        return
    own = os.getpid()

    def end(number: int, frame: FrameType | None) -> None:
        if os.getpid() == own:
            raise _StoppedError(signal.Signals(number).name)
        signal.signal(number, signal.SIG_DFL)  # a process that this one has started
        signal.raise_signal(number)

    for name in ("SIGTERM", "SIGHUP"):
        number = getattr(signal, name, None)
        with suppress(ValueError):  # not the main thread
            if number is not None and signal.getsignal(number) == signal.SIG_DFL:
                signal.signal(number, end)


def _check_folder() -> None:
    try:
        Path.cwd()
    except FileNotFoundError as error:
        raise UserError("the folder that this command was started in is gone: cd to another") from error


def _run(arguments: list[str]) -> int:
    match arguments:
        case []:
            _print_verbs(sys.stderr)
            return 2
        case ["--help"]:
            _print_verbs(sys.stdout)
            return 0
        case ["--version"]:
            from verydeep import __version__

            print(f"verydeep {__version__}")
            return 0
    from verydeep.cli.app import run_verb

    return run_verb(arguments)


def _print_verbs(file: TextIO) -> None:
    width = shutil.get_terminal_size().columns
    about = textwrap.fill(_ABOUT, width, initial_indent="  ", subsequent_indent="  ")
    print(f"Usage: verydeep VERB [OPTIONS] [ARGUMENTS]\n\n{about}\n", file=file)
    print("  Example: verydeep train digits --recipe quick --batch-norm\n\nVerbs:", file=file)
    for name, text in VERBS.items():
        print(textwrap.fill(text, width, initial_indent=f"  {name:8}  ", subsequent_indent=" " * 12), file=file)
    print("\nOptions:\n  --help     Of a verb too: verydeep VERB --help.\n  --version  Print the version.", file=file)


class _Shapes(ModuleType):
    """In place of jaxtyping, whose shapes only the tests check: it takes a tenth of the time of a short command."""

    def __getattr__(self, name: str) -> "_Shapes":
        if name.startswith("__"):
            raise AttributeError(name)
        return self

    def __getitem__(self, kind_and_shape: tuple[object, str]) -> object:
        return kind_and_shape[0]


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


def _fail(message: str, status: int) -> NoReturn:
    with suppress(OSError):  # the terminal is gone
        print(f"verydeep: {printable(' '.join(message.split()))}", file=sys.stderr)
    sys.exit(status)
