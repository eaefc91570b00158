"""How far our activations and perceptual losses are from other programs' on the same weights: values and gradients.

    python -m benchmarks.losses_agree [--json] [--write docs/losses.md]

The net is torchvision's VGG-16 of seed 0, the pictures are noise of 64 pixels in 0..1: a pair without a likeness, and
one that differs by noise of 0.1. A value's difference is relative to the value; a gradient's is the norm of the
difference over the norm, the larger of both pictures'.
"""

import argparse
import json
import warnings
from collections.abc import Callable, Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import piq
import torch
from torch import Tensor, nn
from torchvision.models.feature_extraction import create_feature_extractor

from benchmarks.compare import peer_losses
from verydeep.files import atomic_write
from verydeep.losses import DISTS, LPIPS, Content, Style
from verydeep.losses.perceptual import PerceptualLoss

STYLE = ("relu1_2", "relu2_2", "relu3_3", "relu4_3")
BEGIN, END = "<!-- python -m benchmarks.losses_agree --write docs/losses.md -->", "<!-- end -->"

Row = dict[str, Any]


def rows() -> Iterator[Row]:
    """Compares everything."""
    net = peer_losses.shared_net()
    yield from activations()
    normalised: dict[str, Any] = {"normalize": True}
    for name, ours, other, make, options in (
        ("LPIPS", LPIPS(net), "lpips", peer_losses.as_lpips, normalised),
        ("LPIPS", LPIPS(net), "torchmetrics", peer_losses.as_torchmetrics_lpips, normalised),
        ("LPIPS", LPIPS(net), "piq", peer_losses.as_piq_lpips, {}),
        (
            "LPIPS without linear weights",
            LPIPS(net, linear=False),
            "lpips",
            lambda: peer_losses.as_lpips(linear=False),
            normalised,
        ),
        ("content, relu3_3", Content(net), "piq", lambda: peer_losses.as_piq(piq.ContentLoss, ("relu3_3",)), {}),
        ("style, relu3_3", Style(net), "piq", lambda: peer_losses.as_piq(piq.StyleLoss, ("relu3_3",)), {}),
        (
            "style, four layers",
            Style(net, STYLE),
            "piq",
            lambda: peer_losses.as_piq(piq.StyleLoss, STYLE),
            {},
        ),
        (
            "DISTS",
            DISTS(net),
            "DISTS-pytorch",
            lambda: peer_losses.as_dists("DISTS_pytorch"),
            {"require_grad": True},
        ),
        ("DISTS", DISTS(net), "torchmetrics", lambda: peer_losses.as_dists("torchmetrics"), {"require_grad": True}),
        ("DISTS", DISTS(net), "piq", peer_losses.as_piq_dists, {}),
    ):
        yield _compared(name, ours, f"{other} {version(other)}", make(), options)


def activations() -> Iterator[Row]:
    """Compares each layer with torchvision's extractor, whose ReLUs must not work in place."""
    ours, theirs = peer_losses.shared_net(), peer_losses.torchvision_net()
    names = {"features.2": "conv1_2", "features.3": "relu1_2", "features.15": "relu3_3", "features.30": "pool5"}
    extractor = create_feature_extractor(theirs, names)
    for module in extractor.modules():
        if isinstance(module, nn.ReLU):
            module.inplace = False
    x = 255 * peer_losses.pictures()[0]
    given, other = x.clone().requires_grad_(), x.clone().requires_grad_()
    mean, divisor = (each[:, None, None] for each in (ours.mean, ours.divisor))
    found, expected = ours.activations(given, list(names.values())), extractor((other - mean) / divisor)
    for name in names.values():
        gradients = [
            torch.autograd.grad(maps[name].square().sum(), image, retain_graph=True)[0]
            for maps, image in ((found, given), (expected, other))
        ]
        yield {
            "what": f"activations, {name}",
            "peer": f"torchvision {version('torchvision').partition('+')[0]}",
            "value": _far(found[name].detach(), expected[name].detach()),
            "gradient": _far(*gradients),
        }
    for module in extractor.modules():
        if isinstance(module, nn.ReLU):
            module.inplace = True  # they are the net's own


def _compared(name: str, ours: PerceptualLoss, other: str, peer: Callable[..., Tensor], options: dict[str, Any]) -> Row:
    values, gradients = [], []
    x, y, z = peer_losses.pictures()
    for second in (y, z):
        given = [each.clone().requires_grad_() for each in (x, second, x, second)]
        mine, theirs = ours(*given[:2], data_range=1), peer(*given[2:], **options).flatten()
        (mine.sum() + theirs.sum()).backward()
        without = ours(x, second, data_range=1)
        values += [float(((each - theirs).abs() / theirs.abs()).max().detach()) for each in (mine, without)]
        for one, two in ((given[0], given[2]), (given[1], given[3])):
            assert one.grad is not None
            assert two.grad is not None
            gradients.append(_far(one.grad, two.grad))
    return {"what": name, "peer": other, "value": max(values), "gradient": max(gradients)}


def _far(found: Tensor, expected: Tensor) -> float:
    return float((found - expected).norm() / expected.norm())


def as_table(found: list[Row]) -> str:
    lines = ["| what | beside | values differ by | gradients by |", "|---|---|---|---|"]
    lines += [f"| {row['what']} | {row['peer']} | {row['value']:.1e} | {row['gradient']:.1e} |" for row in found]
    return "\n".join(lines)


def main() -> None:
    """Prints the table, or writes it into a page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--write", type=Path, help="a page with the table's marks in it")
    given = parser.parse_args()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of torchvision, about how the peers call it
        found = list(rows())
    if given.json:
        print(json.dumps({"rows": found}, indent=2, allow_nan=False))
    else:
        print(as_table(found))
    if given.write is not None:
        before, rest = given.write.read_text(encoding="utf-8").split(BEGIN)
        page = f"{before}{BEGIN}\n{as_table(found)}\n{END}{rest.split(END, 1)[1]}"
        with atomic_write(given.write) as file:
            file.write_text(page, encoding="utf-8")


if __name__ == "__main__":
    main()
