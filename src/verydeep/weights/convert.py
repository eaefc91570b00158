"""Weights of other programs made into model files, and model files into weights of other programs."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from PIL import Image

from verydeep.class_names import read_class_names
from verydeep.download import digest_of
from verydeep.errors import UsageError, UserError
from verydeep.nets.model_card import make_card
from verydeep.nets.model_file import save
from verydeep.nets.net import VeryDeep
from verydeep.progress import Progress, ignore_progress
from verydeep.weights.imported import ImportedWeights, assemble, names_in_words
from verydeep.weights.known import with_known_file
from verydeep.weights.options import ImportOptions, read_colour
from verydeep.weights.preprocessing import class_names
from verydeep.weights.readers import read_weights
from verydeep.weights.resolve import find_model_file, load
from verydeep.weights.verify import Agreement, compare, drawn_pictures
from verydeep.weights.writers import export, find_target
from verydeep.weights.writers.target import Preprocessing

MOST_DIFFERENCE: Final = 1e-3
"""Largest relative difference of scores that is rounding: float32 gives 1e-5 or less, TF32 and half precision more."""


@dataclass(frozen=True, kw_only=True)
class Imported:
    """A third-party file and the model file written of it."""

    file: Path
    out: Path
    weights: ImportedWeights
    net: VeryDeep
    sha256: str  # of the third-party file
    agreement: Agreement | None  # with the other program, where that was asked for

    @property
    def notes(self) -> list[str]:
        """Notes for the user: the layers that were left out, and the preprocessing that is assumed."""
        found, notes = self.weights, list(self.weights.notes)
        if found.left_out:
            reason = f" ({found.reason})" if found.reason else ""
            notes.append(f"left out, after the convolutions: {names_in_words(found.left_out)}{reason}")
        if "fc8.weight" in found.tensors and "fc6.weight" not in found.tensors and found.crop is None:
            notes.append(f"its linear head fits images of any size: crop {self.net.geometry.crop} (--crop) is assumed")
        return notes

    @property
    def num_parameters(self) -> int:
        return sum(parameter.numel() for parameter in self.net.parameters())

    def as_record(self) -> dict[str, Any]:
        """For JSON."""
        geometry = self.net.geometry
        return {
            "file": str(self.file),
            "kind": self.weights.kind,
            "sha256": self.sha256,
            "model": str(self.out),
            "architecture": geometry.architecture.name,
            "batch_norm": geometry.batch_norm,
            "crop": geometry.crop,
            "width": geometry.width,
            **({} if geometry.hidden is None else {"hidden": geometry.hidden}),
            "num_classes": None if self.net.features_only else geometry.num_classes,
            "features_only": self.net.features_only,
            "head": None if self.net.features_only else geometry.head,
            "left_out": list(self.weights.left_out),
            "notes": self.notes,
            "parameters": self.num_parameters,
            "mean": self.net.mean.tolist(),
            "divisor": self.net.divisor.tolist(),
            "convention": self.weights.convention,
            "verified": None if self.agreement is None else asdict(self.agreement),
        }


def import_weights(
    file: Path,
    options: ImportOptions,
    *,
    pictures: Sequence[Image.Image] = (),
    progress: Progress = ignore_progress,
) -> Imported:
    """Reads a third-party file, checks it, compares it on pictures where asked to, and writes a model file."""
    options.check()
    _check_other_file(file, options.out)
    weights = read_weights(file, averaged=not options.last_weights)
    digest = digest_of(file, "sha256", f"hashing {file.name}", progress)
    weights = with_known_file(weights, digest)
    if options.features_only:
        weights = weights.without_head()
    mean, divisor = read_colour(options.mean, "--mean"), read_colour(options.divisor, "--divisor")
    if mean or divisor or options.bgr:
        weights = weights.with_input(mean=mean, divisor=divisor, bgr=options.bgr)
    if options.classes is not None and weights.features_only:
        why = weights.reason or "it has convolutions only"
        raise UsageError(f"--classes names scores, and of {file} there are none ({why}): leave it out")
    classes = None if options.classes is None else read_classes(options.classes)
    try:
        net = assemble(weights, crop=options.crop, classes=classes)
    except UsageError:
        raise
    except UserError as error:
        raise UserError(f"{file}: {error}") from error
    agreement = _verify(file, weights, net, pictures or drawn_pictures()) if options.verify else None
    left_out = f"; left out: {names_in_words(weights.left_out)}" if weights.left_out else ""
    source = f"{options.source or file.name} ({weights.kind}, sha256 {digest}{left_out})"
    save(net, options.out, card=make_card(net, licence=options.licence, source=source), precision=options.precision)
    return Imported(file=file, out=options.out, weights=weights, net=net, sha256=digest, agreement=agreement)


def _check_other_file(source: Path, out: Path) -> None:
    if out.exists() and source.exists() and out.samefile(source):
        raise UsageError(f"--out {out} is the file that is read: give another name, or it would be lost")


def _verify(file: Path, weights: ImportedWeights, net: VeryDeep, pictures: Sequence[Image.Image]) -> Agreement:
    agreement = compare(file, weights, net, pictures)
    if not agreement.largest_difference <= MOST_DIFFERENCE:
        raise UserError(
            f"{file}: the scores differ from those of {agreement.package} by {agreement.largest_difference:.3g} "
            f"of the largest, and rounding gives {MOST_DIFFERENCE:g} at most: nothing was written"
        )
    return agreement


def read_classes(names: str) -> tuple[str, ...]:
    """Reads the names of the classes, in the order of the scores; or ``imagenet``'s.

    Args:
        names: a text file with one a line, or JSON: a list, ``{name: index}`` or ``{index: name}``.
    """
    if names == "imagenet":
        return read_class_names("imagenet")
    try:
        text = Path(names).read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise UserError(f"{names} is no text in UTF-8: give one name a line") from error
    except OSError as error:
        raise UserError(f"{names} cannot be read: {error.strerror or error}") from error
    if text.lstrip()[:1] in ("[", "{"):
        return _classes_of_json(names, text)
    lines = text.rstrip().split("\n")
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            raise UserError(f"{names}: line {number} is empty: give one name a line")
    return tuple(line.strip() for line in lines)


def _classes_of_json(names: str, text: str) -> tuple[str, ...]:
    try:
        found = class_names(json.loads(text))
    except (ValueError, RecursionError) as error:
        reason = str(error)[:80]
        raise UserError(f"{names} begins as JSON does and is none ({reason}): give one name a line") from error
    if found is None:
        raise UserError(
            f"{names} is JSON, but no list of names, no {{name: index}} and no {{index: name}} with the indices 0, 1, "
            "2, ..."
        )
    return found


@dataclass(frozen=True, kw_only=True)
class Exported:
    """A file written for another program."""

    model: str  # as it was named
    target: str
    file: Path
    preprocessing: Preprocessing
    calls: tuple[str, str]  # how the net is made there, and the file loaded

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
    """Writes the weights of a MODEL for a program in TARGETS."""
    target = find_target(to)
    file = find_model_file(model)
    _check_other_file(file, out)
    net = load(file)
    preprocessing = export(net, target, out)
    calls = (f"model = {target.make(net)}", target.load.format(file=str(out)))
    return Exported(model=model, target=to, file=out, preprocessing=preprocessing, calls=calls)
