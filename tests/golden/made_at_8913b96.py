"""Made the committed pictures, files of other programs and files of version 0.1.0; runs in a checkout of 8913b96 only.

Kept to say where the files come from: run once, in tests/, as ``python golden/made_at_8913b96.py``. It uses the
makers that the tests had at that commit, and modules of that time.
"""

import lzma
import os
import shutil
import signal
import tempfile
import warnings
from pathlib import Path

import numpy as np
import onnx
import torch
from PIL import Image
from safetensors.torch import save_file

import peer_nets
import verydeep
from conftest import scene
from convnets.foreign.test_caffe import caffemodel
from convnets.foreign.test_keras_file import write as write_keras
from convnets.foreign.test_matconvnet import matconvnet
from convnets.foreign.test_onnx_file import export
from foreign_nets import SourceNet
from foreign_nets import make_net as make_source_net
from golden.harness import save_net
from verydeep.data.shard_writer import write_shards
from verydeep.evaluation.saved import save_posteriors
from verydeep.training import fit

HERE = Path(__file__).parent
MADE = HERE / "made_by_0_1_0"
CHANNELS, HIDDEN = (8, 8, 8, 8, 8), 32
STEP = 16
"""Weights are multiples of 1/16, so that the files compress well."""


def make_pictures(folder: Path) -> None:
    """A wide and a tall photograph, one turned by its EXIF tag, a grey one, one with alpha, one below the crop."""
    folder.mkdir()
    scene(1, 96, 64).save(folder / "wide.jpg", quality=90)
    scene(2, 50, 88).save(folder / "tall.jpg", quality=90)
    exif = Image.Exif()
    exif[0x0112] = 6
    scene(3, 90, 60).save(folder / "rotated.jpg", quality=90, exif=exif)
    scene(4, 64, 70).convert("L").save(folder / "grey.png")
    coloured = scene(5, 72, 56).quantize(24).convert("RGBA")
    coloured.putalpha(Image.linear_gradient("L").resize(coloured.size).quantize(8).convert("L"))
    coloured.save(folder / "alpha.png")
    scene(6, 24, 20).save(folder / "small.png")


def make_photos(folder: Path) -> None:
    """Three classes of ten pictures that a small net can tell apart."""
    for label, name in enumerate(("bright", "dark", "grey")):
        (folder / name).mkdir(parents=True)
        for index in range(10):
            random = np.random.default_rng([label, index])
            coarse = random.integers(-40, 41, (5, 5, 3)) + np.array([(200, 180, 150), (60, 40, 90), (120,) * 3][label])
            small = Image.fromarray(np.clip(coarse, 0, 255).astype(np.uint8))
            picture = small.resize((36 + index % 3 * 4, 36), Image.Resampling.NEAREST)
            picture.save(folder / name / f"{index}.png")


def interrupt_after(updates: int) -> None:
    """Presses Ctrl-C after some updates, in the middle of an epoch."""
    update, left = fit.update, iter(range(updates, 0, -1))

    def counted(*arguments: object, **options: object) -> object:
        if next(left, 0) == 1:
            signal.raise_signal(signal.SIGINT)
        return update(*arguments, **options)

    fit.update = counted


def train(name: str, **changes: object) -> None:
    net = {"architecture": "A", "batch_norm": True, "crop": 32, "width": 0.01, "init_from": "start.safetensors"}
    words = " ".join(f"--set {key}={value}" for key, value in changes.items())
    verydeep.train(
        "photos",
        out=name,
        changes={"batch_size": 6, **changes},
        execution=verydeep.Execution(device="cpu", precision="fp32"),
        command="verydeep train photos --recipe quick --batch-norm --crop 32 --width 0.01 "
        f"--init-from start.safetensors --out {name} --batch-size 6 {words} --device cpu --precision fp32",
        recipe="quick",
        **net,
    )


def make_files_of_0_1_0(folder: Path) -> None:
    os.chdir(folder)
    save_net("A-bn-tiny", "start.safetensors")
    train("finished", epochs=3, learning_rate=0.01)
    interrupt_after(6)
    train("interrupted", epochs=4, learning_rate=0.01, dropout=0)
    net = verydeep.load("finished")
    verydeep.save(net, "half.safetensors", precision="bf16")
    verydeep.save(net, "timm-names.safetensors", names="timm")
    save_posteriors(verydeep.evaluate("finished", "photos", protocol="multi-scale"), "posteriors.safetensors")
    with tempfile.TemporaryDirectory() as place:
        for file in Path("photos").glob("*/[0-5].png"):
            (Path(place) / file.parent).mkdir(parents=True, exist_ok=True)
            shutil.copy(file, Path(place) / file)
        write_shards(Path(place) / "photos", "shards", size="16K")


