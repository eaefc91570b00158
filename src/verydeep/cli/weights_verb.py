"""Weights of other programs made into model files, and model files into weights of other programs."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from verydeep.class_names import read_class_names
from verydeep.cli.pictures import drawn_pictures, photographs
from verydeep.download import digest_of
from verydeep.errors import UsageError, UserError
from verydeep.nets.model_card import make_card
from verydeep.nets.model_file import save
from verydeep.nets.net import VeryDeep
from verydeep.progress import Progress, ignore_progress
from verydeep.weights.imported import ImportedWeights, assemble
from verydeep.weights.readers import read_weights
from verydeep.weights.resolve import find_model_file, load
from verydeep.weights.verify import Agreement, compare
from verydeep.weights.writers import export, find_target
from verydeep.weights.writers.target import Preprocessing

MOST_DIFFERENCE: Final = 1e-3
"""Largest relative difference of scores that is rounding: float32 gives 1e-5 or less, TF32 and half precision more."""

Triple = tuple[float, float, float]


@dataclass(frozen=True, kw_only=True)
class ImportOptions:
    """Options of ``weights import``; its help says what each is."""

    file: Path
    out: Path
    classes: str | None = None
    licence: str | None = None
    source: str | None = None
    crop: int | None = None
    mean: Triple | None = None
    divisor: Triple | None = None
    bgr: bool = False
    precision: str = "fp32"
    verify: bool = False
    images: Path | None = None

    def check(self) -> None:
        """Raises UsageError, before anything is read, for options that do not go together."""
        if self.out.suffix != ".safetensors":
            raise UsageError(f"--out {self.out}: a model file ends in .safetensors")
        _check_other_file(self.file, self.out)
        if self.images is not None and not self.verify:
            raise UsageError("--images are what --verify compares on: give --verify too")
        if self.verify and self.bgr:
            raise UsageError("--verify runs the usual preprocessing of the other program, and --bgr is another")
        if self.divisor is not None and not all(number > 0 for number in self.divisor):
            raise UsageError("--divisor: give numbers above 0")


@dataclass(frozen=True, kw_only=True)
class Imported:
    """What became of a third-party file: what was read, the net it made, and how far both programs agree."""

    options: ImportOptions
    weights: ImportedWeights
    net: VeryDeep
    sha256: str
    agreement: Agreement | None

    @property
    def num_parameters(self) -> int:
        """Weights and biases."""
        return sum(parameter.numel() for parameter in self.net.parameters())

    def as_record(self) -> dict[str, Any]:
        """For JSON."""
        geometry = self.net.geometry
        return {
            "file": str(self.options.file),
            "kind": self.weights.kind,
            "sha256": self.sha256,
            "model": str(self.options.out),
            "architecture": geometry.architecture.name,
            "batch_norm": geometry.batch_norm,
            "crop": geometry.crop,
            "width": geometry.width,
            "num_classes": None if self.net.features_only else geometry.num_classes,
            "features_only": self.net.features_only,
            "parameters": self.num_parameters,
            "mean": self.net.mean.tolist(),
            "divisor": self.net.divisor.tolist(),
            "convention": self.weights.convention,
            "verified": None if self.agreement is None else asdict(self.agreement),
        }


def import_weights(options: ImportOptions, progress: Progress = ignore_progress) -> Imported:
    """Reads a third-party file, checks it, compares it where asked to, and writes a model file.

    Raises:
        UserError: the file cannot be read, is no net of Table 1, or disagrees with its own program.
        UsageError: options that do not go together.
    """
    options.check()
    weights = read_weights(options.file)
    if options.mean or options.divisor or options.bgr:
        weights = weights.with_input(mean=options.mean, divisor=options.divisor, bgr=options.bgr)
    classes = None if options.classes is None else read_classes(options.classes)
    try:
        net = assemble(weights, crop=options.crop, classes=classes)
    except UsageError:
        raise
    except UserError as error:
        raise UserError(f"{options.file}: {error}") from error
    agreement = _verify(options, weights, net) if options.verify else None
    digest = digest_of(options.file, "sha256", f"hashing {options.file.name}", progress)
    source = f"{options.source or options.file.name} ({weights.kind}, sha256 {digest})"
    save(net, options.out, card=make_card(net, licence=options.licence, source=source), precision=options.precision)
    return Imported(options=options, weights=weights, net=net, sha256=digest, agreement=agreement)


def _check_other_file(source: Path, out: Path) -> None:
    if out.exists() and source.exists() and out.samefile(source):
        raise UsageError(f"--out {out} is the file that is read: give another name, or it would be lost")


def _verify(options: ImportOptions, weights: ImportedWeights, net: VeryDeep) -> Agreement:
    images = drawn_pictures() if options.images is None else photographs(options.images)
    agreement = compare(options.file, weights, net, images)
    if not agreement.largest_difference <= MOST_DIFFERENCE:
        raise UserError(
            f"{options.file}: the scores differ from those of {agreement.package} by "
            f"{agreement.largest_difference:.3g} of the largest, and rounding gives {MOST_DIFFERENCE:g} at most: "
            "nothing was written"
        )
    return agreement


def read_classes(names: str) -> tuple[str, ...]:
    """Reads the names of the classes in the order of the scores.

    Args:
        names: a text file with one name a line; or ``imagenet``, its 1000 names.

    Raises:
        UserError: the file cannot be read, or a line is empty.
    """
    if names == "imagenet":
        return read_class_names("imagenet")
    try:
        lines = Path(names).read_text(encoding="utf-8-sig").rstrip().split("\n")
    except UnicodeDecodeError as error:
        raise UserError(f"{names} is no text in UTF-8: give one name a line") from error
    except OSError as error:
        raise UserError(f"{names} cannot be read: {error.strerror or error}") from error
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            raise UserError(f"{names}: line {number} is empty: give one name a line")
    return tuple(line.strip() for line in lines)


@dataclass(frozen=True, kw_only=True)
class Exported:
    """What was written for another program, what that has to do to an image, and how it loads the file."""

    model: str
    target: str
    file: Path
    preprocessing: Preprocessing
    calls: tuple[str, str]

    def as_record(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "model": self.model,
            "to": self.target,
            "file": str(self.file),
            "preprocessing": asdict(self.preprocessing),
            "calls": list(self.calls),
        }


def export_weights(model: str, to: str, out: Path) -> Exported:
    """Writes the weights of a model file for another program.

    Args:
        model: a model file, a run folder or a published name.
        to: a name in TARGETS.
        out: the file to be written.

    Raises:
        UserError: the model cannot be read, or the file not be written.
        UsageError: the program cannot hold this net.
    """
    target = find_target(to)
    file = find_model_file(model)
    _check_other_file(file, out)
    net = load(file)
    preprocessing = export(net, target, out)
    calls = (f"model = {target.make(net)}", target.load.format(file=str(out)))
    return Exported(model=model, target=to, file=out, preprocessing=preprocessing, calls=calls)
