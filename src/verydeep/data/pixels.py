"""Mean and covariance of the pixels of a training set."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from verydeep.data.image_set import ImageSet
from verydeep.data.sources import read_ahead

MOST_IMAGES = 10_000
"""Images measured at most; more move the mean by less than a hundredth of a grey level."""


@dataclass(frozen=True)
class PixelStatistics:
    """Mean and covariance of the RGB values, in 0..255, each image counted alike."""

    mean: Float[ndarray, "3"]
    covariance: Float[ndarray, "3 3"]

    @property
    def deviation(self) -> Float[ndarray, "3"]:
        """Standard deviation of each channel, at least one grey level."""
        return np.maximum(np.sqrt(np.diag(self.covariance)), 1.0)

    def as_record(self) -> dict[str, list[float] | list[list[float]]]:
        return {
            "mean": self.mean.tolist(),
            "covariance": self.covariance.tolist(),
            "deviation": self.deviation.tolist(),
        }


def measure_pixels(images: ImageSet) -> PixelStatistics:
    """Measures the pixels of a training set, or of 10,000 images spread evenly over a larger one.

    Paper: section 2.1 (the mean), section 3.1 (the principal components).
    """
    step = -(-len(images) // MOST_IMAGES)
    chosen = range(0, len(images), step)
    total, squares = np.zeros(3), np.zeros((3, 3))
    for image in read_ahead(images.pixels, chosen, images.parallel_reads):
        pixels = image.astype(np.float32).reshape(-1, 3)
        total += pixels.mean(axis=0, dtype=np.float64)
        squares += pixels.T @ pixels / len(pixels)
    mean = total / len(chosen)
    return PixelStatistics(mean, squares / len(chosen) - np.outer(mean, mean))
