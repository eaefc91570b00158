"""Perceptual losses beside those of lpips, torchmetrics and piq, and relu3_3 beside extractors, on one net of seed 0.

Forward without gradients, and forward with the gradient of the first picture, in float32.
"""

import copy
from collections.abc import Callable, Mapping, Sequence
from functools import partial

import torch
from torch import Tensor, nn

from benchmarks.compare.contender import Call, Case, Contender, Options, Row
from benchmarks.compare.inference import version_of
from verydeep.nets.activations import check_reaches
from verydeep.nets.net import VeryDeep

_ROUNDS = 5
_BATCH, _SIZES = 4, (256, 512)
_LAYER = "relu3_3"

Distance = Callable[[Tensor, Tensor], Tensor]


class Perceptual:
    """LPIPS, content and style of pairs of pictures, and the features of pictures.

    Args:
        options: of the measurement.

    Raises:
        UsageError: another precision.
    """

    precisions: tuple[str, ...] = ("fp32",)

    def __init__(self, options: Options) -> None:
        options.require_fp32("perceptual losses are")
        self.options = options

    @property
    def notes(self) -> tuple[str, ...]:
        """What was compared."""
        return (
            "VGG-16 of random weights of seed 0, the same in all; pictures of noise in 0..1; forward under no_grad; "
            "gradients are of the first picture, the second needs none",
        )

    def cases(self) -> Sequence[Case]:
        """Each loss and the extractors, by size and batch."""
        return [
            case
            for size in ((self.options.crop,) if self.options.crop else _SIZES)
            for batch in self.options.batches or (_BATCH,)
            for case in (
                *(self._loss(kind, size, batch, gradient) for kind in _LOSSES for gradient in (False, True)),
                self._extractors(size, batch),
            )
        ]

    def extra(self, rows: Sequence[Row]) -> Mapping[str, float]:
        """Our peak of memory over the least of the peers'; the largest of all cases."""
        ratios = []
        for case in dict.fromkeys(row.case for row in rows):
            of_case = [row for row in rows if row.case == case and row.compared and row.peak_memory_bytes]
            ours = [row.peak_memory_bytes or 0 for row in of_case if row.is_ours]
            peers = [row.peak_memory_bytes or 0 for row in of_case if not row.is_ours]
            if ours and peers:
                ratios.append(max(ours) / min(peers))
        return {"memory_over_leanest_peer": max(ratios)} if ratios else {}

    def _loss(self, kind: str, size: int, batch: int, gradient: bool) -> Case:
        work = _with_gradient if gradient else _without
        x, y = _pictures(size, batch, 2)
        peers = [
            Contender(name=f"{name} {version_of(package)}", make=partial(work, make, x, y), package=package)
            for name, package, make in _LOSSES[kind]
        ]
        ours = [
            Contender(
                name=f"verydeep {version_of('verydeep')}{', reference kept' if kept else ''}",
                make=partial(work, partial(_ours, kind, y if kept else None), x, y),
                is_ours=True,
                compared=not kept,
            )
            for kept in (False, True)
        ]
        what = "forward and gradient" if gradient else "forward"
        return Case(
            name=f"{kind}, {what}, {size} px, batch {batch}",
            contenders=(*ours, *peers),
            images=batch,
            rounds=_ROUNDS,
        )

    def _extractors(self, size: int, batch: int) -> Case:
        (x,) = _pictures(size, batch, 1)
        peers = [
            Contender(name=f"{name} {version_of(package)}", make=partial(_extractor, make, x), package=package)
            for name, package, make in (
                ("torchvision's extractor", "torchvision", partial(_torchvision, last=False)),
                ("torchvision's extractor, channels last,", "torchvision", partial(_torchvision, last=True)),
                ("timm's features_only", "timm", _timm),
            )
        ]
        ours = Contender(name=f"verydeep {version_of('verydeep')}", make=partial(_our_features, x), is_ours=True)
        return Case(name=f"{_LAYER}, {size} px, batch {batch}", contenders=(ours, *peers), images=batch, rounds=_ROUNDS)


def _pictures(size: int, batch: int, count: int) -> tuple[Tensor, ...]:
    if size < 32:
        check_reaches((size, size), _our_net().geometry, [_LAYER])
    generator = torch.Generator().manual_seed(1)
    return torch.rand(count, batch, 3, size, size, generator=generator).unbind()


def _without(make: Callable[[], Distance], x: Tensor, y: Tensor) -> Call:
    distance = make()

    def call() -> Tensor:
        with torch.no_grad():
            return distance(x, y)

    return call


