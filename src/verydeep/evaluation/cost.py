"""What testing costs: forward passes, multiplications and time, for one image on average."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from verydeep.data.image_set import ImageSet
from verydeep.evaluation.protocols import Method, Protocol
from verydeep.evaluation.tiling import map_macs
from verydeep.nets.architecture import head_macs, score_positions
from verydeep.nets.net import VeryDeep
from verydeep.paper.constants import TOTAL_STRIDE

_NUM_LOOKED_AT = 16
"""Images whose sizes stand for all before a test begins."""


@dataclass(frozen=True, kw_only=True)
class Cost:
    """What a test costs.

    Attributes:
        forward_passes: parts of an image that the net is applied to, mirrored ones too.
        macs: multiplications with an addition for an image, mean over the images.
        seconds_per_image: time for an image, mean over the images; None before it was measured.
    """

    forward_passes: int
    macs: int
    seconds_per_image: float | None = None

    def as_record(self) -> dict[str, int | float | None]:
        """The figures, for JSON."""
        return {
            "forward_passes": self.forward_passes,
            "macs": self.macs,
            "seconds_per_image": self.seconds_per_image,
        }


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What a test will cost.

    Attributes:
        cost: for one image.
        num_images: images to test on.
        num_looked_at: images whose sizes were looked at.
        is_one_place: whether the score map of every one of those is a single place.
    """

    cost: Cost
    num_images: int
    num_looked_at: int
    is_one_place: bool

    def lines(self, protocol: Protocol, scales: Sequence[int], crop: int) -> list[str]:
        """Says it in words.

        Args:
            protocol: how it will be tested.
            scales: test scales Q, pixels.
            crop: of the net, pixels.
        """
        passes, total = self.cost.forward_passes, self.cost.macs * self.num_images
        shown = ",".join(map(str, scales))
        looked = "" if self.num_looked_at == self.num_images else f", by the sizes of {self.num_looked_at} of them"
        lines = [
            f"{protocol.name} at Q = {shown}: {passes} forward pass{'es' if passes > 1 else ''} and "
            f"{shown_macs(self.cost.macs)} an image, {shown_macs(total)} for {self.num_images:,} images{looked}"
        ]
        if self.is_one_place:
            lines.append(
                f"note: every score map has a single place at these sizes, so that dense testing sees no more than the "
                f"centre of an image: give --test-scales of {crop + TOTAL_STRIDE} or more"
            )
        return lines


def shown_macs(macs: int) -> str:
    """Writes a number of multiplications as a person would: in units of 10^6, 10^9 or 10^12."""
    power = next((power for power in (12, 9) if macs >= 10**power), 6)
    return f"{macs / 10**power:,.2f} x 10^{power} MACs"


def macs_of_part(net: VeryDeep, method: Method, height: int, width: int) -> int:
    """Counts the multiplications of one part of an image.

    Args:
        net: the net.
        method: how the part is tested.
        height: of the part, pixels.
        width: of the part, pixels.
    """
    places = math.prod(score_positions(net.geometry, height, width, ceil=method.ceil)) if method.is_dense else 1
    return map_macs(net.geometry, height, width, ceil=method.ceil) + places * head_macs(net.geometry)


def plan_cost(net: VeryDeep, images: ImageSet, protocol: Protocol, scales: Sequence[int]) -> Plan:
    """Counts what a test will cost from the sizes of a few images, or of all where there are few.

    Args:
        net: the net.
        images: to be tested on.
        protocol: how.
        scales: test scales Q, pixels.
    """
    looked_at = sorted(set(np.linspace(0, len(images) - 1, min(_NUM_LOOKED_AT, len(images))).astype(int).tolist()))
    mirrored = protocol.mirrored and net.mirror
    macs, max_positions = 0, 0
    for index in looked_at:
        image = images.pixels(index)
        for method in protocol.methods:
            for scale in scales:
                shapes = [part.shape[:2] for part in method.view(image, scale, net.geometry.crop)]
                macs += (1 + mirrored) * len(shapes) * macs_of_part(net, method, *shapes[0])
                if method.is_dense:
                    max_positions = max(max_positions, *score_positions(net.geometry, *shapes[0], ceil=method.ceil))
    return Plan(
        cost=Cost(forward_passes=protocol.forward_passes(net, scales), macs=macs // len(looked_at)),
        num_images=len(images),
        num_looked_at=len(looked_at),
        is_one_place=max_positions == 1,
    )
