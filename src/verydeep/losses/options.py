"""What a stylised picture is asked for; the net of the losses where none is given. It imports nothing heavy."""

from dataclasses import dataclass
from pathlib import Path
from typing import Final

from verydeep.errors import UsageError

MODEL: Final = "vgg16-features"
"""The convolutions of the authors' D, which come with the package."""


@dataclass(frozen=True, kw_only=True)
class StyliseOptions:
    """What a stylised picture is asked for.

    Raises:
        UsageError: at ``check``, a number out of range.
    """

    model: str = MODEL
    "The net: a model file, run folder or published name with relu4_2 and relu5_1."
    out: Path = Path("stylised.jpg")
    "Write the picture to this file, .jpg or .png."
    scale: int = 256
    "Shorter side of both pictures, pixels."
    steps: int = 100
    "Steps of L-BFGS, from the content picture."
    style_weight: float = 1.0
    "Weight of the style beside the content."

    def check(self) -> None:
        if not 32 <= self.scale <= 4096:
            raise UsageError(f"--scale {self.scale}: give 32 to 4096 pixels")
        if self.steps < 1:
            raise UsageError(f"--steps {self.steps}: give 1 or more")
        if not 0 < self.style_weight < 1e9:
            raise UsageError(f"--style-weight {self.style_weight:g}: give a number above 0, such as 1")
