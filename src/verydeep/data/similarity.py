"""How alike two pictures look, whatever was done to one of them: re-encoding, light, a mirror, a slight crop."""

from pathlib import Path

import numpy as np
from jaxtyping import Float, Float32
from numpy import ndarray
from PIL import Image, ImageFilter, ImageOps
from scipy.fft import irfft2, rfft2

from verydeep.data.images import open_image, to_rgb

ZOOMS = (1.0, 0.95, 0.9)
"""Central parts of a picture that are compared with the whole of the other, as fractions of its sides."""

_BLUR = 2.0
_MARGIN = 8  # an eighth of the side at each edge: the room for a shift


def small_grey(image: Image.Image) -> Image.Image:
    """Makes an open file an upright grey picture, decoded no larger than a thumbnail needs where the format allows it.

    Choice: JPEG is decoded at the smallest eighth of its size that leaves 96 pixels a side.
    """
    image.draft(None, (96, 96))
    image.load()
    return to_rgb(ImageOps.exif_transpose(image)).convert("L")


def read_details(file: Path, side: int) -> Float32[ndarray, "z s s"]:
    """Reads the fine structure of a picture: a square thumbnail less its blurred self, at each zoom.

    What is smooth (a sky, a wall, the light of a room) is in many pictures of a set, and is taken away.

    Args:
        file: an image that can be decoded.
        side: of the thumbnails, pixels.
    """
    with open_image(file) as image:
        grey = small_grey(image)
    details = []
    for zoom in ZOOMS:
        left, top = grey.width * (1 - zoom) / 2, grey.height * (1 - zoom) / 2
        box = (left, top, grey.width - left, grey.height - top)
        thumbnail = grey.resize((side, side), Image.Resampling.LANCZOS, box=box)
        blurred = thumbnail.filter(ImageFilter.GaussianBlur(_BLUR))
        details.append(np.asarray(thumbnail, dtype=np.float32) - np.asarray(blurred, dtype=np.float32))
    return np.stack(details)


def similarity(first: Float32[ndarray, "n z s s"], second: Float32[ndarray, "n z s s"]) -> Float[ndarray, "n"]:
    """Correlates the fine structures of pairs of pictures, at the best of the zooms and shifts.

    Args:
        first: of the one picture of each pair, by ``read_details``.
        second: of the other.

    Returns:
        1 for the same picture, about 0 for two that have nothing in common.
    """
    tries = [_best_shift(first[:, 0], second[:, zoom]) for zoom in range(len(ZOOMS))]
    tries += [_best_shift(first[:, zoom], second[:, 0]) for zoom in range(1, len(ZOOMS))]
    best: Float[ndarray, "n"] = np.max(tries, axis=0)
    return best


def _best_shift(first: Float32[ndarray, "n s s"], second: Float32[ndarray, "n s s"]) -> Float[ndarray, "n"]:
    """Correlates at the best shift; the middle must agree as well as the whole, or frames alone would look alike."""
    number, side, _ = first.shape
    margin = side // _MARGIN
    window = slice(margin, side - margin)
    template = np.zeros_like(first)
    template[:, window, window] = first[:, window, window]
    shifts = np.arange(-margin, margin + 1)
    spectrum = np.conj(rfft2(template)) * rfft2(second)
    products = irfft2(spectrum, s=(side, side))[np.ix_(np.arange(number), shifts, shifts)]
    energy = (template**2).sum(axis=(1, 2))[:, None, None]
    correlations = _cosine(products, energy, _window_sums(second**2, side - 2 * margin), (side - 2 * margin) ** 2)
    best = correlations.reshape(number, -1).argmax(axis=1)
    down, right = best // len(shifts), best % len(shifts)  # counted from the shift of -margin
    middle = first[:, 2 * margin : -2 * margin, 2 * margin : -2 * margin]
    along = np.arange(side - 4 * margin) + margin
    moved = second[
        np.arange(number)[:, None, None], (along + down[:, None])[:, :, None], (along + right[:, None])[:, None, :]
    ]
    inner = _cosine(
        (middle * moved).sum(axis=(1, 2)),
        (middle**2).sum(axis=(1, 2)),
        (moved**2).sum(axis=(1, 2)),
        (side - 4 * margin) ** 2,
    )
    least: Float[ndarray, "n"] = np.minimum(correlations.reshape(number, -1)[np.arange(number), best], inner)
    return least


def _window_sums(values: Float32[ndarray, "n s s"], side: int) -> Float[ndarray, "n m m"]:
    """Sums every square window of a side."""
    sums = np.pad(values.astype(np.float64).cumsum(axis=1).cumsum(axis=2), ((0, 0), (1, 0), (1, 0)))
    windows: Float[ndarray, "n m m"] = sums[:, side:, side:] - sums[:, :-side, side:]
    windows += sums[:, :-side, :-side] - sums[:, side:, :-side]
    return windows


def _cosine(products: ndarray, energy: ndarray, other_energy: ndarray, num_pixels: int) -> ndarray:
    """Divides products by the sizes of their factors; structure below half a grey level of noise is like nothing."""
    noise = 0.25 * num_pixels
    cosine: ndarray = products / np.sqrt((energy + noise) * (np.maximum(other_energy, 0) + noise))
    return cosine