def coarse(net: torch.nn.Module) -> torch.nn.Module:
    with torch.no_grad():
        for tensor in net.state_dict().values():
            if tensor.is_floating_point():
                tensor.copy_((tensor * STEP).round() / STEP)
    return net


def coarse_source(net: SourceNet) -> SourceNet:
    for parts in (net.weights, net.moments):
        for name, tensors in parts.items():
            parts[name] = tuple((np.round(part * STEP) / STEP).astype(np.float32) for part in tensors)
    return net


def make_formats(folder: Path) -> None:
    peer_nets.CHANNELS, peer_nets.HIDDEN = CHANNELS, HIDDEN
    plain = coarse(peer_nets.torchvision_net("D"))
    normed = coarse(peer_nets.torchvision_net("A", batch_norm=True))
    torch.save(plain.state_dict(), folder / "torchvision-D.pth")
    torch.save({"epoch": 3, "state_dict": normed.state_dict()}, folder / "torchvision-A-bn.pth")
    torch.save(plain.state_dict(), folder / "torchvision-D-old.pth", _use_new_zipfile_serialization=False)
    torch.save(peer_nets.SeedNet(plain).state_dict(), folder / "seed-D.pth")
    save_file(coarse(peer_nets.timm_net()).state_dict(), folder / "timm-D.safetensors")
    save_file(coarse(peer_nets.timm_net(batch_norm=True)).state_dict(), folder / "timm-D-bn.safetensors")
    keras_net = peer_nets.keras_net("D", crop=32)
    keras_net.set_weights([np.round(part * STEP) / STEP for part in keras_net.get_weights()])
    for form in (".keras", ".weights.h5", ".h5", "legacy.h5"):
        write_keras(keras_net, folder / f"keras-D{'-' if form == 'legacy.h5' else ''}{form}", form)
    topless = peer_nets.keras_net("D", crop=32, top=False)
    topless.set_weights([np.round(part * STEP) / STEP for part in topless.get_weights()])
    write_keras(topless, folder / "keras-D-notop.weights.h5", ".weights.h5")

    def source(architecture: str, *, batch_norm: bool = False) -> SourceNet:
        made = make_source_net(architecture, channels=CHANNELS, hidden=HIDDEN, batch_norm=batch_norm)
        return coarse_source(made)

    (folder / "caffe-D-v1.caffemodel").write_bytes(caffemodel(source("D")))
    (folder / "caffe-A-bn.caffemodel").write_bytes(caffemodel(source("A", batch_norm=True), v1=False))
    for layout in ("old", "new", "dag"):
        (folder / f"matconvnet-D-{layout}.mat").write_bytes(matconvnet(source("D"), layout=layout))
    (folder / "matconvnet-A-bn.mat").write_bytes(matconvnet(source("A", batch_norm=True), compress=True))
    small = verydeep.VeryDeep("A", num_classes=5, crop=32, width=0.01, batch_norm=True)
    peer_nets.randomise(small)
    for net, name, crop, options in (
        (plain, "onnx-D-export", 224, {"dynamo": True, "external_data": False}),
        (plain, "onnx-D-script", 224, {"dynamo": False}),
        (coarse(small), "onnx-A-bn-ours", 32, {"dynamo": True, "external_data": False}),
    ):
        export(net, folder / f"{name}.onnx", crop, **options)
        without_paths(folder / f"{name}.onnx")


def without_paths(file: Path) -> None:
    """Removes the notes of torch.export, which name the files of this machine."""
    whole = onnx.load(file)
    del whole.graph.metadata_props[:]
    for part in (*whole.graph.node, *whole.graph.value_info, *whole.graph.input, *whole.graph.output):
        del part.metadata_props[:]
        part.doc_string = ""
    for part in whole.graph.initializer:
        del part.metadata_props[:]
    onnx.save(whole, file)


def main() -> None:
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    make_pictures(HERE / "pictures")
    make_photos(MADE / "photos")
    make_files_of_0_1_0(MADE)
    (HERE / "formats").mkdir()
    with tempfile.TemporaryDirectory() as place:
        make_formats(Path(place))
        for file in sorted(Path(place).iterdir()):
            (HERE / "formats" / f"{file.name}.xz").write_bytes(lzma.compress(file.read_bytes(), preset=9))


if __name__ == "__main__":
    main()
