"""Exports a MODEL: writes the file under a temporary name, runs it, compares it, and only then gives it its name.

Paper: section 3.2.
"""

import json
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
from jaxtyping import UInt8
from numpy import ndarray

from verydeep.data.dataset import DataSet
from verydeep.data.folder import find_images
from verydeep.data.open import note_passed_over, open_data
from verydeep.errors import UsageError, UserError
from verydeep.export.check import Agreement, Measured, Run, compare, compare_rescaled, given, measure
from verydeep.export.options import ExportOptions
from verydeep.export.sources import NetSource, Source, metadata_of, open_source
from verydeep.export.targets import Runtime, Target, find_target
from verydeep.files import check_output_file, free_name
from verydeep.images.decode import read_image
from verydeep.machine import package_version
from verydeep.progress import Progress, ignore_progress

NUM_CALIBRATION: Final = 300
"""Images by which int8 finds its scales, at most."""

_NUM_PHOTOGRAPHS: Final = 12
_MOST_PHOTOGRAPHS: Final = 100
_MOST_REASON: Final = 300


@dataclass(frozen=True, kw_only=True)
class Exported:
    """A file that was written, and how it compares with the net it was made of."""

    model: str
    target: str
    file: Path
    files: tuple[Path, ...]  # with the weights beside it, where there are such
    precision: str
    about: dict[str, Any]  # what its metadata say
    runs_by: str
    agreement: Agreement
    rescaling: Agreement | None  # of photographs that the file rescales itself
    measured: Measured | None
    num_bytes: int = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "num_bytes", sum(file.stat().st_size for file in self.files))

    def as_record(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "model": self.model,
            "to": self.target,
            "file": str(self.file),
            "files": [str(file) for file in self.files],
            "bytes": self.num_bytes,
            "precision": self.precision,
            **{key: self.about[key] for key in ("layout", "input", "outputs", "rescaling")},
            "runtime": self.runs_by,
            **asdict(self.agreement),
            "rescaled": None if self.rescaling is None else asdict(self.rescaling),
            "measured": None if self.measured is None else asdict(self.measured),
        }


def export_model(
    model: str,
    to: str,
    out: Path,
    options: ExportOptions,
    *,
    note: Callable[[str], None] | None = None,
    progress: Progress = ignore_progress,
) -> Exported:
    """Exports a MODEL, and compares the file with the net.

    Args:
        model: a model file, a run folder, a published name, or a folder that ``transfer`` wrote.
        to: a name in ``TARGETS``.
        out: the file.
        options: precision, layout, outputs, and the photographs.
        note: called with what the user should know.
        progress: called as it goes.

    Raises:
        UserError: a package is not installed, or the file does not agree: it is then kept aside.
        UsageError: the target has no such precision, or int8 has no images.
    """
    target = find_target(to)
    target.check(options.precision)
    check_output_file(out, "--out", f"model{target.suffix}")
    if options.precision == "int8" and options.data is None:
        raise UsageError("--precision int8 finds its scales by images: give --data with images such as it will see")
    source, runtime = open_source(model, options), target.runtime()
    photographs = read_photographs(options.check)
    data = None
    if options.data is not None:
        if not source.has_posteriors:
            raise UsageError(f"--data measures error rates, and {model} has no classes: leave it out")
        data = open_data(options.data, progress)
        note_passed_over(data, note)
        source.class_order(data.split())
    about = {
        "verydeep": package_version(),
        "model": Path(model).name,
        "target": target.title,
        "precision": options.precision,
        "rescaling": runtime.kernel if source.rescales else None,
    }
    with _aside(out) as folder:
        file = folder / out.name
        about |= _write(source, target, runtime, file, options, about, data)
        run, written = runtime.open(file)
        agreement, rescaling, measured = _compare(run, source, options, photographs, data, progress)
        if mismatch := agreement.mismatch(options.precision):
            raise _DifferenceError(f"{target.runs_by} and verydeep give different answers on photographs: {mismatch}")
        del run, written
        files = tuple(_moved(one, out) for one in sorted(folder.iterdir()))
    return Exported(
        model=model,
        target=target.name,
        file=out,
        files=files,
        precision=options.precision,
        about=about,
        runs_by=target.runs_by,
        agreement=agreement,
        rescaling=rescaling,
        measured=measured,
    )


