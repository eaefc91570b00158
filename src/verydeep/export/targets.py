"""Targets of an export as rows: what is written, by which packages, and what runs it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Final

from numpy import ndarray

from verydeep.errors import UsageError, UserError
from verydeep.export.check import Run
from verydeep.export.operations import Program

INSTALL: Final = "pip install 'verydeep[export]'"
"""What gets the packages of all targets."""


@dataclass(frozen=True, kw_only=True)
class Runtime:
    """What writes and runs the files of a target; making one imports its packages.

    Attributes:
        kernel: that rescales images inside the file.
        write: writes a program: metadata, precision, file, and the shortest side of an image.
        open: opens a file: what computes its outputs, and its metadata.
        quantise: writes a program in int8, by images; None where the target has none.
    """

    kernel: str
    write: Callable[[Program, dict[str, str], str, Path, int], None]
    open: Callable[[Path], tuple[Run, dict[str, str]]]
    quantise: Callable[[Program, dict[str, str], Sequence[ndarray], Path], None] | None = None


@dataclass(frozen=True, kw_only=True)
class Target:
    """A kind of file.

    Attributes:
        name: what ``--to`` takes.
        title: for a person.
        suffix: of the file.
        precisions: that it can have.
        other_precisions: what to do for others.
        packages: that write and run it, the one that runs it last.
        int8_packages: that int8 needs besides.
        narrows: precisions in which the layers compute; the others only store the weights, or are found by images.
        runtime: imports the packages.
    """

    name: str
    title: str
    suffix: str
    precisions: tuple[str, ...]
    other_precisions: str
    packages: tuple[str, ...]
    int8_packages: tuple[str, ...] = ()
    narrows: tuple[str, ...] = ()
    runtime: Callable[[], Runtime]

    def check(self, precision: str) -> None:
        """Raises where there is no such precision, or a package is not installed."""
        if precision not in self.precisions:
            raise UsageError(
                f"--precision {precision}: --to {self.name} has {', '.join(self.precisions)}; {self.other_precisions}"
            )
        for package in (*self.packages, *(self.int8_packages if precision == "int8" else ())):
            if find_spec(package) is None:
                raise UserError(f"--to {self.name} needs {package}, which is not installed: {INSTALL}")

    @property
    def runs_by(self) -> str:
        """The package that runs the file, with its version."""
        package = self.packages[-1]
        return f"{package} {version(package).partition('+')[0].split('-')[0]}"


def _onnx() -> Runtime:
    from verydeep.export import onnx_file

    return Runtime(
        kernel=onnx_file.KERNEL,
        write=onnx_file.write_onnx,
        open=onnx_file.open_onnx,
        quantise=onnx_file.quantise_onnx,
    )


def _openvino() -> Runtime:
    from verydeep.export import openvino_file

    return Runtime(
        kernel=openvino_file.KERNEL,
        write=openvino_file.write_openvino,
        open=openvino_file.open_openvino,
        quantise=openvino_file.quantise_openvino,
    )


_ROWS = (
    Target(
        name="onnx",
        title="ONNX, opset 18",
        suffix=".onnx",
        precisions=("fp32", "fp16", "int8"),
        other_precisions="ONNX Runtime has no convolution in bf16 on the CPU: take fp16 for half the file",
        packages=("onnx", "onnxruntime"),
        narrows=("fp16",),
        runtime=_onnx,
    ),
    Target(
        name="openvino",
        title="OpenVINO IR",
        suffix=".xml",
        precisions=("fp32", "fp16", "int8"),
        other_precisions="OpenVINO computes an fp32 or fp16 file in bf16 by itself where the CPU has it",
        packages=("openvino",),
        int8_packages=("nncf",),
        runtime=_openvino,
    ),
)

TARGETS: Final = {row.name: row for row in _ROWS}
"""The targets by name."""


def find_target(name: str) -> Target:
    if name not in TARGETS:
        raise UsageError(f"--to {name}: choose one of {' or '.join(TARGETS)}")
    return TARGETS[name]
