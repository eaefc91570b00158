"""The weights by which LPIPS and DISTS add up layers: files of the package, from their authors' releases.

``benchmarks/loss_weights.py`` makes them; LICENCE.md beside them has their licences.
"""

from functools import cache
from pathlib import Path
from typing import Final

from jaxtyping import Float
from safetensors.torch import load_file
from torch import Tensor

from verydeep.errors import UserError

LAYERS: Final = ("relu1_2", "relu2_2", "relu3_3", "relu4_3", "relu5_3")
"""The layers of net D that both compare: the last of each block before its pooling."""

CHANNELS: Final = (64, 128, 256, 512, 512)
"""Of these layers."""

_HERE = Path(__file__).parent / "weights"
LPIPS_FILE: Final = _HERE / "lpips_v0.1_vgg.safetensors"
DISTS_FILE: Final = _HERE / "dists.safetensors"


@cache
def read_weights(file: Path) -> dict[str, Float[Tensor, "c"]]:
    """Reads one of the files: a weight for each channel, by layer."""
    if not file.is_file():
        raise UserError(f"{file} is missing from this copy of the package: install verydeep again")
    weights: dict[str, Tensor] = load_file(file)
    return weights
