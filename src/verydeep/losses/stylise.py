"""A picture in the style of another: near one in its content, and near the other in its Gram matrices.

Gatys, Ecker, Bethge: Image Style Transfer Using Convolutional Neural Networks, CVPR 2016, with net D for their E.
"""

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import torch
from jaxtyping import UInt8
from numpy import ndarray
from torch import Tensor, nn

from verydeep.losses.formulas import gram
from verydeep.losses.options import MODEL
from verydeep.losses.perceptual import PerceptualLoss
from verydeep.losses.pictures import Reference
from verydeep.nets.net import VeryDeep
from verydeep.progress import Progress, ignore_progress

STYLE_LAYERS: Final = ("relu1_1", "relu2_1", "relu3_1", "relu4_1", "relu5_1")
CONTENT_LAYER: Final = "relu4_2"


@dataclass(frozen=True, kw_only=True)
class Stylised:
    """A stylised picture.

    Attributes:
        pixels: RGB.
        first_loss: of the content picture.
        last_loss: of the result.
        seconds: that the steps took.
        description: of the loss.
    """

    pixels: UInt8[ndarray, "h w 3"]
    first_loss: float
    last_loss: float
    seconds: float
    description: str


class ContentAndStyle(PerceptualLoss):
    """The loss of Gatys et al., both parts in one pass over the net, with average pooling."""

    formula = "content and style"

    def __init__(self, net: VeryDeep | str | Path, style_weight: float) -> None:
        super().__init__(net, (*STYLE_LAYERS, CONTENT_LAYER), pool=nn.AvgPool2d(2))
        self.style_weight = style_weight

    def keep(self, name: str, map_: Tensor) -> Tensor:
        """Returns the map of the content's layer, and of others the Gram matrix for pictures of different sizes."""
        return map_ if name == CONTENT_LAYER else gram(map_) / map_[0, 0].numel()

    def compare(self, name: str, a: Tensor, b: Tensor) -> Tensor:
        """Compares what is kept of a layer: mean squares, those of the style divided by the squared channels."""
        squares = (a - b).square().flatten(1).mean(1)
        return squares if name == CONTENT_LAYER else squares * (self.style_weight / a.shape[1] ** 2)

    def target(self, content: Tensor, style: Tensor) -> Reference:
        """Puts together what is kept of the two pictures, in 0..255."""
        of_content, of_style = (self.reference(each, data_range=255) for each in (content, style))
        kept = {**of_style.kept, CONTENT_LAYER: of_content.kept[CONTENT_LAYER]}
        return Reference(of_content.size, kept, self.description)


def stylise(
    content: UInt8[ndarray, "h w 3"],
    style: UInt8[ndarray, "y x 3"],
    net: VeryDeep | str | Path = MODEL,
    *,
    steps: int = 100,
    style_weight: float = 1.0,
    progress: Progress = ignore_progress,
) -> Stylised:
    """Paints a picture in the style of another, by L-BFGS from the picture itself.

    Args:
        content: RGB; the result has its size.
        style: RGB, of any size.
        net: a ``VeryDeep`` or MODEL with relu4_2 and relu5_1.
        steps: of the optimiser.
        style_weight: of the style beside the content.
        progress: called after each step.

    Raises:
        UserError: there is no such model.
        UsageError: it has not these layers.
    """
    start = time.perf_counter()
    loss = ContentAndStyle(net, style_weight)
    given, other = (
        torch.from_numpy(each.copy()).permute(2, 0, 1)[None].float().contiguous() for each in (content, style)
    )
    target = loss.target(given, other)
    picture = given.clone().requires_grad_()
    optimiser = torch.optim.LBFGS([picture], max_iter=1, history_size=20)
    losses: list[float] = []

    def closure() -> Tensor:
        optimiser.zero_grad()
        value = loss.distance(picture, target, 255).sum()
        value.backward()
        losses.append(float(value.detach()))
        return value

    for step in range(steps):
        optimiser.step(closure)
        with torch.no_grad():
            picture.clamp_(0, 255)
        progress("stylising", step + 1, steps)
    with torch.no_grad():
        last = float(loss.distance(picture, target, 255))
    pixels: ndarray = picture.detach()[0].permute(1, 2, 0).round().to(torch.uint8).numpy()
    return Stylised(
        pixels=pixels,
        first_loss=losses[0],
        last_loss=last,
        seconds=time.perf_counter() - start,
        description=loss.description,
    )
