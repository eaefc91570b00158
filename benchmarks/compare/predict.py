"""Predict: what a person waits for, from the start of a process to the classes of photographs."""

import shutil
import sys
import tempfile
import weakref
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property, partial
from pathlib import Path

from benchmarks.compare.contender import Case, Contender, LeftOutError, Options, Row
from benchmarks.compare.environment import Ran, child_environment, run_process
from benchmarks.compare.inference import version_of
from benchmarks.compare.nets import make_net
from benchmarks.compare.photographs import find_photographs
from verydeep.errors import UsageError, UserError
from verydeep.nets.model_file import save
from verydeep.nets.net import VeryDeep
from verydeep.nets.reuse import TORCHVISION_MEAN, TORCHVISION_STD
from verydeep.weights.readers.torch import pixels
from verydeep.weights.writers import TARGETS, export

_ROUNDS, _LONG_ROUNDS = 7, 3
_UNTUNED, _TUNED = "script of torchvision", "script of torchvision, our allocator settings,"


class Predict:
    """One photograph, and many, each time in a new process; the files are in the system's cache.

    Args:
        options: of the measurement.

    Raises:
        UsageError: int8, which wants images to find its ranges on; or another allocator.
    """

    precisions: tuple[str, ...] = ()
    notes = (
        "verydeep predict takes the whole photograph and its mirror image, about 3.5 times the work of a central crop; "
        "the script takes the central crop, and so does the row that it is compared with over many photographs",
        "the script computes in fp32, whatever precision ours is asked for",
    )

    def __init__(self, options: Options) -> None:
        if options.precision == "int8":
            raise UsageError("--precision int8: verydeep predict has fp32, bf16 and auto")
        if not options.tuned:
            raise UsageError("--untuned: predict measures the script both ways, and ours as it is")
        self.options = options
        self._files = find_photographs(options.data, options.photographs)
        self._folder = Path(tempfile.mkdtemp(prefix="verydeep-bench-"))
        weakref.finalize(self, shutil.rmtree, self._folder, ignore_errors=True)

    def cases(self) -> Sequence[Case]:
        """One photograph, and many."""
        photograph = str(self._files[0])
        files = [str(file) for file in self._files]
        command = [sys.executable, "-m", "verydeep"]
        predict = [*command, "predict", "--json", "--precision", self.options.precision]
        return [
            Case(
                name="one photograph, new process",
                contenders=(
                    self._ours("verydeep predict", lambda: [*predict, self._model, photograph]),
                    self._script(_UNTUNED, [photograph], tuned=False),
                    self._script(_TUNED, [photograph], tuned=True),
                    self._part("verydeep --help", [*command, "--help"]),
                    self._part(
                        f"python -c 'import torch' {version_of('torch')}", [sys.executable, "-c", "import torch"]
                    ),
                ),
                images=1,
                rounds=_ROUNDS,
            ),
            Case(
                name=f"top-5 of {len(files):,} photographs, new process",
                contenders=(
                    self._ours("verydeep, central crops,", lambda: self._top5(files)),
                    self._script(_UNTUNED, files, tuned=False),
                    self._script(_TUNED, files, tuned=True),
                    self._ours("verydeep predict", lambda: [*predict, self._model, *files], compared=False),
                ),
                images=len(files),
                rounds=_LONG_ROUNDS,
                warm=False,
            ),
        ]

    def extra(self, rows: Sequence[Row]) -> Mapping[str, float]:
        """The ratio to the script as somebody runs it who knows of no allocator, over many photographs."""
        last = [row for row in rows if row.case == rows[-1].case and row.compared]
        ours = next((row.images_per_second for row in last if row.is_ours), None)
        theirs = next((row.images_per_second for row in last if row.name.startswith(f"{_UNTUNED} ")), None)
        return {"ratio_to_untuned_script": ours / theirs} if ours is not None and theirs is not None else {}

    @cached_property
    def _model(self) -> str:
        """A model file: the one asked for, or random weights that say nothing and take as long."""
        if self.options.model is not None:
            return self.options.model
        file = self._folder / "net.safetensors"
        save(self._net, file)
        return str(file)

    @cached_property
    def _net(self) -> VeryDeep:
        net = make_net(self.options)
        if self.options.model is None:
            net.set_input(pixels(TORCHVISION_MEAN), pixels(TORCHVISION_STD))  # so that the script computes the same net
        return net

    @cached_property
    def _foreign(self) -> tuple[str, str]:
        """The name of torchvision's net, and a file with its weights."""
        net, target = self._net, TARGETS["torchvision"]
        try:
            target.check(net)
        except UserError as error:
            raise LeftOutError(str(error)) from error
        file = self._folder / "net.pth"
        export(net, target, file)
        depth = {"A": "vgg11", "B": "vgg13", "D": "vgg16", "E": "vgg19"}[net.geometry.architecture.name]
        return depth + ("_bn" if net.geometry.batch_norm else ""), str(file)

    def _top5(self, files: list[str]) -> list[str]:
        return [sys.executable, "-m", "benchmarks.compare.top5", self._model, self.options.precision, *files]

    def _ours(self, name: str, command: Callable[[], list[str]], *, compared: bool = True) -> Contender:
        def make() -> Callable[[], Ran]:
            # it sets its allocator itself
            return partial(run_process, command(), child_environment(self.options.threads, tuned=False))

        return Contender(
            name=f"{name} {version_of('verydeep')}",
            make=make,
            is_ours=True,
            compared=compared,
            precision=self.options.precision,
        )

    def _script(self, name: str, files: list[str], *, tuned: bool) -> Contender:
        def make() -> Callable[[], Ran]:
            script = Path(__file__).with_name("plain_script.py")
            command = [sys.executable, str(script), *self._foreign, *files]
            return partial(run_process, command, child_environment(self.options.threads, tuned=tuned))

        return Contender(name=f"{name} {version_of('torchvision')}", make=make, package="torchvision")

    def _part(self, name: str, command: list[str]) -> Contender:
        def make() -> Callable[[], Ran]:
            return partial(run_process, command, child_environment(self.options.threads, tuned=False))

        return Contender(name=name, make=make, is_ours=name.startswith("verydeep"), compared=False)