def _with_gradient(make: Callable[[], Distance], x: Tensor, y: Tensor) -> Call:
    distance = make()

    def call() -> Tensor:
        moving = x.clone().requires_grad_()
        distance(moving, y).sum().backward()
        assert moving.grad is not None
        return moving.grad

    return call


def _our_net() -> VeryDeep:
    from benchmarks.compare import peer_losses

    net = peer_losses.shared_net()
    peer_losses.torchvision_net.cache_clear()
    return net


def _ours(kind: str, kept: Tensor | None) -> Distance:
    from verydeep import losses

    makers = {"LPIPS": losses.LPIPS, "content": losses.Content, "style": losses.Style}
    loss = makers[kind](_our_net())
    if kept is None:
        return lambda x, y: loss(x, y, data_range=1)
    reference = loss.reference(kept, data_range=1)
    return lambda x, _: loss(x, reference, data_range=1)


def _lpips(*, last: bool) -> Distance:
    from benchmarks.compare import peer_losses

    peer = _laid_out(peer_losses.as_lpips(), last=last)
    return lambda x, y: peer(x, y, normalize=True).flatten()


def _torchmetrics() -> Distance:
    from benchmarks.compare import peer_losses

    peer = peer_losses.as_torchmetrics_lpips()
    return lambda x, y: peer(x, y, normalize=True).flatten()


def _piq(kind: str, *, last: bool = False) -> Distance:
    import piq

    from benchmarks.compare import peer_losses

    if kind == "LPIPS":
        peer = peer_losses.as_piq_lpips()
    else:
        peer = peer_losses.as_piq(piq.ContentLoss if kind == "content" else piq.StyleLoss, (_LAYER,))
    found: Distance = _laid_out(peer, last=last)
    return found


def _laid_out(module: nn.Module, *, last: bool) -> nn.Module:
    """Copies a module into a memory layout: others share its weights."""
    layout = torch.channels_last if last else torch.contiguous_format
    return copy.deepcopy(module).to(memory_format=layout)


_LOSSES: Mapping[str, Sequence[tuple[str, str, Callable[[], Distance]]]] = {
    "LPIPS": (
        ("lpips", "lpips", partial(_lpips, last=False)),
        ("lpips, channels last,", "lpips", partial(_lpips, last=True)),
        ("torchmetrics", "torchmetrics", _torchmetrics),
        ("piq", "piq", partial(_piq, "LPIPS")),
    ),
    "content": (
        ("piq", "piq", partial(_piq, "content")),
        ("piq, channels last,", "piq", partial(_piq, "content", last=True)),
    ),
    "style": (("piq", "piq", partial(_piq, "style")),),  # it flattens maps as they lie: not channels last
}
"""Of the peers: name, package, and what makes the distance."""


def _our_features(x: Tensor) -> Call:
    from verydeep.speed.accelerate import accelerate

    fast, pixels = accelerate(_our_net()), 255 * x
    return lambda: fast.activations(pixels, [_LAYER])[_LAYER]


def _extractor(make: Callable[[], Callable[[Tensor], Tensor]], x: Tensor) -> Call:
    from verydeep.nets.reuse import TORCHVISION_MEAN, TORCHVISION_STD

    extract = make()
    mean, deviation = (torch.tensor(each)[:, None, None] for each in (TORCHVISION_MEAN, TORCHVISION_STD))

    def call() -> Tensor:
        with torch.no_grad():
            return extract((x - mean) / deviation)

    return call


def _torchvision(*, last: bool) -> Callable[[Tensor], Tensor]:
    from torchvision.models.feature_extraction import create_feature_extractor

    from benchmarks.compare import peer_losses

    extractor = _laid_out(create_feature_extractor(peer_losses.torchvision_net(), {"features.15": _LAYER}), last=last)

    def extract(x: Tensor) -> Tensor:
        layout = torch.channels_last if last else torch.contiguous_format
        found: Tensor = extractor(x.contiguous(memory_format=layout))[_LAYER]
        return found

    return extract


def _timm() -> Callable[[Tensor], Tensor]:
    import timm

    from benchmarks.compare import peer_losses

    net = timm.create_model("vgg16", features_only=True, out_indices=(2,)).eval()
    theirs = peer_losses.torchvision_net().get_submodule("features").state_dict()
    net.load_state_dict({name: theirs[name.removeprefix("features_")] for name in net.state_dict()})

    def extract(x: Tensor) -> Tensor:
        found: Tensor = net(x)[-1]
        return found

    return extract
