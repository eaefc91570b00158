"""Makes the weights of LPIPS and DISTS that ship with the package from those of their authors' packages.

    pip install lpips==0.1.4 DISTS-pytorch==0.1
    python benchmarks/loss_weights.py

Both files are checked by their hashes and read without unpickling anything but tensors.
"""

import hashlib
import io
from importlib.metadata import files
from pathlib import Path

import torch
from safetensors.torch import save
from torch import Tensor

from verydeep.files import atomic_write
from verydeep.losses.calibration import DISTS_FILE, LPIPS_FILE

CHANNELS = (3, 64, 128, 256, 512, 512)


def read(package: str, name: str, sha256: str) -> dict[str, Tensor]:
    """Reads the tensors of a file of an installed package."""
    path = next(Path(str(file.locate())) for file in files(package) or () if str(file).endswith(name))
    content = path.resolve().read_bytes()
    if not hashlib.sha256(content).hexdigest().startswith(sha256):
        raise SystemExit(f"{path} is another file than the one whose sha256 begins with {sha256}")
    tensors: dict[str, Tensor] = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    return tensors


def write(file: Path, tensors: dict[str, Tensor], source: str) -> None:
    ready = {name: tensor.detach().clone().contiguous() for name, tensor in tensors.items()}
    with atomic_write(file) as to:
        to.write_bytes(save(ready, {"format": "pt", "source": source}))
    print(f"{file}: {file.stat().st_size:,} bytes")


if __name__ == "__main__":
    linear = read("lpips", "weights/v0.1/vgg.pth", "a78928a0")
    layers = ("relu1_2", "relu2_2", "relu3_3", "relu4_3", "relu5_3")
    write(
        LPIPS_FILE,
        {layer: linear[f"lin{index}.model.1.weight"].flatten() for index, layer in enumerate(layers)},
        "lpips 0.1.4, weights/v0.1/vgg.pth, BSD-2-Clause, Zhang et al. 2018",
    )
    factors = read("DISTS-pytorch", "weights.pt", "f5e65c96")
    total = factors["alpha"].sum() + factors["beta"].sum()
    parts = {name: (factors[name] / total).flatten().split(CHANNELS) for name in ("alpha", "beta")}
    write(
        DISTS_FILE,
        {
            f"{name}.{layer}": part
            for name in parts
            for layer, part in zip(("image", *layers), parts[name], strict=True)
        },
        "DISTS-pytorch 0.1, weights.pt, MIT, Ding et al. 2020; alpha and beta divided by their joint sum",
    )
