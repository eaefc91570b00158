"""Posteriors of every protocol: one image by one net in Python, and data sets by the command line."""

import json
from pathlib import Path
from typing import Any

from .harness import PICTURES, command, make_net, masked, save_net

_NETS = ("A-bn", "A-LRN", "B-5x5", "C", "D-64", "E-bn")
PROTOCOLS = ("centre", "ten-crop", "single", "multi-scale", "multi-crop", "dense+multi-crop", "caffe", "adaptive")
_MANY_PICTURES, _FEW_PICTURES = sorted(file.name for file in PICTURES.iterdir()), ("rotated.jpg", "alpha.png")


def record() -> dict[str, Any]:
    """Answers of this subject."""
    found: dict[str, Any] = {}
    for name in _NETS:
        found[f"posterior {name}"] = _of_pictures(name)
        found[f"net {name}"] = _of_net(name)
        save_net(name, f"{name}.safetensors")
    for protocol in PROTOCOLS:
        found[f"evaluate A-bn {protocol}"] = _saved("A-bn.safetensors", "photos", "--protocol", protocol)
    scales = ("--test-scales", "40,64")
    models = [f"{name}.safetensors" for name in ("A-bn", "C", "D-64")]
    found["evaluate B-5x5, scales given"] = _saved("B-5x5.safetensors", "photos", "--protocol", "multi-crop", *scales)
    found["evaluate three nets, fused"] = _saved(*models, "photos", "--protocol", "single")
    found["evaluate three nets, fused, all protocols in one"] = _saved(
        *models[:2], "photos", "--protocol", "dense+multi-crop", "--split", "val"
    )
    command("evaluate", "A-bn.safetensors", "photos", "--protocol", "multi-crop", "--save", "one.safetensors")
    command("evaluate", "A-bn.safetensors", "photos", "--protocol", "multi-scale", "--save", "two.safetensors")
    found["evaluate saved posteriors, fused"] = _saved("one.safetensors", "two.safetensors")
    return found


def _of_pictures(name: str) -> dict[str, Any]:
    import verydeep

    net, fast = make_net(name), verydeep.accelerate(make_net(name), precision="fp32")
    pictures = _MANY_PICTURES if name in ("A-bn", "C") else _FEW_PICTURES
    found: dict[str, Any] = {}
    for protocol in PROTOCOLS:
        for picture in pictures:
            one = verydeep.posterior(net, f"pictures/{picture}", protocol=protocol)
            found.setdefault(protocol, {})[picture] = one.tolist()
    for protocol in ("single", "multi-crop", "caffe"):
        one = verydeep.posterior(fast, f"pictures/{pictures[0]}", protocol=protocol)
        found[protocol][f"{pictures[0]}, accelerated"] = one.tolist()
    given = verydeep.posterior(net, "pictures/wide.jpg", protocol="single", test_scales=[64, 100])
    return found | {"single, scales given": {"wide.jpg": given.tolist()}}


def _of_net(name: str) -> dict[str, Any]:
    """Scores, maps and activations of crops that are arithmetic, not decoded."""
    import torch

    net = make_net(name)
    side = net.geometry.crop
    pixels = (torch.arange(2 * 3 * side * (side + 64)) * 37 % 251).reshape(2, 3, side, side + 64).to(torch.uint8)
    last = max(layer for layer in dict(net.named_children()) if layer.startswith("conv"))
    with torch.inference_mode():
        map_, inner = net.score_map(pixels), net.activations(pixels, [last, "fc7"])
        return {
            "scores": net(pixels).tolist(),
            "score map": map_.flatten(2).tolist(),
            "features": [net.features(pixels).abs().mean().item(), net.features(pixels).std().item()],
            last: [inner[last].mean().item(), inner[last].std().item()],
            "fc7": inner["fc7"].flatten()[:8].tolist(),
        }


def _saved(*arguments: object) -> dict[str, Any]:
    """What evaluate answers, and what its file of posteriors holds."""
    from safetensors import safe_open

    file = Path("saved.safetensors")
    file.unlink(missing_ok=True)
    answer = command("evaluate", *arguments, "--device", "cpu", "--save", file, "--json")
    with safe_open(file, framework="np") as opened:
        metadata = {key: masked(json.loads(text)) for key, text in opened.metadata().items()}
        tensors = {name: opened.get_tensor(name).tolist() for name in ("posteriors", "labels")}
    return {"answer": answer.record(), "metadata": metadata} | tensors
