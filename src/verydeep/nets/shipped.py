"""The net that comes with the package."""

from pathlib import Path
from typing import Final

from verydeep.errors import UserError

SHIPPED: Final = "verydeep-cifar10"
"""What a MODEL argument calls it."""

SHIPPED_FILE: Final = Path(__file__).parents[1] / "shipped" / f"{SHIPPED}.safetensors"
"""Where it lies inside the package."""


def shipped_file() -> Path:
    """Gives the model file of the net that comes with the package.

    Raises:
        UserError: this copy of the package was made without it.
    """
    if not SHIPPED_FILE.is_file():
        raise UserError(
            f"{SHIPPED} does not come with this copy of the package ({SHIPPED_FILE} is missing): "
            "install a release, or train it by benchmarks/shipped_net.py"
        )
    return SHIPPED_FILE
