"""Augmentation of training images: scale jitter, random crop, mirror, colour shift; where a crop lies in its image."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Float64, UInt8
from numpy import ndarray
from numpy.random import Generator

from verydeep.images.decode import LongImageError
from verydeep.images.geometry import rescaled_size, size_of, too_long
from verydeep.images.resample import resample
from verydeep.paper import constants


def principal_shifts(covariance: Float[ndarray, "3 3"]) -> Float[ndarray, "3 3"]:
    """Computes the matrix that three normal numbers are multiplied with for a shift of R, G and B, in grey levels.

    Choice: the covariance is that of pixels divided by 255 and the shift is multiplied by 255, a few grey levels a
    channel on photographs. On pixels in 0..255 the formula would shift by hundreds of levels.

    The covariance is given of RGB in 0..255.

    Paper: section 3.1, after Krizhevsky et al. (2012).
    """
    eigenvalues, eigenvectors = np.linalg.eigh(covariance / 255.0**2)
    shifts: ndarray = eigenvectors * (np.maximum(eigenvalues, 0) * constants.COLOUR_SHIFT_STD * 255)
    return shifts


@dataclass(frozen=True, kw_only=True)
class CropPlace:
    """Where a crop lies in a rescaled image, and so where each point of it lies in the original.

    Points are edges in pixels: 0 is the left edge of the first column, so that rescaling multiplies them.

    Attributes:
        size: width and height of the rescaled image, pixels.
        original: width and height of the image before, pixels.
        left: of the crop in the rescaled image, pixels.
        top: likewise.
        crop: side of the crop, pixels.
        mirrored: whether the crop is mirrored, left to right.
        colour_shift: what is added to its R, G and B, grey levels.

    Paper: section 3.1, appendix A.
    """

    size: tuple[int, int]
    original: tuple[int, int]
    left: int
    top: int
    crop: int
    mirrored: bool = False
    colour_shift: tuple[int, int, int] | None = None

    def to_crop(self, corners: Float[ndarray, "*n 4"]) -> Float64[ndarray, "*n 4"]:
        """Maps boxes (left, top, right, bottom) from the original image to the crop; they may reach beyond it."""
        moved: ndarray = corners * self._scale - self._offset
        return self._flip(moved)

    def to_image(self, corners: Float[ndarray, "*n 4"]) -> Float64[ndarray, "*n 4"]:
        """Maps boxes (left, top, right, bottom) from the crop to the original image; they may reach beyond it."""
        moved: ndarray = (self._flip(corners) + self._offset) / self._scale
        return moved

    def cut(self, pixels: UInt8[ndarray, "h w 3"]) -> UInt8[ndarray, "c c 3"]:
        """Makes the crop of the image."""
        shift = None if self.colour_shift is None else np.array(self.colour_shift, np.int32)
        window = (self.left, self.top, self.crop, self.crop)
        return resample(pixels, self.size, window, mirrored=self.mirrored, shift=shift)

    @property
    def _scale(self) -> Float64[ndarray, "4"]:
        across, down = (new / old for new, old in zip(self.size, self.original, strict=True))
        return np.array([across, down, across, down])

    @property
    def _offset(self) -> Float64[ndarray, "4"]:
        return np.array([self.left, self.top, self.left, self.top], np.float64)

    def _flip(self, corners: Float[ndarray, "*n 4"]) -> Float[ndarray, "*n 4"]:
        if not self.mirrored:
            return corners
        left, top, right, bottom = np.moveaxis(corners, -1, 0)
        return np.stack([self.crop - right, top, self.crop - left, bottom], -1)


@dataclass(frozen=True, kw_only=True)
class TrainingView:
    """Makes the training crop of an image.

    Attributes:
        crop: side of the crop, pixels.
        train_scale: smallest and largest training scale S, pixels; S is drawn uniformly from the integers between.
        mirror: mirror half of the crops.
        colour_shift: matrix of principal_shifts, or None for no shift.

    Paper: section 3.1.
    """

    crop: int
    train_scale: tuple[int, int]
    mirror: bool
    colour_shift: Float[ndarray, "3 3"] | None = None

    def __call__(self, pixels: UInt8[ndarray, "h w 3"], generator: Generator) -> UInt8[ndarray, "c c 3"]:
        """Draws a scale, a position, a mirroring and a colour shift, and makes that crop of an image of any size."""
        return self.draw(pixels, generator).cut(pixels)

    def draw(self, pixels: UInt8[ndarray, "h w 3"], generator: Generator) -> CropPlace:
        """Draws where a crop of an image lies, and its colour shift."""
        low, high = self.train_scale
        scale = low if low == high else int(generator.integers(low, high + 1))
        if reason := too_long(size_of(pixels), scale):
            raise LongImageError(f"an image of {reason}: crop it")
        width, height = rescaled_size(size_of(pixels), scale)
        left = int(generator.integers(width - self.crop + 1))
        top = int(generator.integers(height - self.crop + 1))
        mirrored = self.mirror and generator.random() < 0.5
        shift = None
        if self.colour_shift is not None:
            red, green, blue = np.rint(self.colour_shift @ generator.standard_normal(3)).astype(int).tolist()
            shift = (red, green, blue)
        return CropPlace(
            size=(width, height),
            original=size_of(pixels),
            left=left,
            top=top,
            crop=self.crop,
            mirrored=mirrored,
            colour_shift=shift,
        )


@dataclass(frozen=True, kw_only=True)
class AreaView:
    """Makes a square view of a random part of an image: of random area, ratio of sides and place, mirrored or not.

    Choice: after Szegedy et al. (2014), who draw the area from 8% on; a view is stored here and serves often, so that
    parts without the object would cost more.

    Attributes:
        side: of the view, pixels.
        mirror: mirror half of the views.
        least_area: share of the image that a view shows at least.
    """

    side: int
    mirror: bool
    least_area: float = 0.35

    def __call__(self, pixels: UInt8[ndarray, "h w 3"], generator: Generator) -> UInt8[ndarray, "s s 3"]:
        """Draws a view and makes it."""
        return self.draw(pixels, generator).cut(pixels)

    def draw(self, pixels: UInt8[ndarray, "h w 3"], generator: Generator) -> CropPlace:
        """Draws an area, a ratio of the sides between 3:4 and 4:3, a place and a mirroring."""
        width, height = size_of(pixels)
        area, ratio = generator.uniform(self.least_area, 1), np.exp(generator.uniform(-1, 1) * np.log(4 / 3))
        shown = np.sqrt(area * width * height)
        shown_width, shown_height = min(shown * np.sqrt(ratio), width), min(shown / np.sqrt(ratio), height)
        enlarged = round(width * self.side / shown_width), round(height * self.side / shown_height)
        size = max(self.side, enlarged[0]), max(self.side, enlarged[1])
        left, top = (int(generator.integers(length - self.side + 1)) for length in size)
        mirrored = self.mirror and bool(generator.random() < 0.5)
        return CropPlace(size=size, original=(width, height), left=left, top=top, crop=self.side, mirrored=mirrored)
