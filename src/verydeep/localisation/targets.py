"""Which box a crop is trained on, and the central crops that a localiser is validated on.

Paper: appendix A.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float32, Float64, UInt8
from numpy import ndarray
from torch import Tensor

from verydeep.data.boxes.boxed import BoxedImages
from verydeep.images.augment import CropPlace
from verydeep.images.geometry import centred, rescaled_size, size_of
from verydeep.localisation.boxes import decode, encode, iou
from verydeep.localisation.objective import ENOUGH, codes_of
from verydeep.nets.boxes_card import Regression

_SHARE_DIGITS = 6
"""Of the visible share, so that rounding does not choose between two boxes that are seen whole."""


@dataclass(frozen=True)
class BoxTargets:
    """Targets of the crops of images: the class, and the code of the box that is seen best.

    Choice: of several objects of its class that an image shows, the one with the largest visible share in the crop, and
    of those that are seen alike the largest.
    """

    boxed: BoxedImages

    def __call__(self, index: int, place: CropPlace) -> tuple[Float32[ndarray, "5"], float]:
        corners = self.boxed.boxes[index]
        shares = visible_shares(corners, place).round(_SHARE_DIGITS)
        areas = (corners[:, 2:] - corners[:, :2]).prod(1)
        best = max(range(len(corners)), key=lambda number: (float(shares[number]), float(areas[number])))
        code = encode(corners[[best]], place)[0]
        label = self.boxed.images.labels[index]
        return np.concatenate([[label], code]).astype(np.float32), float(shares[best])


def visible_shares(corners: Float64[ndarray, "m 4"], place: CropPlace) -> Float64[ndarray, "m"]:
    """The share of each box that a crop shows."""
    inside = place.to_crop(corners)
    clipped = inside.clip(0, place.crop)
    found: ndarray = (clipped[:, 2:] - clipped[:, :2]).prod(1) / (inside[:, 2:] - inside[:, :2]).prod(1)
    return found


def covered_shares(corners: Float64[ndarray, "m 4"], place: CropPlace, side: int) -> Float32[ndarray, "s s"]:
    """The share of each position of a map of a crop that the box covers that covers most of it."""
    edges = np.arange(side + 1) / side
    left, top, right, bottom = place.to_crop(corners).T[:, :, None] / place.crop
    across = side * (np.minimum(right, edges[1:]) - np.maximum(left, edges[:-1])).clip(0)
    down = side * (np.minimum(bottom, edges[1:]) - np.maximum(top, edges[:-1])).clip(0)
    found: ndarray = (down[:, :, None] * across[:, None, :]).max(0).astype(np.float32)
    return found


def central_place(pixels: UInt8[ndarray, "h w 3"], scale: int, crop: int) -> CropPlace:
    """The place of the central crop at a scale."""
    size = rescaled_size(size_of(pixels), scale)
    left, top, _, _ = centred(size, crop, crop)
    return CropPlace(size=size, original=size_of(pixels), left=left, top=top, crop=crop, mirrored=False)


def central_targets(boxed: BoxedImages, places: Sequence[CropPlace]) -> Float32[Tensor, "n 5"]:
    """The targets of the central crops of all images."""
    targets = BoxTargets(boxed)
    return torch.from_numpy(np.stack([targets(index, place)[0] for index, place in enumerate(places)]))


def errors_on_centres(
    outputs: Float32[Tensor, "n b"], regression: Regression, boxed: BoxedImages, places: Sequence[CropPlace]
) -> dict[str, Any]:
    """The error given the true class, from the outputs for central crops, as the log and the model card have it.

    A box is right that overlaps any object of the class by more than half.
    """
    codes = codes_of(outputs.float().cpu(), torch.from_numpy(boxed.images.labels), regression).double().numpy()
    wrong = [
        float(iou(decode(codes[[index]], place), boxed.boxes[index]).max()) <= ENOUGH
        for index, place in enumerate(places)
    ]
    return {
        "split": boxed.images.split,
        "protocol": "centre",
        "num_images": len(places),
        "localisation_error": float(np.mean(wrong)),
    }
