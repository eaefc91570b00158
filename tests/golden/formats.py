"""Files of other programs, imported by the command line: what it says of them, and scores of the nets they become."""

import lzma
from pathlib import Path
from typing import Any

from .harness import FORMATS, command

_VERIFIED = ("torchvision-D.pth",)
"""Run in their own program too; the others would cost the import of Keras or ONNX Runtime."""


def record() -> dict[str, Any]:
    """Answers of this subject."""
    return {file.stem: _imported(file) for file in sorted(FORMATS.iterdir())} | _with_options()


def _imported(packed: Path, *options: object) -> dict[str, Any]:
    Path(packed.stem).write_bytes(lzma.decompress(packed.read_bytes()))

    out = f"imported-{packed.stem}.safetensors"
    verify = ("--verify",) if packed.stem in _VERIFIED else ()
    answer = command("weights", "import", packed.stem, "--out", out, "--json", *verify, *options)
    if answer.status:
        return {"status": answer.status, "error": answer.complaint()}
    return {"answer": _unverified(answer.record()), "net": _scores(out)}


def _unverified(record: dict[str, Any]) -> dict[str, Any]:
    """Leaves out by how much the other program differed: rounding, which is compared there."""
    if record.get("verified"):
        record["verified"] = sorted(record["verified"])
    return record


def _scores(model: str) -> dict[str, Any]:
    import torch

    import verydeep

    net = verydeep.load(model)
    side = max(64, net.geometry.crop)
    pixels = (torch.arange(3 * side * side) * 37 % 251).reshape(1, 3, side, side).to(torch.uint8)
    with torch.inference_mode():
        map_ = net.features(pixels)
        found = {"features": [map_.mean().item(), map_.std().item()]}
        if not net.features_only:
            found["scores"] = net(pixels).flatten().tolist()
            found["posterior"] = verydeep.posterior(net, "pictures/wide.jpg", protocol="single").tolist()
    return found


def _with_options() -> dict[str, Any]:
    Path("names.txt").write_text("one\ntwo\nthree\nfour\nfive\n")
    caffe, pth = FORMATS / "caffe-D-v1.caffemodel.xz", FORMATS / "torchvision-A-bn.pth.xz"
    mean = ("--mean", "100,110,120", "--divisor", "50,60,70", "--bgr")
    return {
        "caffe-D-v1.caffemodel, another input": _imported(caffe, *mean),
        "torchvision-A-bn.pth, crop 32, names, bf16": _imported(
            pth, "--crop", 32, "--classes", "names.txt", "--precision", "bf16", "--licence", "MIT", "--source", "a test"
        ),
    }