def _write(
    source: Source,
    target: Target,
    runtime: Runtime,
    file: Path,
    options: ExportOptions,
    about: dict[str, Any],
    data: DataSet | None,
) -> dict[str, Any]:
    """Writes the file; returns all that its metadata say of it."""
    program = source.program(narrow=options.precision in target.narrows)
    metadata = metadata_of(source, program, about)
    if options.precision == "int8":
        assert runtime.quantise is not None
        assert data is not None
        images = _calibration(data, source, options.layout)
        runtime.quantise(program, metadata, images, file)
    else:
        runtime.write(program, metadata, options.precision, file, source.smallest_side)
    said: dict[str, Any] = json.loads(metadata["verydeep.export"])
    return said


def _compare(
    run: Run,
    source: Source,
    options: ExportOptions,
    photographs: Sequence[UInt8[ndarray, "_ _ 3"]],
    data: DataSet | None,
    progress: Progress,
) -> tuple[Agreement, Agreement | None, Measured | None]:
    layout = options.layout
    try:
        progress("comparing the file with the net", 0, 2)
        agreement = compare(run, source, layout, photographs)
        progress("comparing the file with the net", 1, 2)
        rescaling = None
        if source.rescales and isinstance(source, NetSource):
            rescaling = compare_rescaled(run, source, layout, photographs)
        progress("comparing the file with the net", 2, 2)
        measured = None if data is None else measure(run, source, layout, data.split(), progress)
    except UserError:
        raise
    except Exception as error:  # whatever another program raises
        raise _DifferenceError(f"the file does not run: {' '.join(str(error).split())[:_MOST_REASON]}") from error
    return agreement, rescaling, measured


class _DifferenceError(UserError):
    """The file does not give the net's answers."""


@contextmanager
def _aside(out: Path) -> Iterator[Path]:
    """A folder beside the file to be written; a file that does not agree is kept in it, under a name that says so."""
    folder = out.with_name(f".{out.name}.{os.getpid()}.export")
    folder.mkdir()
    try:
        yield folder
    except _DifferenceError as error:
        name = free_name(f"{out.name}-differs", lambda name: out.with_name(name).exists())
        kept = folder.replace(out.with_name(name)) / out.name
        raise UserError(f"{error}; it is kept as {kept}, and {out} is not written") from error
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _moved(file: Path, out: Path) -> Path:
    return file.replace(out.with_name(file.name))


def read_photographs(given_by: str | None) -> list[UInt8[ndarray, "h w 3"]]:
    """The photographs that a file is checked on: of a folder or a data set, or some that come with verydeep."""
    if given_by is None:
        return _some(find_images(["clothes"]), _NUM_PHOTOGRAPHS)
    if Path(given_by).is_dir():
        return _some(find_images([given_by]), _MOST_PHOTOGRAPHS)
    return open_data(given_by).split().some_pixels(_MOST_PHOTOGRAPHS)


def _some(files: Sequence[Path], most: int) -> list[UInt8[ndarray, "h w 3"]]:
    chosen = np.linspace(0, len(files) - 1, min(most, len(files))).astype(int)
    return [np.asarray(read_image(files[index])) for index in chosen]


def _calibration(data: DataSet, source: Source, layout: str) -> list[ndarray]:
    """Images for int8 from the training split, as the file gets them, each a batch of one."""
    found = data.train.some_pixels(NUM_CALIBRATION)
    return [given((pixels if source.rescales else source.view(pixels))[None], layout) for pixels in found]
