"""What ``weights import`` is asked for; needs no torch, so that the command line answers ``--help`` at once."""

import math
from dataclasses import dataclass
from pathlib import Path

from verydeep.errors import UsageError


@dataclass(frozen=True, kw_only=True)
class ImportOptions:
    """The options of ``weights import``."""

    out: Path
    "The model file to write (.safetensors)."
    classes: str | None = None
    "A file with the names of the classes: one a line, or JSON, a list or names with indices; or imagenet."
    licence: str | None = None
    "Licence of the weights, for the model card."
    source: str | None = None
    "Where they come from, for the model card."
    crop: int | None = None
    "Side of the crop the net was trained on, such as 32. [what fc6 says]"
    mean: str | None = None
    "R,G,B in 0..255 that was subtracted, where it is not its program's usual."
    divisor: str | None = None
    "R,G,B that divided afterwards, likewise."
    bgr: bool = False
    "The net was trained on blue, green, red where its program has RGB."
    features_only: bool = False
    "Read the convolutions only, whatever follows them."
    last_weights: bool = False
    "Take the last weights of a checkpoint that has averaged ones (EMA) too. [the averaged ones]"
    precision: str = "fp32"
    "In which weights are stored: fp32, bf16 or fp16."
    verify: bool = False
    "Run the file in its own program too, and compare the scores."
    images: Path | None = None
    "Photographs to compare on. [a few drawn pictures]"

    def check(self) -> None:
        """Raises UsageError where options cannot be right or contradict each other; before anything is read."""
        read_colour(self.mean, "--mean")
        divisor = read_colour(self.divisor, "--divisor")
        if self.out.suffix != ".safetensors":
            raise UsageError(f"--out {self.out}: a model file ends in .safetensors")
        if self.images is not None and not self.verify:
            raise UsageError("--images are what --verify compares on: give --verify too")
        if self.features_only and self.classes is not None:
            raise UsageError("--classes names the scores, and --features-only leaves them out")
        if self.verify and self.bgr:
            raise UsageError("--verify runs the usual preprocessing of the other program, and --bgr is another")
        if divisor is not None and not all(number > 0 for number in divisor):
            raise UsageError("--divisor: give numbers above 0")


def read_colour(text: str | None, option: str) -> tuple[float, float, float] | None:
    """Reads R,G,B, or raises UsageError."""
    if text is None:
        return None
    try:
        red, green, blue = (float(part) for part in text.split(","))
    except ValueError as error:
        raise UsageError(f"{option} {text}: give three numbers, such as 123.68,116.779,103.939") from error
    if not all(math.isfinite(number) for number in (red, green, blue)):
        raise UsageError(f"{option} {text}: give three finite numbers")
    return red, green, blue
