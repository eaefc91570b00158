"""The nets that ship with the package, by name."""

from pathlib import Path
from typing import Final

from verydeep.errors import UserError

SHIPPED: Final = {
    "vgg16-features": "the convolutions of the authors' own D, in half precision",
    "verydeep-cifar10": "ten classes, trained by verydeep",
}
"""What the nets are that come with the package, by name."""

SHIPPED_FOLDER: Final = Path(__file__).parents[1] / "shipped"
"""Where their model files lie, inside the package."""


def shipped_file(name: str) -> Path:
    """Returns the model file of a net that ships, or raises UserError where this copy of the package lacks it."""
    file = SHIPPED_FOLDER / f"{name}.safetensors"
    if not file.is_file():
        raise UserError(f"{name} does not come with this copy of the package ({file} is missing): install a release")
    return file
