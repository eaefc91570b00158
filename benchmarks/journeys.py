"""Counts the files and functions of the package that three journeys enter, when they are taken for the second time.

``python benchmarks/journeys.py [predict] [fit] [update] [tables]``, from any checkout whose package is importable: only
what is public is called, so that versions can be compared. What a reader has to follow is counted, not what it costs.
"""

import contextlib
import dataclasses
import io
import runpy
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

import numpy as np
import torch
from PIL import Image

import verydeep

PACKAGE = str(Path(verydeep.__file__).parent)


@dataclasses.dataclass
class Journey:
    """What was entered: a lambda or a generator expression belongs to the function around it."""

    functions: set[CodeType] = dataclasses.field(default_factory=set)
    num_calls: int = 0

    @property
    def files(self) -> list[str]:
        return sorted({str(Path(code.co_filename).relative_to(PACKAGE)) for code in self.functions})


present: Journey | None = None
"""The journey that is recorded, if any: of all threads, also of those that began before it."""


def record(frame: FrameType, event: str, _: Any) -> None:  # noqa: ANN401 - a profiler's argument
    code = frame.f_code
    is_ours = code.co_filename.startswith(PACKAGE) and code.co_filename.endswith(".py")  # no templates
    if present and event == "call" and is_ours and code.co_name.isidentifier():
        present.num_calls += 1
        present.functions.add(code)


@contextlib.contextmanager
def recorded() -> Iterator[Journey]:
    global present
    present = journey = Journey()
    try:
        yield journey
    finally:
        present = None


def predict(folder: Path) -> Journey:
    """An image file to its ranked classes."""
    net = verydeep.VeryDeep("A", num_classes=10, width=1 / 16, crop=32).eval()
    net.set_input([120.0, 115.0, 105.0], [1.0, 1.0, 1.0])
    file = folder / "photograph.jpg"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (90, 120, 3), dtype=np.uint8)).save(file)
    classifier = verydeep.Classifier(net)
    classifier.predict(file)
    with recorded() as journey:
        classifier.predict(file)
    return journey


def fit(folder: Path) -> Journey:
    """From ``fit`` to the end of the second weight update: what begins a training, and its loop."""
    return trained(folder, until=2)


def update(folder: Path) -> Journey:
    """Between two updates in the middle of an epoch: training images to the weights they change."""
    return trained(folder, since=3, until=50)


class Arrived(Exception):  # noqa: N818 - not an error
    """Ends a training whose further updates are not counted."""


def trained(folder: Path, *, since: int = 0, until: int) -> Journey:
    """Begins a training twice, and records the second between two of its updates."""
    recipe = dataclasses.replace(verydeep.RECIPES["quick"], epochs=1, batch_size=20)
    step = torch.optim.SGD.step
    for number in range(2):
        net = verydeep.VeryDeep("A", num_classes=10, width=1 / 16, crop=32, batch_norm=True)
        own = {id(parameter) for parameter in net.parameters()}
        journey, done = Journey(), 0

        def watch() -> None:
            global present
            present = journey if since <= done < until else None  # noqa: B023

        def counted(self: torch.optim.SGD, *arguments: Any) -> Any:  # noqa: ANN401
            nonlocal done
            result = step(self, *arguments)
            if not own & {id(parameter) for group in self.param_groups for parameter in group["params"]}:  # noqa: B023
                return result  # a copy of the net, trained for a stop-watch
            done += 1
            watch()
            if done == until:
                raise Arrived
            return result

        torch.optim.SGD.step = counted  # type: ignore[method-assign, assignment]
        watch()
        with contextlib.suppress(Arrived):
            verydeep.fit(net, "digits", recipe=recipe, out=folder / f"run{number}")
        torch.optim.SGD.step = step  # type: ignore[method-assign]
        assert done == until
    return journey


def tables(folder: Path) -> Journey:
    """Four tiny nets trained and tested, to the verdicts on the paper's claims."""
    data = photographs(folder / "photographs")
    options = "--architectures A,A-LRN,B,C --crop 32 --width 0.0625 --epochs 1 --recipe quick --train-scale 36 --json"
    arguments = ["tables", str(data), *options.split(), "--out"]
    run_command([*arguments, str(folder / "first")])
    with recorded() as journey:
        run_command([*arguments, str(folder / "second")])
    return journey


def photographs(folder: Path, each: int = 6) -> Path:
    """Writes a small data set: two classes in two splits."""
    generator = np.random.default_rng(0)
    for number, name in enumerate(("dark", "light")):
        for split in ("train", "val"):
            (folder / split / name).mkdir(parents=True)
            for index in range(each):
                pixels = generator.integers(128 * number, 128 * number + 128, (40, 48, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(folder / split / name / f"{index}.jpg")
    return folder


def run_command(arguments: list[str]) -> None:
    before, sys.argv = sys.argv, ["verydeep", *arguments]
    status: int | str | None = 0
    try:
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()) as errors:
            runpy.run_module("verydeep", run_name="__main__")
    except SystemExit as ended:
        status = ended.code
    finally:
        sys.argv = before
    assert not status, errors.getvalue()


JOURNEYS: dict[str, Callable[[Path], Journey]] = {
    "predict": predict,
    "fit": fit,
    "update": update,
    "tables": tables,
}


def main() -> None:
    print(f"| journey of {verydeep.__version__} | files | functions | calls |\n|---|---:|---:|---:|")
    entered = {}
    threading.setprofile(record)
    sys.setprofile(record)
    for name in sys.argv[1:] or JOURNEYS:
        with tempfile.TemporaryDirectory() as folder:
            journey = JOURNEYS[name](Path(folder))
        entered[name] = journey.files
        print(f"| {name} | {len(journey.files)} | {len(journey.functions)} | {journey.num_calls:,} |", flush=True)
    for name, files in entered.items():
        print(f"\n{name}: {' '.join(files)}")


if __name__ == "__main__":
    main()
