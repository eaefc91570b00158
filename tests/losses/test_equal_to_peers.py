"""Values and gradients are those of lpips, torchmetrics, piq and DISTS_pytorch on the same weights, within rounding."""

import warnings

import piq
import pytest
import torch

from benchmarks.compare import peer_losses
from small_nets import assert_gradients_agree
from verydeep.losses import DISTS, LPIPS, Content, Style

STYLE = ("relu1_2", "relu2_2", "relu3_3", "relu4_3")
CASES = {
    "LPIPS, lpips": (LPIPS, {}, lambda: peer_losses.as_lpips(), {"normalize": True}),
    "LPIPS, torchmetrics": (LPIPS, {}, lambda: peer_losses.as_torchmetrics_lpips(), {"normalize": True}),
    "LPIPS, piq": (LPIPS, {}, lambda: peer_losses.as_piq_lpips(), {}),
    "LPIPS without weights, lpips": (
        LPIPS,
        {"linear": False},
        lambda: peer_losses.as_lpips(linear=False),
        {"normalize": True},
    ),
    "content, piq": (Content, {}, lambda: peer_losses.as_piq(piq.ContentLoss, ("relu3_3",)), {}),
    "content of pool4, averages, piq": (
        Content,
        {"layers": ("relu2_1", "pool4"), "pooling": "average"},
        lambda: peer_losses.as_piq(piq.ContentLoss, ("relu2_1", "pool4"), replace_pooling=True),
        {},
    ),
    "style, piq": (Style, {}, lambda: peer_losses.as_piq(piq.StyleLoss, ("relu3_3",)), {}),
    "style of four layers, piq": (
        Style,
        {"layers": STYLE},
        lambda: peer_losses.as_piq(piq.StyleLoss, STYLE),
        {},
    ),
    "DISTS, DISTS_pytorch": (DISTS, {}, lambda: peer_losses.as_dists("DISTS_pytorch"), {"require_grad": True}),
    "DISTS, torchmetrics": (DISTS, {}, lambda: peer_losses.as_dists("torchmetrics"), {"require_grad": True}),
}


@pytest.mark.parametrize("case", CASES)
def test_values_and_gradients(case):
    kind, options, make, how = CASES[case]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of torchvision, about how they call it
        peer = make()
    ours = kind(peer_losses.shared_net(), **options)
    x, y, z = peer_losses.pictures()
    for other in (y, z):
        given = [pictures.clone().requires_grad_() for pictures in (x, other, x, other)]
        expected = peer(*given[:2], **how).flatten()
        value = ours(*given[2:], data_range=1)
        expected.sum().backward()
        value.sum().backward()
        torch.testing.assert_close(value, expected, rtol=2e-5, atol=2e-7)
        for theirs, mine in zip(given[:2], given[2:], strict=True):
            assert_gradients_agree(mine.grad, theirs.grad)
        without = ours(x, other, data_range=1)
        torch.testing.assert_close(without, expected.detach(), rtol=3e-5, atol=2e-7)


@pytest.mark.parametrize(
    ("loss", "other", "expected"),
    [
        (LPIPS, "y", (0.12065975, 0.12086700)),
        (LPIPS, "z", (0.01462156, 0.01432183)),
        (Content, "y", (1.80105424, 1.79089165)),
        (Content, "z", (0.47499651, 0.45794387)),
        (Style, "y", (0.43441314, 0.25252295)),
        (Style, "z", (0.92229843, 1.07570744)),
        (DISTS, "y", (0.06581831, 0.06626093)),
        (DISTS, "z", (0.00400007, 0.00397974)),
    ],
)
def test_measured_once_and_kept(loss, other, expected):
    assert float(peer_losses.torchvision_net().features[0].weight.sum()) == pytest.approx(-2.01839202, abs=1e-5)
    x, y, z = peer_losses.pictures()
    value = loss(peer_losses.shared_net())(x, y if other == "y" else z, data_range=1)
    torch.testing.assert_close(value, torch.tensor(expected), rtol=1e-5, atol=2e-7)
