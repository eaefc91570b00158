"""Perceptual losses of other packages on one net of seed 0, with the weights that ours have, and the net as ours.

Their nets are taken out of torchvision's: as they are made by their packages they download one.
"""

import copy
from collections.abc import Callable
from functools import cache
from typing import Any

import lpips
import piq
import torch
import torchvision
from DISTS_pytorch import DISTS_pt
from torch import Tensor, nn
from torchmetrics.functional.image import dists as torchmetrics_dists
from torchmetrics.functional.image import lpips as torchmetrics_lpips

from verydeep import VeryDeep
from verydeep.losses.calibration import CHANNELS, DISTS_FILE, LAYERS, LPIPS_FILE, read_weights
from verydeep.weights.imported import assemble
from verydeep.weights.readers.torch import from_state_dict


@cache
def torchvision_net() -> nn.Module:
    state = torch.get_rng_state()
    torch.manual_seed(0)
    net = torchvision.models.vgg16(weights=None).eval()
    net.classifier = nn.Identity()  # 124 million weights that nothing here looks at
    torch.set_rng_state(state)
    frozen: nn.Module = net.requires_grad_(False)
    return frozen


@cache
def shared_net() -> VeryDeep:
    tensors = {name: tensor for name, tensor in torchvision_net().state_dict().items() if name.startswith("features")}
    return assemble(from_state_dict(tensors)).eval()


def pictures() -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    x = torch.rand(2, 3, 64, 64, generator=generator)
    y = torch.rand(2, 3, 64, 64, generator=generator)
    return x, y, (x + 0.1 * torch.randn(2, 3, 64, 64, generator=generator)).clamp(0, 1)


def as_lpips(*, linear: bool = True) -> nn.Module:
    peer: nn.Module = lpips.LPIPS(net="vgg", pnet_rand=True, lpips=linear, verbose=False)
    _put_slices(peer.get_submodule("net"))
    peer.requires_grad_(False)
    return peer


def as_torchmetrics_lpips() -> nn.Module:
    peer = torchmetrics_lpips._LPIPS(net="vgg", pnet_rand=True)
    _put_slices(peer.get_submodule("net"))
    peer.requires_grad_(False)
    return peer


def _features() -> nn.Sequential:
    features = torchvision_net().features
    assert isinstance(features, nn.Sequential)
    return features


def _put_slices(net: nn.Module) -> None:
    features = _features()
    for number, (first, last) in enumerate(((0, 4), (4, 9), (9, 16), (16, 23), (23, 30)), start=1):
        setattr(net, f"slice{number}", features[first:last])


def as_piq_lpips() -> nn.Module:
    weights = [weight.view(1, -1, 1, 1) for weight in map(read_weights(LPIPS_FILE).__getitem__, LAYERS)]
    layers = [piq.perceptual.VGG16_LAYERS[name] for name in LAYERS]
    peer: nn.Module = piq.ContentLoss(
        _features(), layers=layers, weights=weights, normalize_features=True, reduction="none"
    )
    return peer


def as_piq(kind: type[piq.ContentLoss], layers: tuple[str, ...], **options: bool) -> nn.Module:
    names = [piq.perceptual.VGG16_LAYERS[name] for name in layers]
    features = copy.deepcopy(_features())  # whose poolings it replaces in place
    peer: nn.Module = kind(features, layers=names, weights=[1.0] * len(names), reduction="none", **options)
    return peer


def as_dists(kind: str) -> nn.Module:
    """DISTS of its authors, or torchmetrics', with our weights: theirs is found where pip puts it, or not."""
    peer = (
        _made_by(DISTS_pt.models, DISTS_pt.DISTS)
        if kind == "DISTS_pytorch"
        else _made_by(torchmetrics_dists, torchmetrics_dists.DISTSNetwork)
    )
    ours = read_weights(DISTS_FILE)
    for name in ("alpha", "beta"):
        parts = [ours[f"{name}.{layer}"] for layer in ("image", *LAYERS)]
        setattr(peer, name, nn.Parameter(torch.cat(parts).view(1, sum(CHANNELS) + 3, 1, 1)))
    peer.requires_grad_(False)
    return peer


def as_piq_dists() -> nn.Module:
    """DISTS of piq, whose weights are divided by their sum as ours are; it rescales pictures above 256 pixels."""
    ours = read_weights(DISTS_FILE)
    names = ("image", *LAYERS)
    weights = {key: torch.cat([ours[f"{key}.{name}"] for name in names]).view(1, -1, 1, 1) for key in ("alpha", "beta")}
    load, made = torch.hub.load_state_dict_from_url, piq.perceptual.vgg16
    torch.hub.load_state_dict_from_url = lambda *_, **__: weights
    piq.perceptual.vgg16 = lambda *_, **__: copy.deepcopy(torchvision_net())
    try:
        peer: nn.Module = piq.DISTS(reduction="none")
    finally:
        torch.hub.load_state_dict_from_url, piq.perceptual.vgg16 = load, made
    return peer.requires_grad_(False)


def _made_by(home: Any, make: Callable[..., nn.Module]) -> nn.Module:  # noqa: ANN401 - a module
    """Lets a peer find our net where it would download its own."""
    before = home.vgg16
    home.vgg16 = lambda *_, **__: torchvision_net()
    try:
        return make(load_weights=False)
    finally:
        home.vgg16 = before
