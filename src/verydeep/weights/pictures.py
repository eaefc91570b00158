"""Drawn pictures on which two programs are compared."""

from typing import Final

import numpy as np
from PIL import Image, ImageDraw

_NUM_PICTURES: Final = 4


def drawn_pictures() -> list[Image.Image]:
    """A few pictures with edges, areas and noise, always the same."""
    pictures = []
    for seed in range(_NUM_PICTURES):
        random = np.random.default_rng(seed)
        coarse = Image.fromarray(random.integers(0, 256, (6, 8, 3), dtype=np.uint8))
        picture = coarse.resize((320, 240), Image.Resampling.BICUBIC)
        draw = ImageDraw.Draw(picture)
        for _ in range(30):
            left, top = (int(number) for number in random.integers(0, (300, 220)))
            width, height = (int(number) for number in random.integers(5, 90, 2))
            colour = tuple(int(number) for number in random.integers(0, 256, 3))
            shape = draw.rectangle if random.random() < 0.5 else draw.ellipse
            shape((left, top, left + width, top + height), fill=colour)
        noise = random.normal(0, 8, (240, 320, 3))
        pictures.append(Image.fromarray(np.clip(np.asarray(picture) + noise, 0, 255).astype(np.uint8)))
    return pictures
