"""Weights of other programs made into model files, and model files into weights of other programs."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from verydeep.class_names import read_class_names
from verydeep.cli.pictures import drawn_pictures, photographs
from verydeep.convnets.foreign.found import ForeignWeights
from verydeep.convnets.foreign.peers import Agreement, compare
from verydeep.convnets.foreign.readers import assemble, read_foreign
from verydeep.convnets.foreign.targets import Preprocessing, export, find_target
from verydeep.download import digest_of
from verydeep.errors import UsageError, UserError
from verydeep.nets.model_card import make_card
from verydeep.nets.model_file import find_model_file, load, save
from verydeep.nets.net import VeryDeep
from verydeep.progress import Progress, ignore_progress

MOST_DIFFERENCE: Final = 1e-3
"""Largest relative difference of scores that is rounding: float32 gives 1e-5 or less, TF32 and half precision more."""

Triple = tuple[float, float, float]


@dataclass(frozen=True, kw_only=True)
class Asked:
    """What ``weights import`` was asked for.

    Attributes:
        file: the foreign file.
        out: the model file to be written.
        classes: a text file with the names of the classes, one a line, or ``imagenet``.
        licence: of the weights.
        source: where they come from.
        crop: side of the crop the net was trained on, where the file cannot tell.
        mean: what is subtracted from the pixels, where it is not its program's usual mean.
        divisor: what divides them, likewise.
        bgr: whether the first convolution was trained on blue, green, red, where its program's usual order is RGB.
        precision: in which the weights are stored.
        verify: whether to compare with the other program.
        images: a folder of photographs for that; by default a few drawn pictures.
    """

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
        """Finds wrong use before anything is read.

        Raises:
            UsageError: options that do not go together.
        """
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
    """What became of a foreign file.

    Attributes:
        asked: what was asked for.
        foreign: what was read.
        net: the net it made.
        sha256: of the foreign file.
        agreement: with the other program, where that was asked for.
    """

    asked: Asked
    foreign: ForeignWeights
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
            "file": str(self.asked.file),
            "kind": self.foreign.kind,
            "sha256": self.sha256,
            "model": str(self.asked.out),
            "architecture": geometry.architecture.name,
            "batch_norm": geometry.batch_norm,
            "crop": geometry.crop,
            "width": geometry.width,
            "num_classes": None if self.net.features_only else geometry.num_classes,
            "features_only": self.net.features_only,
            "parameters": self.num_parameters,
            "mean": self.net.mean.tolist(),
            "divisor": self.net.divisor.tolist(),
            "convention": self.foreign.convention,
            "verified": None if self.agreement is None else asdict(self.agreement),
        }


def import_weights(asked: Asked, progress: Progress = ignore_progress) -> Imported:
    """Reads a foreign file, checks it, compares it where asked to, and writes a model file.

    Raises:
        UserError: the file cannot be read, is no net of Table 1, or disagrees with its own program.
        UsageError: options that do not go together.
    """
    asked.check()
    foreign = read_foreign(asked.file)
    if asked.mean or asked.divisor or asked.bgr:
        foreign = foreign.with_input(mean=asked.mean, divisor=asked.divisor, bgr=asked.bgr)
    try:
        net = assemble(foreign, crop=asked.crop, classes=None if asked.classes is None else read_classes(asked.classes))
    except UsageError:
        raise
    except UserError as error:
        raise UserError(f"{asked.file}: {error}") from error
    agreement = _verify(asked, foreign, net) if asked.verify else None
    digest = digest_of(asked.file, "sha256", f"hashing {asked.file.name}", progress)
    source = f"{asked.source or asked.file.name} ({foreign.kind}, sha256 {digest})"
    save(net, asked.out, card=make_card(net, licence=asked.licence, source=source), precision=asked.precision)
    return Imported(asked=asked, foreign=foreign, net=net, sha256=digest, agreement=agreement)


def _check_other_file(source: Path, out: Path) -> None:
    if out.exists() and source.exists() and out.samefile(source):
        raise UsageError(f"--out {out} is the file that is read: give another name, or it would be lost")


def _verify(asked: Asked, foreign: ForeignWeights, net: VeryDeep) -> Agreement:
    images = drawn_pictures() if asked.images is None else photographs(asked.images)
    agreement = compare(asked.file, foreign, net, images)
    if not agreement.largest_difference <= MOST_DIFFERENCE:
        raise UserError(
            f"{asked.file}: the scores differ from those of {agreement.package} by {agreement.largest_difference:.3g} "
            f"of the largest, and rounding gives {MOST_DIFFERENCE:g} at most: nothing was written"
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
    """What was written for another program.

    Attributes:
        model: the model as it was named.
        target: the program.
        file: what was written.
        preprocessing: what that program has to do to an image.
        calls: how the net is made and the file loaded there.
    """

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
