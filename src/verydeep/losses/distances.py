"""Content, style, LPIPS and DISTS as modules.

Gatys, Ecker, Bethge, 2016 (content and style); Zhang et al., 2018 (LPIPS); Ding et al., 2020 (DISTS).
"""

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from verydeep.errors import UsageError
from verydeep.losses.calibration import CHANNELS, DISTS_FILE, LAYERS, LPIPS_FILE, read_weights
from verydeep.losses.features import IMAGE
from verydeep.losses.formulas import (
    RootPool,
    gram,
    mean_squared_difference,
    squared_difference,
    structure_and_texture,
    unit_difference,
    unit_difference_by_parts,
)
from verydeep.losses.options import MODEL
from verydeep.losses.perceptual import PerceptualLoss
from verydeep.nets.activations import check_pooling
from verydeep.nets.architecture import Geometry, layers
from verydeep.nets.net import VeryDeep

Net = VeryDeep | str | Path


class _Weighted(PerceptualLoss):
    """A weighted sum over layers."""

    def __init__(
        self,
        net: Net,
        layers: Sequence[str],
        weights: Sequence[float] | None,
        pooling: str,
        precision: str,
    ) -> None:
        check_pooling(pooling)
        super().__init__(net, layers, pool=nn.AvgPool2d(2) if pooling == "average" else None, precision=precision)
        if weights is not None and len(weights) != len(layers):
            raise UsageError(f"{len(weights)} weights for {len(layers)} layers: give one for each")
        self.weights = dict(zip(layers, [1.0] * len(layers) if weights is None else weights, strict=True))


class Content(_Weighted):
    """The distance of the features themselves: their squared difference, mean over positions, sum over channels.

    Args:
        net: a ``VeryDeep``, or a MODEL: a model file, run folder or published name.
        layers: compared; their distances are added.
        weights: of the layers, 1 where none are given.
        pooling: ``average`` puts the average in the place of the largest, as Gatys et al. did.
        precision: of the net: fp32 or bf16.

    Raises:
        UserError: there is no such model.
        UsageError: no such layer, pooling or precision.
    """

    formula = "content (squared difference, mean over positions, sum over channels)"

    def __init__(
        self,
        net: Net = MODEL,
        layers: Sequence[str] = ("relu3_3",),
        *,
        weights: Sequence[float] | None = None,
        pooling: str = "max",
        precision: str = "fp32",
    ) -> None:
        super().__init__(net, layers, weights, pooling, precision)

    def compare(self, name: str, a: Tensor, b: Tensor) -> Tensor:
        """Compares the maps of a layer."""
        return self.weights[name] * squared_difference(a, b)


class Style(_Weighted):
    """The distance of Gram matrices: of the sums over positions of products of channels, which know no place.

    The Gram matrix is not divided by the number of positions; the distance is the mean over pairs of channels.

    Args:
        net: a ``VeryDeep``, or a MODEL: a model file, run folder or published name.
        layers: compared; their distances are added.
        weights: of the layers, 1 where none are given.
        pooling: ``average`` puts the average in the place of the largest, as Gatys et al. did.
        precision: of the net: fp32 or bf16.

    Raises:
        UserError: there is no such model.
        UsageError: no such layer, pooling or precision.
    """

    formula = "style (Gram matrices not divided, mean over pairs of channels)"

    def __init__(
        self,
        net: Net = MODEL,
        layers: Sequence[str] = ("relu3_3",),
        *,
        weights: Sequence[float] | None = None,
        pooling: str = "max",
        precision: str = "fp32",
    ) -> None:
        super().__init__(net, layers, weights, pooling, precision)

    def keep(self, name: str, map_: Tensor) -> Tensor:
        """Returns the Gram matrix."""
        return gram(map_)

    def compare(self, name: str, a: Tensor, b: Tensor) -> Tensor:
        """Compares Gram matrices."""
        return self.weights[name] * mean_squared_difference(a, b)


class LPIPS(PerceptualLoss):
    """Learned Perceptual Image Patch Similarity, version 0.1, for net D: 0 for equal pictures.

    Args:
        net: a ``VeryDeep``, or a MODEL: a model file, run folder or published name.
        linear: weigh the channels by what people judged; False adds them as they are, for any net.
        precision: of the net: fp32 or bf16.

    Raises:
        UserError: there is no such model, or its weights are not for this net.
        UsageError: no such precision.
    """

    def __init__(self, net: Net = MODEL, *, linear: bool = True, precision: str = "fp32") -> None:
        self.formula = "LPIPS v0.1" if linear else "LPIPS without linear weights"
        super().__init__(net, LAYERS, precision=precision)
        if linear:
            _check_channels(self.geometry, "LPIPS", "linear=False compares any net's layers of these names")
        for name in LAYERS:
            ones = torch.ones(_channels(self.geometry, name))
            self.register_buffer(f"linear_{name}", read_weights(LPIPS_FILE)[name] if linear else ones, persistent=False)

    def compare(self, name: str, a: Tensor, b: Tensor) -> Tensor:
        """Compares the maps of a layer."""
        return unit_difference(a, b, self.get_buffer(f"linear_{name}"))

    def compare_once(self, name: str, a: Tensor, b: Tensor) -> Tensor:
        """The same, differentiable once."""
        return unit_difference_by_parts(a, b, self.get_buffer(f"linear_{name}"))


class DISTS(PerceptualLoss):
    """Deep Image Structure and Texture Similarity, for net D: 0 for equal pictures.

    Pictures are compared as large as they are; its authors rescale the shorter side to 256 before.

    Args:
        net: a ``VeryDeep``, or a MODEL: a model file, run folder or published name.
        precision: of the net: fp32 or bf16.

    Raises:
        UserError: there is no such model, or the weights of DISTS are not for this net.
        UsageError: no such precision.
    """

    formula = "DISTS"

    def __init__(self, net: Net = MODEL, *, precision: str = "fp32") -> None:
        super().__init__(net, (IMAGE, *LAYERS), pool=RootPool(), precision=precision)
        _check_channels(self.geometry, "DISTS", "give vgg16-features or another D")
        for name, weight in read_weights(DISTS_FILE).items():
            self.register_buffer(name.replace(".", "_"), weight, persistent=False)

    def compare(self, name: str, a: Tensor, b: Tensor) -> Tensor:
        """Computes the likeness of the maps of a layer."""
        return structure_and_texture(a, b, self.get_buffer(f"alpha_{name}"), self.get_buffer(f"beta_{name}"))

    def total(self, compared: Tensor) -> Tensor:
        """Makes a distance of a likeness."""
        return 1 - compared


def _check_channels(geometry: Geometry, what: str, remedy: str) -> None:
    if geometry.architecture.name != "D" or tuple(_channels(geometry, name) for name in LAYERS) != CHANNELS:
        raise UsageError(f"the weights of {what} are for D (VGG-16), not for {geometry.title}: {remedy}")


def _channels(geometry: Geometry, name: str) -> int:
    return next(layer.channels for layer in layers(geometry) if layer.name == name)
